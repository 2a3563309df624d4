"""LoRA's products on the CPU, against plain loops; rows without an adapter beside others."""

from __future__ import annotations

from importlib.metadata import version

import pytest
import torch
from packaging.version import Version

pytest.importorskip("vllm", reason="the products stand in for vLLM's")

from vllm_diffusion.cpu import adapters

SLOTS = torch.tensor([2, -1, 0, 0, -1, 2])


def weights(rows: int, columns: int) -> torch.Tensor:
    """Of three adapters, (slots, 1, rows, columns)."""
    return torch.randn(3, 1, rows, columns, generator=torch.Generator().manual_seed(0))


def inputs(columns: int) -> torch.Tensor:
    return torch.randn(len(SLOTS), columns, generator=torch.Generator().manual_seed(1))


def expected(x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
    """A loop over the rows."""
    zero = torch.zeros(w.shape[-2])
    return torch.stack([w[s, 0] @ row if s >= 0 else zero for row, s in zip(x, SLOTS, strict=True)])


def test_shrink() -> None:
    x, w = inputs(5), weights(4, 5)
    output = torch.full((len(SLOTS), 6), 7.0)
    adapters.bgmv_shrink(x, w, output, SLOTS, 0.5)
    torch.testing.assert_close(output[:, :4], 0.5 * expected(x, w))
    assert output[:, 4:].eq(7).all()
    assert not output[SLOTS < 0, :4].any()


@pytest.mark.parametrize("width", [4, 6, 9])
@pytest.mark.parametrize("adds", [True, False])
def test_expand(width: int, adds: bool) -> None:
    """Where the model's rows are as wide as the adapter's, narrower, and wider."""
    x, w = inputs(3), weights(6, 3)
    output = torch.ones(len(SLOTS), width)
    adapters.bgmv_expand(x, w, output, SLOTS, adds)
    common = min(width, 6)
    torch.testing.assert_close(output[:, :common], expected(x, w)[:, :common] + adds)
    assert output[:, common:].eq(1).all()


@pytest.mark.parametrize("adds", [True, False])
def test_expand_a_slice(adds: bool) -> None:
    x, w = inputs(3), weights(4, 3)
    output = torch.ones(len(SLOTS), 9)
    adapters.bgmv_expand_slice(x, w, output, SLOTS, 2, 4, adds)
    torch.testing.assert_close(output[:, 2:6], expected(x, w) + adds)
    assert output[:, :2].eq(1).all()
    assert output[:, 6:].eq(1).all()


def test_vllms_own_give_a_row_without_adapter_the_last_ones_weights() -> None:
    """The fault that is worked around; mended in vLLM 0.33, so the patch can go with 0.32."""
    from vllm.lora.ops.torch_ops import bgmv_expand

    if bgmv_expand is adapters.bgmv_expand:
        pytest.skip("this process has the patch")
    x, w = torch.ones(1, 3), weights(4, 3)
    output = torch.zeros(1, 4)
    bgmv_expand(x, w, output, torch.tensor([-1]))
    is_mended = Version(version("vllm")) >= Version("0.33")
    torch.testing.assert_close(output[0], torch.zeros(4) if is_mended else w[2, 0] @ x[0])
