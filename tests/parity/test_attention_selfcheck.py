"""The start-up check of an attention backend, tried on the CPU's, and on some that lie."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from vllm.v1.attention.backends import cpu_attn

from tests.checkpoints import llada, nemotron_labs, sdar
from tests.parity.engines import Engine, EnginePool
from vllm_diffusion.mask_groups.base import MaskGroup
from vllm_diffusion.mask_groups.block_causal import BlockCausal
from vllm_diffusion.mask_groups.causal_context import CausalContext
from vllm_diffusion.mask_groups.full import Full
from vllm_diffusion.worker import attention_check as selfcheck

Builder = cpu_attn.CPUAttentionMetadataBuilder
GROUPS = {BlockCausal: sdar, CausalContext: nemotron_labs, Full: llada}


class Causal(Builder):
    """Attends to what was before, whatever it was asked."""

    def build(self, common_prefix_len: int, common: Any, fast_build: bool = False) -> Any:
        return super().build(common_prefix_len, replace(common, causal=True))


class OneForAll(Builder):
    """Takes the first sequence's flag for all of them."""

    def build(self, common_prefix_len: int, common: Any, fast_build: bool = False) -> Any:
        if isinstance(common.causal, torch.Tensor):
            common = replace(common, causal=bool(common.causal[0]))
        return super().build(common_prefix_len, common)


class WholeBlocks(Builder):
    """Sees one key too many, as a kernel that rounds lengths up would."""

    def build(self, common_prefix_len: int, common: Any, fast_build: bool = False) -> Any:
        return super().build(common_prefix_len, replace(common, seq_lens=common.seq_lens + 1))


class Unable(Builder):
    """Says that it cannot, as FlashAttention 2 and 3 do of flags by sequence."""

    def build(self, common_prefix_len: int, common: Any, fast_build: bool = False) -> Any:
        if isinstance(common.causal, torch.Tensor):
            raise NotImplementedError("flags by sequence need another version")
        return super().build(common_prefix_len, common)


class Strange(Builder):
    """Wants something that the check does not know of."""

    def build(self, common_prefix_len: int, common: Any, fast_build: bool = False) -> Any:
        raise AttributeError("no planner")


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[type[MaskGroup], Path]:
    return {
        group: module.write(tmp_path_factory.mktemp(group.name)) for group, module in GROUPS.items()
    }


@pytest.fixture
def check(
    folders: dict[type[MaskGroup], Path], engines: EnginePool, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., None]:
    """Check the backend of an engine that runs, as if nothing was known of it."""

    def run(
        mask_group: type[MaskGroup],
        builder: type[Builder] = Builder,
        dtype: str = "float32",
        proved: frozenset[str] = frozenset(),
    ) -> None:
        engine = engines(folders[mask_group], dtype=dtype)
        runner = engine.core.model_executor.driver_worker.worker.model_runner
        layers = runner.compilation_config.static_forward_context
        caches = {name: layer.kv_cache for name, layer in layers.items()}
        before = {name: cache.clone() for name, cache in caches.items()}
        monkeypatch.setattr(cpu_attn.CPUAttentionBackend, "get_builder_cls", lambda: builder)
        monkeypatch.setattr(selfcheck, "PROVED", proved)
        try:
            selfcheck.check_backends(runner.vllm_config, runner.kv_cache_config, mask_group)
        finally:
            for name, layer in layers.items():
                assert layer.kv_cache is caches[name]
                assert layer.kv_cache.equal(before[name])

    return run


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What the check logs."""
    lines: list[str] = []
    for level in ("info", "warning"):
        monkeypatch.setattr(selfcheck.logger, level, lambda text, *args: lines.append(text % args))
    return lines


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("mask_group", GROUPS)
def test_the_cpus_backend_passes(
    mask_group: type[MaskGroup], dtype: str, check: Callable[..., None], said: list[str]
) -> None:
    check(mask_group, dtype=dtype)
    assert said == ["The attention backend CPU_ATTN attends as a plain reference does."]


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("mask_group", GROUPS)
@pytest.mark.parametrize("builder", [Causal, WholeBlocks])
def test_a_backend_that_lies_is_refused_by_name(
    mask_group: type[MaskGroup], dtype: str, builder: type[Builder], check: Callable[..., None]
) -> None:
    message = (
        r"backend CPU_ATTN does not attend both ways in blocks, .* is off by \d.*"
        r"--attention-backend"
    )
    with pytest.raises(ValueError, match=message):
        check(mask_group, builder, dtype)


def test_flags_by_sequence_are_checked_where_they_are_used(check: Callable[..., None]) -> None:
    check(BlockCausal, OneForAll)
    with pytest.raises(ValueError, match="does not attend causally for one request and both ways"):
        check(CausalContext, OneForAll)


def test_a_backend_that_says_it_cannot_is_refused(check: Callable[..., None]) -> None:
    check(Full, Unable)
    message = r"cannot attend causally for one .* \(flags by sequence need .*--attention-backend"
    with pytest.raises(ValueError, match=message):
        check(CausalContext, Unable)


def test_what_cannot_be_checked_is_said(check: Callable[..., None], said: list[str]) -> None:
    check(Full, Strange)
    (line,) = said
    assert "CPU_ATTN could not be checked against a reference: AttributeError('no planner')" in line
    assert "--attention-backend" in line


def test_a_quantised_cache_is_checked_where_the_backend_is_proved(
    check: Callable[..., None], said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(selfcheck, "is_quantized_kv_cache", lambda dtype: True)
    proved = frozenset({"CPU_ATTN"})
    check(Full, proved=proved)
    assert said == ["The attention backend CPU_ATTN attends as a plain reference does."]
    with pytest.raises(ValueError, match=r"off by \d.*, and rounding explains 0\.5"):
        check(Full, Causal, proved=proved)


def test_a_proved_backend_is_not_computed(check: Callable[..., None], said: list[str]) -> None:
    check(Full, Causal, proved=frozenset({"CPU_ATTN"}))
    assert said == []


def test_start_up_ends_with_it(
    folders: dict[type[MaskGroup], Path], engines: EnginePool, monkeypatch: pytest.MonkeyPatch
) -> None:
    engines(folders[Full])  # the parallel groups are there
    monkeypatch.setattr(selfcheck, "PROVED", frozenset())
    monkeypatch.setattr(cpu_attn.CPUAttentionBackend, "get_builder_cls", lambda: Causal)
    with pytest.raises(ValueError, match="backend CPU_ATTN does not attend both ways in blocks"):
        Engine(folders[Full])


def test_a_cache_keeps_its_order_in_memory() -> None:
    bound = torch.ones(9, 4, 32, 16).permute(0, 2, 1, 3)  # heads inside of tokens
    made = selfcheck.scratch_cache(bound, 3)
    assert made.shape == (3, 32, 4, 16)
    assert not made.any()
    assert made.stride() == (2048, 16, 512, 1)
    assert bound.stride()[1:] == made.stride()[1:]
    sliced = torch.ones(9, 2, 4, 8)[:, 0]  # another layer's pages in between
    assert selfcheck.scratch_cache(sliced, 3).is_contiguous()
