"""Reference decoding in plain torch, batched over prompts.

``generate_blocks`` denoises aligned blocks left to right: each step accepts every masked position
whose probability exceeds the threshold, and always the most confident one. Only positions up to
the first predicted EOS are considered. A block is finished when no mask is left, or when an
accepted EOS has no mask before it. Finished tokens go through the network once more (commit) so
that later blocks see them. ``generate_tokens`` is greedy next-token decoding.
Suffixes: B sequences, T rows, S cache positions, L rows of a block, V vocabulary.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from .batches import BLOCK
from .drafts import HOLE, next_place
from .model import Cache, TinyModel
from .tokenizer import EOS_ID, MASK_ID, PAD_ID

NEVER = 2.0  # a threshold no probability exceeds: one token a step


@dataclass
class Generated:
    """The answers without EOS, and per answer the forwards and the tokens (with EOS)."""

    answers: list[list[int]]
    num_steps: Tensor
    num_tokens: Tensor

    @property
    def tokens_per_step(self) -> float:
        """Mean over the whole set, commits not counted."""
        return float(self.num_tokens.sum() / self.num_steps.sum())


def _pad(prompts: list[list[int]], length: int) -> Tensor:
    return torch.tensor([prompt + [PAD_ID] * (length - len(prompt)) for prompt in prompts])


def _start_cache(
    model: TinyModel, prompts: list[list[int]], num_positions: int, block: int
) -> Cache:
    """Prefill with attention to the own and earlier blocks (``block`` 1: causal)."""
    dtype = model.lm_head.weight.dtype
    cache = Cache(model.shape, len(prompts), num_positions, dtype)
    longest = max(map(len, prompts))
    position_T, position_S = torch.arange(longest), torch.arange(num_positions)
    mask_TS = position_T[:, None] // block >= position_S // block
    tokens_BT = _pad(prompts, longest)
    positions_BT = position_T.expand_as(tokens_BT)
    model(tokens_BT, positions_BT, mask_TS.expand(len(prompts), 1, -1, -1), cache)
    return cache


def _cut(tokens_BT: Tensor, prompts: list[list[int]], num_steps_B: Tensor) -> Generated:
    answers = []
    for row, prompt in zip(tokens_BT.tolist(), prompts, strict=True):
        answer = row[len(prompt) :]
        answers.append(answer[: answer.index(EOS_ID)] if EOS_ID in answer else answer)
    return Generated(answers, num_steps_B, torch.tensor([len(answer) + 1 for answer in answers]))


def accept(
    logits_BLV: Tensor, tokens_BL: Tensor, is_answer_BL: Tensor, threshold: float
) -> tuple[Tensor, Tensor]:
    """Predictions, and which of them to keep."""
    logits_BLV[..., MASK_ID] = float("-inf")
    confidence_BL, predicted_BL = logits_BLV.float().softmax(-1).max(-1)
    masked_BL = tokens_BL == MASK_ID
    # Nothing after an EOS matters, be it accepted or only predicted.
    is_eos_BL = is_answer_BL & (torch.where(masked_BL, predicted_BL, tokens_BL) == EOS_ID)
    is_candidate_BL = masked_BL & (is_eos_BL.cumsum(1) - is_eos_BL.int() == 0)
    confidence_BL = confidence_BL.where(is_candidate_BL, torch.tensor(-1.0))
    is_best_BL = torch.arange(BLOCK) == confidence_BL.argmax(1, keepdim=True)
    return predicted_BL, is_candidate_BL & ((confidence_BL > threshold) | is_best_BL)


class Drafts:
    """The drafts of a batch, and where in each of them its text goes on."""

    def __init__(self, drafts: list[list[int]], prompts: list[list[int]]) -> None:
        self.drafts, self.prompts = drafts, prompts
        self.places = [0] * len(drafts)
        self.ends = [len(prompt) for prompt in prompts]

    def lay(self, tokens_BT: Tensor, start_B: Tensor, begins_B: Tensor) -> Tensor:
        """Draft tokens of the blocks that begin, HOLE elsewhere, [B, L]."""
        laid_BL = torch.full((len(self.drafts), BLOCK), HOLE)
        for row in begins_B.nonzero()[:, 0].tolist():
            prompt, draft = len(self.prompts[row]), self.drafts[row]
            start = max(prompt, int(start_B[row]))
            if not draft:
                continue
            text = tokens_BT[row, prompt:start].tolist()
            expected = self.places[row] + start - self.ends[row]
            self.places[row] = next_place(text, draft, expected) if text else 0
            self.ends[row] = start
            offset = start - int(start_B[row])
            piece = draft[self.places[row] : self.places[row] + BLOCK - offset]
            laid_BL[row, offset : offset + len(piece)] = torch.tensor(piece, dtype=torch.long)
        return laid_BL


def keep_drafted(logits_BLV: Tensor, laid_BL: Tensor, threshold: float) -> Tensor:
    """Which draft tokens stay: those that are as probable as the threshold asks."""
    probs_BLV = logits_BLV.float().softmax(-1)
    prob_BL = probs_BLV.gather(2, laid_BL.clamp_min(0)[..., None])[..., 0]
    return (laid_BL != HOLE) & (prob_BL >= threshold)


@torch.inference_mode()
def generate_blocks(
    model: TinyModel,
    prompts: list[list[int]],
    threshold: float,
    max_tokens: int = 144,
    drafts: list[list[int]] | None = None,
) -> Generated:
    """Block-diffusion decoding of a batch, from drafts where there are some."""
    laid_by = Drafts(drafts or [[] for _ in prompts], prompts)
    begins_B = torch.ones(len(prompts), dtype=torch.bool)
    num_positions = -(-(max(map(len, prompts)) + max_tokens) // BLOCK) * BLOCK
    cache = _start_cache(model, prompts, num_positions, BLOCK)
    tokens_BT = _pad(prompts, num_positions)
    length_B = torch.tensor([len(prompt) for prompt in prompts])
    is_answer_BT = torch.arange(num_positions) >= length_B[:, None]
    tokens_BT[is_answer_BT] = MASK_ID
    start_B = length_B // BLOCK * BLOCK
    num_steps_B = torch.zeros(len(prompts), dtype=torch.long)
    is_done_B = torch.zeros(len(prompts), dtype=torch.bool)
    while not is_done_B.all():
        position_BL = start_B[:, None] + torch.arange(BLOCK)
        tokens_BL = tokens_BT.gather(1, position_BL)
        needs_step_B = (tokens_BL == MASK_ID).any(1) & ~is_done_B
        laid_BL = laid_by.lay(tokens_BT, start_B, begins_B & needs_step_B)
        begins_B = torch.zeros_like(begins_B)
        mask_BTS = torch.arange(num_positions) < (start_B + BLOCK)[:, None, None]
        mask = mask_BTS[:, None].expand(-1, 1, BLOCK, -1)
        shown_BL = torch.where(laid_BL == HOLE, tokens_BL, laid_BL)
        logits_BLV = model.lm_head(model(shown_BL, position_BL, mask, cache))
        predicted_BL, accepted_BL = accept(
            logits_BLV, shown_BL, is_answer_BT.gather(1, position_BL), threshold
        )
        # The best of all is taken where nothing is drafted: a draft has its own rule.
        accepted_BL &= (laid_BL == HOLE).all(1, keepdim=True) | (shown_BL == MASK_ID)
        tokens_BL = torch.where(keep_drafted(logits_BLV, laid_BL, threshold), laid_BL, tokens_BL)
        accepted_BL &= needs_step_B[:, None]
        tokens_BT.scatter_(1, position_BL, torch.where(accepted_BL, predicted_BL, tokens_BL))
        num_steps_B += needs_step_B
        # A forward without masks was a commit: go to the next block.
        is_committed_B = ~needs_step_B & ~is_done_B
        start_B = torch.where(is_committed_B, start_B + BLOCK, start_B)
        begins_B |= is_committed_B
        is_eos_BT = (tokens_BT == EOS_ID) & is_answer_BT
        is_masked_BT = (tokens_BT == MASK_ID) & is_answer_BT
        is_done_B |= (is_eos_BT & (is_masked_BT.cumsum(1) == 0)).any(1)
        is_done_B |= start_B >= num_positions
        start_B = start_B.clamp_max(num_positions - BLOCK)
    return _cut(tokens_BT, prompts, num_steps_B)


@torch.inference_mode()
def generate_tokens(model: TinyModel, prompts: list[list[int]], max_tokens: int = 144) -> Generated:
    """Greedy next-token decoding of a batch."""
    num_positions = max(map(len, prompts)) + max_tokens
    cache = _start_cache(model, prompts, num_positions, 1)
    tokens_BT = _pad(prompts, num_positions)
    length_B = torch.tensor([len(prompt) for prompt in prompts])
    position_B1 = length_B[:, None] - 1
    num_steps_B = torch.zeros(len(prompts), dtype=torch.long)
    is_done_B = torch.zeros(len(prompts), dtype=torch.bool)
    for _ in range(max_tokens):
        mask_BTS = torch.arange(num_positions) <= position_B1[:, :, None]
        hidden = model(tokens_BT.gather(1, position_B1), position_B1, mask_BTS[:, None], cache)
        logits_B1V = model.lm_head(hidden)
        logits_B1V[..., MASK_ID] = float("-inf")
        position_B1 = position_B1 + 1
        tokens_BT.scatter_(1, position_B1, logits_B1V.argmax(-1))
        num_steps_B += ~is_done_B
        is_done_B |= logits_B1V.argmax(-1)[:, 0] == EOS_ID
        if is_done_B.all():
            break
    return _cut(tokens_BT, prompts, num_steps_B)
