"""Where in its draft a text goes on: against a loop over places, and at the borders."""

from random import Random

import numpy as np
import torch

from tests.parity.references.seeded import goes_on
from vllm_diffusion.batch.places import Places
from vllm_diffusion.denoise.following import CONTEXT, NOTHING, next_place, next_tail, window_at


def place_of(text: list[int], draft: list[int], expected: int) -> int:
    tail = ([NOTHING] * CONTEXT + text)[-CONTEXT:]
    window = [
        draft[at] if 0 <= at < len(draft) else -1
        for at in window_at(torch.tensor([expected]))[0].tolist()
    ]
    return int(next_place(torch.tensor([window]), torch.tensor([tail]), torch.tensor([expected])))


def test_random_texts_equal_the_loop() -> None:
    rng = Random(0)
    for _ in range(600):
        draft = [rng.randrange(rng.choice((3, 9, 60))) for _ in range(rng.randint(1, 300))]
        cut = rng.randint(0, len(draft))
        text = draft[:cut]
        for _ in range(rng.randint(0, 4)):
            at = rng.randint(0, len(text))
            text[at : at + rng.randint(0, 3)] = [rng.randrange(9) for _ in range(rng.randint(0, 3))]
        expected = cut + rng.randint(-150, 150)
        if not -128 <= expected <= len(draft) + 128:
            continue
        assert place_of(text, draft, expected) == goes_on(text, draft, expected)


def test_what_is_put_in_and_left_out_moves_the_rest() -> None:
    draft = list(range(100, 200))
    assert place_of([*draft[:20], 1, 2, 3, *draft[20:30]], draft, 33) == 30
    assert place_of([*draft[:20], *draft[60:70]], draft, 30) == 70
    assert place_of(draft[:16], draft, 16) == 16
    assert place_of([], draft, 0) == 0
    assert place_of(draft, draft, 100) == 100


def test_a_place_far_behind_the_draft_stays() -> None:
    """Nothing exists there; the place is then no matter, but it is one."""
    assert place_of([5, 6], [1, 2], 400) in range(400 - 128, 400 + 129)


def test_tails_grow_by_what_is_emitted() -> None:
    tail = torch.full((2, CONTEXT), NOTHING)
    tokens = torch.arange(20).view(2, 10)
    tail = next_tail(tail, tokens, torch.tensor([10, 0]))
    assert tail.tolist() == [list(range(2, 10)), [NOTHING] * CONTEXT]
    tail = next_tail(tail, tokens, torch.tensor([3, 4]))
    assert tail[0].tolist() == [5, 6, 7, 8, 9, 0, 1, 2]
    assert tail[1].tolist() == [NOTHING] * 4 + [10, 11, 12, 13]


def test_a_start_in_the_middle_is_where_the_steps_have_got_to() -> None:
    """A request that is preempted goes on as if it had not been."""
    rng = Random(3)
    for _ in range(40):
        draft = np.array([rng.randrange(12) for _ in range(120)])
        text = draft.tolist()
        for _ in range(5):
            at = rng.randint(0, len(text) - 4)
            text[at : at + rng.randint(0, 3)] = [
                rng.randrange(12) for _ in range(rng.randint(0, 5))
            ]
        widths = [rng.randint(1, 16), *[16] * 5]
        blocks, at = [], 0
        for width in widths:
            blocks.append(text[at : at + width])
            at += width
        blocks = [block for block in blocks if block]
        device = torch.device("cpu")
        stepped = Places(1)
        stepped.start(0, draft, [], device)

        def draft_at(slot, place, draft=draft):
            inside = (place >= 0) & (place < len(draft))
            return torch.where(inside, torch.from_numpy(draft)[place.clamp(0, len(draft) - 1)], -1)

        slot = torch.tensor([0])
        for block in blocks:
            tokens = torch.tensor([block + [0] * (16 - len(block))])
            stepped.move(draft_at, slot, tokens, torch.tensor([0]))  # a step that emits nothing
            stepped.move(draft_at, slot, tokens, torch.tensor([len(block)]))
        started = Places(1)
        assert started.start(0, draft, blocks, device) == int(stepped.place_S[0])
        assert torch.equal(started.tail_SC, stepped.tail_SC)
