"""The two training objectives.

Autoregressive: next-token cross-entropy on the answer and its EOS.

Diffusion: the network sees the clean sequence and ``NUM_COPIES`` noisy copies of its answer
blocks. A clean row attends to clean rows of its own and earlier blocks; a noisy row attends to
clean rows of earlier blocks and to its own block of its own copy. That is what it sees when it
decodes. Masked positions predict their own token; the fill after EOS counts for less. Optionally
the entropy of right predictions is added, which teaches the model to be sure of them.
Suffixes: B sequences, T rows, C copies, R rows of one copy, M masked rows, V vocabulary.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from .batches import BLOCK, NUM_COPIES, Batch
from .drafts import HOLE
from .model import TinyModel
from .tokenizer import MASK_ID

FILL_WEIGHT, SHORT = 0.2, 12
SUFFIX_SHARE, ALL_MASKED_SHARE = 0.5, 0.15
ALL_DRAFTED_SHARE, PART_DRAFTED_SHARE = 0.6, 0.1


def ar_loss(model: TinyModel, batch: Batch) -> tuple[Tensor, Tensor]:
    """Loss and token accuracy."""
    length = int(batch.answer_end_B.max())
    inputs_BT, targets_BT = batch.tokens_BT[:, : length - 1], batch.tokens_BT[:, 1:length]
    position_T = torch.arange(length - 1)
    causal = (position_T[:, None] >= position_T[None]).expand(len(inputs_BT), 1, -1, -1)
    first_row = int(batch.prompt_B.min()) - 1
    hidden = model(inputs_BT, batch.position_BT[:, : length - 1], causal, first_row=first_row)
    target_T, targets_BT = position_T[first_row:] + 1, targets_BT[:, first_row:]
    chosen_BT = (target_T >= batch.prompt_B[:, None]) & (target_T < batch.answer_end_B[:, None])
    logits_MV = model.lm_head(hidden[chosen_BT]).float()
    targets_M = targets_BT[chosen_BT]
    is_right_M = logits_MV.argmax(-1) == targets_M
    return F.cross_entropy(logits_MV, targets_M), is_right_M.float().mean()


def draw_masks(can_mask_BCR: Tensor, generator: torch.Generator) -> Tensor:
    """Which positions of each block are masked; at least one wherever one can be.

    A block is masked entirely (15 %), or from a random position on (half of the rest), or each
    position with a probability drawn for the block.
    """

    def uniform(*size: int) -> Tensor:
        return torch.rand(*size, generator=generator)

    blocks = can_mask_BCR.unflatten(-1, (-1, BLOCK))
    shape = blocks.shape[:-1]
    order = blocks.cumsum(-1) - 1  # rank among the positions that can be masked
    count = blocks.sum(-1, keepdim=True)
    is_suffix = order >= (uniform(*shape, 1) * count).floor()
    is_random = uniform(*blocks.shape) < uniform(*shape, 1)
    one = order == (uniform(*shape, 1) * count).floor()
    kind = uniform(*shape, 1)
    masked = torch.where(kind < SUFFIX_SHARE, is_suffix, is_random | one)
    all_masked = uniform(*shape, 1) < ALL_MASKED_SHARE
    return ((masked | all_masked) & blocks).flatten(-2)


@dataclass(frozen=True)
class Canvas:
    """The answer blocks of a batch: one copy of its rows, before noise."""

    position_BR: Tensor
    block_BR: Tensor
    target_BR: Tensor
    draft_BR: Tensor
    can_mask_BR: Tensor
    is_fill_BR: Tensor


def build_canvas(batch: Batch) -> Canvas:
    """Rows from the block in which the prompt ends to the end of the last block.

    Rows past the end of a shorter answer repeat the last position; they are never masked.
    """
    start_B1 = batch.prompt_B[:, None] // BLOCK * BLOCK
    num_rows = int((batch.filled_B[:, None] - start_B1).max())
    index_BR = start_B1 + torch.arange(num_rows)
    column_BR = index_BR.clamp_max(batch.tokens_BT.shape[1] - 1)
    is_answer_BR = (index_BR >= batch.prompt_B[:, None]) & (index_BR < batch.filled_B[:, None])
    return Canvas(
        position_BR=batch.position_BT.gather(1, column_BR),
        block_BR=index_BR // BLOCK,
        target_BR=batch.tokens_BT.gather(1, column_BR),
        draft_BR=batch.draft_BT.gather(1, column_BR),
        can_mask_BR=is_answer_BR,
        is_fill_BR=index_BR >= batch.answer_end_B[:, None],
    )


def draw_drafted(canvas: Canvas, masked_BCR: Tensor, generator: torch.Generator) -> Tensor:
    """Which positions show their draft: those of whole blocks, in the first copy.

    A server shows a block's draft in the block's first forward alone. So six blocks of ten that
    have a draft show all of it, one shows it where the noise has masked nothing.
    """
    is_drafted_BR = (canvas.draft_BR != HOLE) & canvas.can_mask_BR
    kind = torch.rand(*is_drafted_BR.shape, generator=generator)[:, ::BLOCK]
    kind_BR = kind.repeat_interleave(BLOCK, dim=1)
    drafted_BCR = torch.zeros_like(masked_BCR)
    drafted_BCR[:, 0] = is_drafted_BR & (
        (kind_BR < ALL_DRAFTED_SHARE)
        | ((kind_BR < ALL_DRAFTED_SHARE + PART_DRAFTED_SHARE) & ~masked_BCR[:, 0])
    )
    return drafted_BCR


def noisy_hidden(
    model: TinyModel,
    batch: Batch,
    canvas: Canvas,
    masked_BCR: Tensor,
    drafted_BCR: Tensor | None = None,
) -> Tensor:
    """Hidden states of the noisy copies, [B, C, R, D]."""
    batch_size, num_copies, num_rows = masked_BCR.shape
    num_clean = batch.tokens_BT.shape[1] - BLOCK  # nothing attends to the last block
    noisy_BCR = torch.where(masked_BCR, MASK_ID, canvas.target_BR[:, None])
    if drafted_BCR is not None:
        noisy_BCR = torch.where(drafted_BCR, canvas.draft_BR[:, None], noisy_BCR)
    clean_BT = torch.arange(num_clean).expand(batch_size, -1)
    tokens_BT = torch.cat((batch.tokens_BT[:, :num_clean], noisy_BCR.flatten(1)), dim=1)
    positions_BT = torch.cat(
        (batch.position_BT[:, :num_clean], canvas.position_BR.repeat(1, num_copies)), dim=1
    )
    block_BT = torch.cat((clean_BT // BLOCK, canvas.block_BR.repeat(1, num_copies)), dim=1)
    sizes = torch.tensor([num_clean] + [num_rows] * num_copies)
    copy_T = torch.arange(num_copies + 1).repeat_interleave(sizes)  # 0: the clean stream
    is_earlier = block_BT[:, :, None] > block_BT[:, None]
    is_same = block_BT[:, :, None] == block_BT[:, None]
    mask = (is_earlier & (copy_T == 0)) | (is_same & (copy_T[:, None] == copy_T))
    hidden = model(tokens_BT, positions_BT, mask[:, None], first_row=num_clean)
    return hidden.unflatten(1, (num_copies, num_rows))


def diffusion_loss(
    model: TinyModel, batch: Batch, generator: torch.Generator, entropy_weight: float
) -> tuple[Tensor, Tensor]:
    """Loss and token accuracy on the masked positions, and on those that show a draft."""
    canvas = build_canvas(batch)
    masked_BCR = draw_masks(canvas.can_mask_BR[:, None].expand(-1, NUM_COPIES, -1), generator)
    drafted_BCR = draw_drafted(canvas, masked_BCR, generator)
    hidden = noisy_hidden(model, batch, canvas, masked_BCR, drafted_BCR)
    masked_BCR = masked_BCR | drafted_BCR
    logits_MV = model.lm_head(hidden[masked_BCR]).float()
    targets_M = canvas.target_BR[:, None].expand_as(masked_BCR)[masked_BCR]
    is_fill_M = canvas.is_fill_BR[:, None].expand_as(masked_BCR)[masked_BCR]
    # An answer of one token has as much to say as one of ``SHORT`` tokens.
    num_answer_B = batch.answer_end_B - batch.prompt_B
    short_BCR = (SHORT / num_answer_B).clamp_min(1.0)[:, None, None].expand_as(masked_BCR)
    weight_M = torch.where(is_fill_M, FILL_WEIGHT, short_BCR[masked_BCR])
    log_prob_MV = logits_MV.log_softmax(-1)
    loss_M = F.nll_loss(log_prob_MV, targets_M, reduction="none")
    is_right_M = logits_MV.argmax(-1) == targets_M
    if entropy_weight:
        entropy_M = -(log_prob_MV.exp() * log_prob_MV).sum(-1)
        loss_M = loss_M + entropy_weight * entropy_M * is_right_M
    accuracy = (is_right_M & ~is_fill_M).sum() / (~is_fill_M).sum().clamp_min(1)
    return (loss_M * weight_M).sum() / weight_M.sum(), accuracy
