"""Caches and weights of few bits: texts near the reference's, and attention that is checked.

How near was measured, and the bounds are far above what chance gives (1 of 512).
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from vllm.v1.attention.backends import cpu_attn

from tests.checkpoints import int8, sdar
from tests.parity.cases import Yardstick
from tests.parity.engines import Engine, EnginePool
from vllm_diffusion.worker import attention_check as selfcheck

BLOCK = 8
LENGTHS = range(12, 92, 4)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return sdar.write(tmp_path_factory.mktemp("quantised") / "base", block_size=BLOCK)


def share(yardstick: Yardstick, engine: Engine) -> float:
    """Of tokens that are the reference's, in the first block after prompts that end one."""
    cases = [yardstick.draw(n // BLOCK * BLOCK, BLOCK, BLOCK) for n in LENGTHS]
    outcomes = engine.run(cases)
    pairs = [
        (got, want)
        for case, outcome in zip(cases, outcomes, strict=True)
        for got, want in zip(outcome.tokens, yardstick(case).tokens, strict=False)
    ]
    return sum(got == want for got, want in pairs) / len(pairs)


class Causal(cpu_attn.CPUAttentionMetadataBuilder):
    """Attends to what was before, whatever it was asked."""

    def build(self, common_prefix_len: int, common: Any, fast_build: bool = False) -> Any:
        return super().build(common_prefix_len, replace(common, causal=True))


@pytest.mark.parametrize(("cache_type", "least"), [("fp8", 0.5), ("fp8_e5m2", 0.3)])
def test_a_quantised_cache(
    cache_type: str,
    least: float,
    folder: Path,
    pool: EnginePool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    said: list[str] = []
    monkeypatch.setattr(selfcheck.logger, "info", lambda text, *args: said.append(text % args))
    engine = pool(folder, kv_cache_dtype=cache_type)
    assert said == ["The attention backend CPU_ATTN attends as a plain reference does."]
    found = share(Yardstick(folder), engine)
    assert least < found < 1
    monkeypatch.setattr(cpu_attn.CPUAttentionBackend, "get_builder_cls", lambda: Causal)
    with pytest.raises(ValueError, match="does not attend both ways in blocks"):
        Engine(folder, kv_cache_dtype=cache_type)


def test_weights_in_int8(folder: Path, tmp_path: Path, pool: EnginePool) -> None:
    quantised, plain = int8.write(tmp_path, folder)
    found = share(Yardstick(plain), pool(quantised, dtype="bfloat16"))
    assert found > 0.6
