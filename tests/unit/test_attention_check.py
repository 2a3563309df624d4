"""Attention that cannot look ahead is refused when the model is built."""

from __future__ import annotations

import pytest
from torch import nn

pytest.importorskip("vllm", reason="the models are vLLM's")

from vllm.v1.attention.backends.cpu_attn import CPUAttentionBackend

from vllm_diffusion.models.block_diffusion import check_attention


class OneWay:
    """A backend that vLLM might get."""

    @staticmethod
    def supports_non_causal() -> bool:
        return False

    @staticmethod
    def get_name() -> str:
        return "ONE_WAY"


def layer(backend: object) -> nn.Module:
    module = nn.Identity()
    module.attn_backend = backend  # type: ignore[assignment]
    return nn.Sequential(nn.Linear(1, 1), module)


def test_a_causal_backend_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match=r"backend ONE_WAY is causal only.*--attention-backend"):
        check_attention(layer(OneWay))


def test_the_cpus_backend_looks_both_ways() -> None:
    check_attention(layer(CPUAttentionBackend))
    check_attention(nn.Linear(1, 1))
