"""Fields that are fine one by one and cannot be had together."""

from __future__ import annotations

from typing import Any

import pytest

from vllm_diffusion.family.record import FamilyRecord
from vllm_diffusion.family.rows import FAST_DLLM_V2, LLADA
from vllm_diffusion.request.params import InvalidFieldError
from vllm_diffusion.request.parsed import parse
from vllm_diffusion.request.plan import make_plan


def decode(record: FamilyRecord, **fields: Any) -> Any:
    """What a request with these fields, prefix left out, is decoded with."""
    plan = make_plan(
        record, mask_id=3, block_length=None, vocab_size=512, generation={}, options={}
    )
    return parse({f"diffusion_{key}": value for key, value in fields.items()}, plan).decode


@pytest.mark.parametrize("policy", ["maskgit_plus", "topk_margin", "topk_entropy", "origin"])
def test_a_clock_runs_over_whole_blocks(policy: str) -> None:
    with pytest.raises(InvalidFieldError, match="say diffusion_sub_block_length=32") as caught:
        decode(FAST_DLLM_V2, policy=policy)
    assert caught.value.field == "diffusion_policy"
    assert decode(FAST_DLLM_V2, policy=policy, sub_block_length=32).policy == policy


@pytest.mark.parametrize("kv_cache", ["prefix", "dual"])
def test_guidance_needs_exact_attention(kv_cache: str) -> None:
    with pytest.raises(InvalidFieldError, match="take 'exact' with guidance") as caught:
        decode(LLADA, guidance_scale=1.5, kv_cache=kv_cache)
    assert caught.value.field == "diffusion_guidance_scale"
    assert decode(LLADA, guidance_scale=0, kv_cache=kv_cache).kv_cache == kv_cache
    assert decode(LLADA, guidance_scale=1.5).guidance_scale == 1.5


@pytest.mark.parametrize("value", [-0.1, 101, float("nan"), "1", True, None])
def test_guidance_has_a_range(value: object) -> None:
    with pytest.raises(InvalidFieldError, match="diffusion_guidance_scale="):
        decode(LLADA, guidance_scale=value)
