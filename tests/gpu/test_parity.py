"""On a GPU: the same tokens as the plain reference, on every attention backend there is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from tests.checkpoints import nemotron_labs, sdar
from tests.parity.cases import Case, Rule, Yardstick
from tests.parity.engines import Engine

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA or ROCm device"),
]

MODEL = Path(__file__).resolve().parents[2] / "examples" / "models" / "tiny-diffusion"
OPTIONS: dict[str, Any] = {"block_size": 16, "kv_cache_memory_bytes": 1 << 28}


def backend(name: str) -> dict[str, Any]:
    return {"attention_config": {"backend": name}}


@pytest.mark.parametrize("block", [4, 16])
def test_float32_tokens_are_the_references(block: int, tmp_path: Path) -> None:
    """Triton's is the one backend that computes in float32."""
    folder = sdar.write(tmp_path, block_size=block)
    reference = Yardstick(folder)
    engine = Engine(folder, **OPTIONS, **backend("TRITON_ATTN"))
    rules = (Rule(), Rule("confidence", 0.3), Rule("entropy"), Rule("static", max_steps=3))
    cases = [
        reference.draw(length, 40, block, rule=rules[length % len(rules)])
        for length in (1, block - 1, block, block + 1, 2 * block, 33, 70, 133)
    ]
    reference.compare(cases, engine.run_alone(cases))
    reference.compare(cases, engine.run(cases, every=1))


@pytest.mark.parametrize("name", ["TRITON_ATTN", "FLASH_ATTN"])
@pytest.mark.parametrize("eager", [True, False], ids=["eager", "compiled"])
def test_bfloat16_mostly_agrees(name: str, eager: bool) -> None:
    """Rounding may turn single decisions of random weights, so the trained model is asked."""
    from vllm import SamplingParams

    from benchmarks.tiny.prompts import check, load_prompts

    settings = {"dtype": "bfloat16", "enforce_eager": eager, "skip_tokenizer_init": False}
    engine = Engine(MODEL, **OPTIONS | settings | backend(name))
    samples = [sample for sample in load_prompts("test", per_task=10) if not sample.tools]
    outputs = engine.llm.chat(
        [sample.prompt_messages for sample in samples],
        SamplingParams(temperature=0.0, max_tokens=128),
    )
    right = [
        check(sample, output.outputs[0].text)
        for sample, output in zip(samples, outputs, strict=True)
    ]
    assert sum(right) >= 0.95 * len(right)


def test_causal_and_bidirectional_requests_share_a_batch(tmp_path: Path) -> None:
    """A prompt is read causally while another request's canvas looks both ways."""
    folder = nemotron_labs.write(tmp_path)
    cases = [
        Case(prompt=tuple(range(5, 5 + length)), max_tokens=24, block=8, ignore_eos=True)
        for length in (3, 30, 17, 64)
    ]
    options = OPTIONS | backend("TRITON_ATTN") | {"diffusion_config": {"canvas_length": 8}}
    engine = Engine(folder, **options)
    alone = [outcome.tokens for outcome in engine.run_alone(cases)]
    assert [outcome.tokens for outcome in engine.run(cases, every=1)] == alone
