"""Where a draft lies on the canvas: block by block, from where the text before has left it.

A server lays the draft of a block on the canvas when the block begins. Text that has been inserted
or left out shifts the rest of the draft, so each block begins in the draft where the text before it
ends. Training knows both texts and aligns them; ``HOLE`` is where a block has no draft.
"""

from difflib import SequenceMatcher
from random import Random

from .tokenizer import EOS_ID

HOLE = -1
CONTEXT, REACH = 8, 48
SHIFT_SHARE, NO_END_SHARE = 0.06, 0.5


def draft_starts(answer: list[int], draft: list[int], starts: list[int]) -> list[int]:
    """Where in the draft the text goes on at each of ``starts`` of the answer."""
    matcher = SequenceMatcher(None, answer, draft, autojunk=False)
    places = []
    for start in starts:
        place = 0
        for _, first, last, draft_first, draft_last in matcher.get_opcodes():
            if first <= start < last or start >= last:
                place = min(draft_first + start - first, draft_last) if start < last else draft_last
        places.append(place)
    return places


def lay_draft(
    answer: list[int], draft: list[int], num_prompt: int, block: int, rng: Random
) -> list[int]:
    """A draft token or ``HOLE`` for each position from the prompt's end to the last block's.

    Some blocks are shifted by a token or two. Half of the drafts say where they end, with EOS.
    """
    end = -(-(num_prompt + len(answer)) // block) * block - num_prompt
    starts = [0, *range(block - num_prompt % block, end, block)]
    ended = draft + [HOLE if rng.random() < NO_END_SHARE else EOS_ID] * (2 * block)
    laid: list[int] = []
    for start, place in zip(starts, draft_starts(answer, draft, starts), strict=True):
        stop = next((other for other in starts if other > start), end)
        if rng.random() < SHIFT_SHARE:
            place = max(0, place + rng.choice((-2, -1, 1, 2)))
        laid += (ended[place : place + stop - start] + [HOLE] * block)[: stop - start]
    return laid


def next_place(text: list[int], draft: list[int], expected: int) -> int:
    """Where in the draft a decoded text goes on.

    The longest end of the text, of up to ``CONTEXT`` tokens, that the draft has within ``REACH`` of
    the expected place; the nearest one of equals.
    """
    places = range(max(1, expected - REACH), min(len(draft), expected + REACH) + 1)

    def agreement(place: int) -> tuple[int, int]:
        length = 0
        while length < min(CONTEXT, place, len(text)) and (
            draft[place - 1 - length] == text[-1 - length]
        ):
            length += 1
        return length, -abs(place - expected)

    best = max(places, key=agreement, default=expected)
    return best if places and agreement(best)[0] else expected
