"""Words that the output must not hold, under parallel refinement.

Tokens are accepted in any order and several at once, so looking at the tokens before a position
is not enough. Two rules keep every word out:

    forbid     before the step: a token that would complete a word with tokens that are settled,
               before it or behind it, the last emitted ones included
    take back  after acceptance: where the step's changes together complete a word, one change of
               that word is undone, the least sure of it

No word is complete after a step: one with a single change in it was forbidden, and one with more
has lost one. And every step still accepts something: let t be the surest change (earlier ones
first among equals). It is undone only if it is the least sure change of some completed word. That
word has at least two changes in it, and t is not the least sure of any two. So with one acceptance
a step at the least, a block of L positions takes at most L steps, as without bad words.

An undone edit would bring a token back, which may complete another word. So in a canvas that edits
in this step and completes a word, the surest change alone stays, acceptances before edits: it was
forbidden to complete anything on its own, and while masks are left it is an acceptance.

Single tokens are words of one token, which are forbidden everywhere. Words count in the output
alone, as in vLLM: not where they begin in the prompt.

Shape suffixes: B requests, C context, L canvas length, W words, K tokens of the longest word,
S = C + L places where a word may start, N rows of logits, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from vllm_diffusion.batch.device import SlotArray, slot_array, to_device
from vllm_diffusion.batch.slot_lists import SlotLists
from vllm_diffusion.denoise.step import Changes, StepRule
from vllm_diffusion.sampling.base import LogitsOp, SlotState
from vllm_diffusion.sampling.rows import asked_rows, forbid

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from vllm.sampling_params import SamplingParams

    from vllm_diffusion.batch.canvases import Canvases

ANY = -1
"""Fills words up to the length of the longest; a row of it is no word."""
NONE = -2
"""No output token: masked, or of the prompt, or beyond the canvas."""


@dataclass(frozen=True)
class BadWords(StepRule):
    """Of the requests of a step, some of which have any."""

    words_BWK: Tensor
    """int64. Padded with ``ANY`` at the end."""
    context_BC: Tensor
    """int64, C = K - 1. The output tokens right before the canvas; ``NONE`` where there is none."""

    def change(self, changes: Changes) -> Changes:
        """Take back."""
        accepted_BL, edited_BL = take_back(
            self,
            changes.tokens_BL,
            changes.settled_BL,
            changes.candidates.token_BL,
            changes.candidates.prob_BL,
            changes.accepted_BL,
            changes.edited_BL,
        )
        return replace(changes, accepted_BL=accepted_BL, edited_BL=edited_BL)


def _places(line_BT: Tensor, num_before: int, length: int, fill: int) -> Tensor:
    """The K entries from each place on, (B, S, K), of a line that ``fill`` goes on behind."""
    behind_BC = line_BT.new_full((len(line_BT), num_before), fill)
    return torch.cat((line_BT, behind_BC), dim=1).unfold(1, length, 1)


def _differs(words: BadWords, tokens_BL: Tensor) -> Tensor:
    """bool (B, W, S, K): the word's token is not the output's at that place."""
    length = words.words_BWK.shape[2]
    line_BT = torch.cat((words.context_BC, tokens_BL), dim=1)
    there_B1SK = _places(line_BT, length - 1, length, NONE)[:, None]
    words_BW1K = words.words_BWK[:, :, None]
    return (words_BW1K != there_B1SK) & (words_BW1K != ANY)


def forbidden(words: BadWords, tokens_BL: Tensor, settled_BL: Tensor) -> tuple[Tensor, ...]:
    """Tokens that would complete a word on their own.

    Args:
        words: of the requests.
        tokens_BL: int64 (B, L), the canvases.
        settled_BL: bool (B, L), where their tokens count.

    Returns:
        bool, int64 and int64 (B, W * S): whether there is such a token, the canvas position where
        it may not come, and the token. Where there is none the latter mean nothing.
    """
    differs_BWSK = _differs(words, torch.where(settled_BL, tokens_BL, NONE))
    index_BWS = differs_BWSK.int().argmax(dim=-1)
    num_places, length = differs_BWSK.shape[2:]
    start_S = torch.arange(num_places, device=tokens_BL.device) - (length - 1)
    position_BWS = start_S + index_BWS
    token_BWS = words.words_BWK.gather(2, index_BWS)
    is_word_BW1 = (words.words_BWK[:, :, 0] != ANY)[:, :, None]
    is_forbidden_BWS = is_word_BW1 & (differs_BWSK.sum(dim=-1) == 1)
    is_forbidden_BWS &= (position_BWS >= 0) & (position_BWS < tokens_BL.shape[1])
    return is_forbidden_BWS.flatten(1), position_BWS.flatten(1), token_BWS.flatten(1)


def take_back(
    words: BadWords,
    tokens_BL: Tensor,
    settled_BL: Tensor,
    candidate_BL: Tensor,
    prob_BL: Tensor,
    accepted_BL: Tensor,
    edited_BL: Tensor | None = None,
) -> tuple[Tensor, Tensor | None]:
    """Undo as few of a step's changes as keep every word out.

    Args:
        words: of the requests.
        tokens_BL: int64 (B, L), the canvases before the step.
        settled_BL: bool (B, L), settled before the step.
        candidate_BL: int64 (B, L), from logits without the ``forbidden`` tokens.
        prob_BL: float32 (B, L), of the candidates.
        accepted_BL: bool (B, L), masked positions that the step would accept.
        edited_BL: bool (B, L), settled ones that it would edit, if anybody edits.

    Returns:
        What stays of the last two.
    """
    changed_BL = accepted_BL if edited_BL is None else accepted_BL | edited_BL
    after_BL = torch.where(changed_BL, candidate_BL, tokens_BL)
    after_BL = torch.where(settled_BL | accepted_BL, after_BL, NONE)
    is_word_BW1 = (words.words_BWK[:, :, 0] != ANY)[:, :, None]
    is_hit_BWS = is_word_BW1 & ~_differs(words, after_BL).any(dim=-1)
    rank_BL = _ranks(prob_BL + 2.0 * accepted_BL, changed_BL)

    # The change of the highest rank in each completed word.
    length = words.words_BWK.shape[2]
    line_BT = torch.cat((torch.full_like(words.context_BC, -1), rank_BL), dim=1)
    rank_B1SK = _places(line_BT, length - 1, length, -1)[:, None]
    in_word_BW1K = (words.words_BWK != ANY)[:, :, None]
    worst_BWS = torch.where(in_word_BW1K, rank_B1SK, -1).argmax(dim=-1)
    start_S = torch.arange(worst_BWS.shape[2], device=tokens_BL.device) - (length - 1)
    num_positions = tokens_BL.shape[1]
    # One column more, for the places without a completed word.
    position_BWS = torch.where(is_hit_BWS, start_S + worst_BWS, num_positions)
    undone_BL = torch.zeros(
        len(tokens_BL), num_positions + 1, dtype=torch.bool, device=tokens_BL.device
    ).scatter_(1, position_BWS.flatten(1), True)[:, :num_positions]
    if edited_BL is None:
        return accepted_BL & ~undone_BL, None
    is_alone_B = is_hit_BWS.flatten(1).any(dim=-1) & edited_BL.any(dim=-1)
    undone_BL = torch.where(is_alone_B[:, None], rank_BL > 0, undone_BL)
    return accepted_BL & ~undone_BL, edited_BL & ~undone_BL


def _ranks(score_BL: Tensor, changed_BL: Tensor) -> Tensor:
    """int64 (B, L): 0 for the best change, the leftmost of equals first; -1 for no change."""
    order_BL = torch.where(changed_BL, score_BL, -torch.inf).argsort(
        dim=-1, descending=True, stable=True
    )
    rank_L = torch.arange(score_BL.shape[1], device=score_BL.device)
    rank_BL = torch.empty_like(order_BL).scatter_(1, order_BL, rank_L.expand_as(order_BL))
    return torch.where(changed_BL, rank_BL, -1)


class SlotWords:
    """Words of several tokens by slot. S slots, Q slots asked for."""

    def __init__(self, num_slots: int) -> None:
        self.num_S: NDArray[np.int64] = np.zeros(num_slots, dtype=np.int64)
        self.values: SlotArray | None = None
        self._is_stale = False

    def write(self, slot: int, words: Sequence[Sequence[int]]) -> None:
        """Replace the slot's words."""
        self.num_S[slot] = len(words)
        if words:
            self._make_room(len(words), max(map(len, words)))
        if self.values is not None:
            self.values.np[slot] = ANY
            for index, word in enumerate(words):
                self.values.np[slot, index, : len(word)] = word
            self._is_stale = True

    def _make_room(self, num_words: int, length: int) -> None:
        old = np.zeros((len(self.num_S), 0, 0)) if self.values is None else self.values.np
        if num_words <= old.shape[1] and length <= old.shape[2]:
            return
        shape = (len(old), max(num_words, old.shape[1]), max(length, old.shape[2]))
        self.values = slot_array(shape, torch.int64)
        self.values.np.fill(ANY)
        self.values.np[:, : old.shape[1], : old.shape[2]] = old

    def copy_to_device(self) -> None:
        """Make what was written visible to the next step."""
        if self.values is not None and self._is_stale:
            self.values.copy_to_uva()
            self._is_stale = False

    def of(self, slot_Q: Tensor) -> Tensor:
        """int64 (Q, W, K); some slot has words."""
        assert self.values is not None
        return self.values.gpu[slot_Q]


class BadWordsOp(LogitsOp):
    def __init__(self, slots: SlotState) -> None:
        self.params, self.req_states, self.canvas = slots.params, slots.req_states, slots.canvas
        self.asks_S = np.zeros(slots.num_slots, dtype=np.bool_)
        self.single = SlotLists(slots.num_slots)
        self.words = SlotWords(slots.num_slots)

    def add(self, slot: int, sampling: SamplingParams) -> None:
        words = [list(map(int, word)) for word in sampling.bad_words_token_ids or ()]
        self.single.write(slot, [word[0] for word in words if len(word) == 1])
        self.words.write(slot, [word for word in words if len(word) > 1])
        self.asks_S[slot] = bool(words)

    def copy_to_device(self) -> None:
        self.single.copy_to_device()
        self.words.copy_to_device()

    def apply(self, logits_NV: Tensor, batch: Canvases) -> None:
        rows = asked_rows(batch, self.single.length_S > 0, logits_NV.device)
        if rows is not None:
            ids_PK = self.single.of(rows.slot_Q)[rows.request_P]
            forbid(logits_NV, rows.row_P[:, None], ids_PK)
        if (words := self.rule(batch)) is not None:
            self._forbid_words(logits_NV, batch, words)

    def _forbid_words(self, logits_NV: Tensor, batch: Canvases, words: BadWords) -> None:
        host = np.stack((batch.slot_B, batch.row_start_B, batch.num_rows_B))
        slot_B, row_start_B, num_rows_B = to_device(host, logits_NV.device).unbind(0)
        is_forbidden_BX, position_BX, token_BX = forbidden(
            words, self.canvas.tokens_SL[slot_B], ~self.canvas.masked_SL[slot_B]
        )
        is_forbidden_BX = is_forbidden_BX & (position_BX < num_rows_B[:, None])
        offset_BX = torch.where(is_forbidden_BX, position_BX, 0)
        token_BX = torch.where(is_forbidden_BX, token_BX, self.canvas.mask_id)
        forbid(logits_NV, row_start_B[:, None] + offset_BX, token_BX)

    def has_rule(self, slot: int) -> bool:
        return bool(self.words.num_S[slot])

    def rule(self, batch: Canvases) -> BadWords | None:
        """The words of several tokens of the step's requests, where any has some."""
        if not self.words.num_S[batch.slot_B].any():
            return None
        device = self.canvas.tokens_SL.device
        host = np.stack((batch.slot_B, self.params.prompt_len[batch.slot_B]))
        slot_B, prompt_len_B = to_device(host, device).unbind(0)
        words_BWK = self.words.of(slot_B)
        before_C = torch.arange(1 - words_BWK.shape[2], 0, device=device)
        position_BC = self.req_states.total_len.gpu[slot_B].long()[:, None] + before_C
        all_ids: Any = self.req_states.all_token_ids.gpu
        context_BC = all_ids[slot_B[:, None], position_BC.clamp(min=0)].long()
        is_output_BC = position_BC >= prompt_len_B[:, None]
        return BadWords(words_BWK, torch.where(is_output_BC, context_BC, NONE))
