"""Every field that a request can carry is honoured, refused by name, or not about decoding.

In process, on vLLM's own class: a field that a new vLLM brings fails here until
somebody decides what it means for a canvas.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from vllm.exceptions import VLLMValidationError
from vllm.sampling_params import SamplingParams

from vllm_diffusion.families import SDAR
from vllm_diffusion.plan import make_plan
from vllm_diffusion.server.validation import UNSUPPORTED, validate

MODEL: Any = SimpleNamespace(
    diffusion_plan=make_plan(
        SDAR, mask_id=3, block_length=16, vocab_size=512, generation={}, options={}
    )
)

DENOISING_STEP = {"temperature", "top_p", "top_k", "seed", "extra_args"}
"""Honoured where positions are drawn and accepted."""
WHERE_IT_ENDS = {"stop_token_ids", "ignore_eos", "max_tokens"}
"""Honoured inside a block, by the worker and the scheduler alike."""
VLLMS_OWN = {
    *("n", "stop", "include_stop_str_in_output", "output_kind", "stream_interval"),
    *("detokenize", "skip_special_tokens", "spaces_between_special_tokens"),
    *("skip_clone", "output_text_buffer_length", "skip_reading_prefix_cache"),
    *("flat_logprobs", "prompt_logprob_start"),  # of logprobs, which are refused
    *("repetition_detection",),  # the scheduler ends the request
    *("routed_experts_prompt_start",),
    *("structured_outputs",),  # refused by vLLM for every diffusion model
    *("watermarking",),  # vLLM warns that a custom sampler does not apply it
}
"""Handled by vLLM in front of the sampler or behind it."""


def test_every_field_is_accounted_for() -> None:
    known = DENOISING_STEP | WHERE_IT_ENDS | VLLMS_OWN | set(UNSUPPORTED)
    fields = {name for name in SamplingParams.__struct_fields__ if not name.startswith("_")}
    assert fields - known == set()


def test_no_field_is_in_two_places() -> None:
    groups = (DENOISING_STEP, WHERE_IT_ENDS, VLLMS_OWN, set(UNSUPPORTED))
    assert sum(map(len, groups)) == len(set().union(*groups))


SET = {
    "min_p": 0.5,
    "min_tokens": 1,
    "repetition_penalty": 1.5,
    "frequency_penalty": 0.5,
    "presence_penalty": -0.5,
    "logit_bias": {5: 1.0},
    "bad_words": ["fox"],
    "allowed_token_ids": [5],
    "logprobs": 0,
    "prompt_logprobs": 1,
    "logprob_token_ids": [5, 6],
    "prompt_logprob_token_ids": np.array([[5, 6], [7, 8]]),
    "thinking_token_budget": 3,
    "trace_decode_token_ids": [5, 6],
}


def test_every_refused_field_is_tried() -> None:
    assert SET.keys() == UNSUPPORTED.keys()


@pytest.mark.parametrize("field", SET)
def test_a_refused_field_is_named(field: str) -> None:
    with pytest.raises(
        VLLMValidationError, match=f"(?s)^{field}=.* is not supported.*leave it out"
    ):
        validate(SamplingParams(**{field: SET[field]}), MODEL)


def test_what_is_not_asked_for_passes() -> None:
    validate(SamplingParams(), MODEL)
    validate(SamplingParams(bad_words=[], logit_bias={}, repetition_penalty=1), MODEL)
    validate(SamplingParams(temperature=0.3, top_k=5, top_p=0.5, seed=1, max_tokens=1), MODEL)


@pytest.mark.parametrize("seed", [2**63, -(2**63) - 1])
def test_a_seed_has_64_bits(seed: int) -> None:
    with pytest.raises(VLLMValidationError, match=f"seed={seed} .*signed 64-bit"):
        validate(SamplingParams(seed=seed), MODEL)


def test_a_decode_field_is_named_too() -> None:
    params = SamplingParams(extra_args={"diffusion_threshold": 2})
    with pytest.raises(VLLMValidationError) as caught:
        validate(params, MODEL)
    assert caught.value.parameter == "diffusion_threshold"
    assert caught.value.value == 2
