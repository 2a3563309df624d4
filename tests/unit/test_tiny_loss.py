"""Training sees what decoding sees: both paths give the same hidden states."""

import torch

from benchmarks.tiny.batches import BLOCK, Encoded, collate
from benchmarks.tiny.decode import _start_cache
from benchmarks.tiny.loss import build_canvas, draw_masks, noisy_hidden
from benchmarks.tiny.model import Shape, TinyModel
from benchmarks.tiny.tokenizer import MASK_ID


def make_model() -> TinyModel:
    torch.manual_seed(0)
    shape = Shape(hidden_size=32, intermediate_size=48, num_hidden_layers=2, head_dim=8)
    model = TinyModel(shape)
    for param in model.parameters():
        param.data += 0.2 * torch.randn_like(param)
    return model


@torch.no_grad()
def test_noisy_blocks_match_cached_decoding() -> None:
    model = make_model()
    lengths = [(5, 30), (16, 20), (37, 9), (20, 44)]
    items = [Encoded(list(range(10, 10 + p)), list(range(60, 60 + a))) for p, a in lengths]
    batch = collate(items)
    canvas = build_canvas(batch)
    masked = draw_masks(
        canvas.can_mask_BR[:, None].expand(-1, 2, -1), torch.Generator().manual_seed(1)
    )
    hidden = noisy_hidden(model, batch, canvas, masked)
    for i, item in enumerate(items):
        tokens = batch.tokens_BT[i, : item.filled_length]
        first = len(item.prompt) // BLOCK * BLOCK
        for copy in range(2):
            for start in range(first, item.filled_length, BLOCK):
                cache = _start_cache(model, [tokens[:start].tolist() or [0]], 96, BLOCK)
                rows = slice(start - first, start - first + BLOCK)
                noisy = torch.where(masked[i, copy, rows], MASK_ID, tokens[start : start + BLOCK])
                position = torch.arange(start, start + BLOCK)[None]
                mask = (torch.arange(96) < start + BLOCK).expand(1, 1, BLOCK, -1)
                expected = model(noisy[None], position, mask, cache)[0]
                torch.testing.assert_close(hidden[i, copy, rows], expected, atol=1e-4, rtol=1e-4)


def test_masks_touch_only_what_they_may() -> None:
    can_mask = torch.rand(50, 2, 64) < 0.6
    masked = draw_masks(can_mask, torch.Generator().manual_seed(0))
    assert not (masked & ~can_mask).any()
    blocks = can_mask.unflatten(-1, (-1, BLOCK)).any(-1)
    assert torch.equal(masked.unflatten(-1, (-1, BLOCK)).any(-1), blocks)
