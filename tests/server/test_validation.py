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
from vllm.sampling_params import SamplingParams, StructuredOutputsParams

from vllm_diffusion.family.record import FamilyRecord
from vllm_diffusion.family.rows import LLADA, NEMOTRON_LABS, SDAR
from vllm_diffusion.request.plan import make_plan
from vllm_diffusion.server.validation import UNSUPPORTED, check_prompt, validate

MASK_ID = 3


def model_of(record: FamilyRecord) -> Any:
    plan = make_plan(
        record, mask_id=MASK_ID, block_length=16, vocab_size=512, generation={}, options={}
    )
    return SimpleNamespace(diffusion_plan=plan)


MODEL = model_of(SDAR)
CAUSAL = model_of(NEMOTRON_LABS)

DENOISING_STEP = {"temperature", "top_p", "top_k", "min_p", "seed", "extra_args"}
"""Honoured where positions are drawn and accepted."""
SHAPED = {
    *("logit_bias", "allowed_token_ids", "bad_words", "min_tokens"),
    *("repetition_penalty", "frequency_penalty", "presence_penalty"),
}
"""Honoured before anything is read off the logits."""
SCORED = {
    *("logprobs", "logprob_token_ids", "prompt_logprobs", "prompt_logprob_token_ids"),
    *("flat_logprobs", "prompt_logprob_start"),
}
"""Honoured with the tokens, or refused where they mean nothing."""
WALKED = {"structured_outputs", "thinking_token_budget"}
"""Followed by the worker between acceptance and settling."""
WHERE_IT_ENDS = {"stop_token_ids", "ignore_eos", "max_tokens"}
"""Honoured inside a block, by the worker and the scheduler alike."""
VLLMS_OWN = {
    *("n", "stop", "include_stop_str_in_output", "output_kind", "stream_interval"),
    *("detokenize", "skip_special_tokens", "spaces_between_special_tokens"),
    *("skip_clone", "output_text_buffer_length", "skip_reading_prefix_cache"),
    *("repetition_detection",),  # the scheduler ends the request
    *("routed_experts_prompt_start",),
    *("watermarking",),  # vLLM warns that a custom sampler does not apply it
}
"""Handled by vLLM in front of the sampler or behind it."""
GROUPS = (DENOISING_STEP, SHAPED, SCORED, WALKED, WHERE_IT_ENDS, VLLMS_OWN, set(UNSUPPORTED))


def test_every_field_is_accounted_for() -> None:
    known = set().union(*GROUPS)
    fields = {name for name in SamplingParams.__struct_fields__ if not name.startswith("_")}
    assert fields - known == set()


def test_no_field_is_in_two_places() -> None:
    assert sum(map(len, GROUPS)) == len(set().union(*GROUPS))


SET = {"trace_decode_token_ids": [5, 6]}


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


ASKED: dict[str, Any] = {
    "min_p": 0.5,
    "min_tokens": 1,
    "repetition_penalty": 1.5,
    "frequency_penalty": 0.5,
    "presence_penalty": -0.5,
    "logit_bias": {5: 1.0},
    "bad_words": ["fox"],
    "allowed_token_ids": [5],
    "logprobs": 0,
    "logprob_token_ids": [5, 6],
}
PROMPT_SCORES: dict[str, Any] = {
    "prompt_logprobs": 1,
    "prompt_logprob_token_ids": np.array([[5, 6], [7, 8]]),
}
SPECULATION = {"diffusion_policy": "self_speculation"}


@pytest.mark.parametrize("field", ASKED)
def test_an_honoured_field_passes(field: str) -> None:
    validate(SamplingParams(**{field: ASKED[field]}), MODEL)


@pytest.mark.parametrize("field", PROMPT_SCORES)
def test_prompts_are_scored_where_they_are_read_causally(field: str) -> None:
    params = SamplingParams(**{field: PROMPT_SCORES[field]})
    validate(params, CAUSAL)
    for record in (SDAR, LLADA):
        with pytest.raises(VLLMValidationError, match=f"(?s)^{field}=.* from left to right"):
            validate(params, model_of(record))


@pytest.mark.parametrize("field", ASKED)
def test_what_a_verified_draft_can_honour(field: str) -> None:
    params = SamplingParams(**{field: ASKED[field]}, extra_args=SPECULATION)
    if field in ("min_p", "min_tokens", "logit_bias", "allowed_token_ids"):
        validate(params, CAUSAL)
        return
    with pytest.raises(VLLMValidationError, match=f"(?s)^{field}=.*another diffusion_policy"):
        validate(params, CAUSAL)


@pytest.mark.parametrize("value", [0, 1, 2.5, None])
def test_a_sampling_field_that_vllm_lacks_passes(value: object) -> None:
    validate(SamplingParams(extra_args={"top_n_sigma": value}), MODEL)


@pytest.mark.parametrize("value", [-1, "1", True, float("nan"), 101, [1]])
def test_a_sampling_field_that_vllm_lacks_is_checked(value: object) -> None:
    with pytest.raises(VLLMValidationError, match=r"^top_n_sigma=.*from 0 to 100; 0 is off"):
        validate(SamplingParams(extra_args={"top_n_sigma": value}), MODEL)


def with_words(*words: list[int], **fields: Any) -> SamplingParams:
    params = SamplingParams(bad_words=["x"] * len(words), **fields)
    params._bad_words_token_ids = list(words)
    return params


CONTRADICTIONS = [
    (SamplingParams(logit_bias={5: float("nan")}), "logit_bias", "a number from"),
    (SamplingParams(logit_bias={5: float("-inf")}), "logit_bias", "a number from"),
    (SamplingParams(logit_bias={MASK_ID: -1.0}), "logit_bias", "never output"),
    (SamplingParams(logit_bias={5: 1.0, MASK_ID: 1.0}), "logit_bias", "never output"),
    (SamplingParams(allowed_token_ids=[MASK_ID]), "allowed_token_ids", "allow another"),
    (
        SamplingParams(allowed_token_ids=[5, 6], stop_token_ids=[5, 6], min_tokens=1),
        "allowed_token_ids",
        "does not stop",
    ),
    (with_words([5], [6], allowed_token_ids=[5, 6]), "allowed_token_ids", "one that does not"),
    (with_words([5, 6], allowed_token_ids=[5, 6]), "allowed_token_ids", "one that does not"),
    (with_words([5], []), "bad_words", "must have a token"),
]


@pytest.mark.parametrize(("params", "field", "remedy"), CONTRADICTIONS)
def test_contradictions_are_named(params: SamplingParams, field: str, remedy: str) -> None:
    with pytest.raises(
        VLLMValidationError, match=f"(?s)^{field}=.* cannot be honoured: .*{remedy}"
    ) as caught:
        validate(params, MODEL)
    assert caught.value.parameter == field


@pytest.mark.parametrize(
    "params",
    [
        SamplingParams(logit_bias={5: -100.0, MASK_ID: -100.0}),
        SamplingParams(allowed_token_ids=[MASK_ID, 5]),
        SamplingParams(allowed_token_ids=[5, 6], stop_token_ids=[5], min_tokens=1),
        with_words([5, 6], allowed_token_ids=[5, 6, 7]),
    ],
)
def test_what_only_looks_like_a_contradiction(params: SamplingParams) -> None:
    validate(params, MODEL)


def request_of(params: SamplingParams, prompt_len: int) -> tuple[Any, Any]:
    request = SimpleNamespace(sampling_params=params, prompt_token_ids=[5] * prompt_len)
    model = SimpleNamespace(**vars(MODEL), max_model_len=20)
    return request, SimpleNamespace(model_config=model)


def test_what_the_prompt_leaves_no_room_for() -> None:
    params = SamplingParams(min_tokens=8, max_tokens=None)
    check_prompt(*request_of(params, 12))
    with pytest.raises(VLLMValidationError, match=r"^min_tokens=8 .* leaves 7 tokens"):
        check_prompt(*request_of(params, 13))


def test_a_text_with_a_form_needs_an_end() -> None:
    """Of a checkpoint that names no end token; what a request says for itself counts as well."""
    form = StructuredOutputsParams(regex="[ab]{2}")
    asked: dict[str, dict[str, Any]] = {
        "structured_outputs": {"structured_outputs": form},
        # Keywords have become a grammar by then.
        "diffusion_keywords": {
            "structured_outputs": form,
            "extra_args": {"diffusion_keywords": ["fox"]},
        },
    }
    for field, said in asked.items():
        with pytest.raises(VLLMValidationError, match=f"^{field} .* no end token is known") as e:
            check_prompt(*request_of(SamplingParams(**said), 4))
        assert e.value.parameter == field
        assert "Add eos_token_id to generation_config.json, or say stop_token_ids" in str(e.value)
        check_prompt(*request_of(SamplingParams(**said, stop_token_ids=[7]), 4))
    check_prompt(*request_of(SamplingParams(), 4))


def test_words_need_a_tokenizer() -> None:
    check_prompt(*request_of(with_words([5, 6]), 4))
    with pytest.raises(VLLMValidationError, match=r"^bad_words=.* no tokenizer"):
        check_prompt(*request_of(SamplingParams(bad_words=["fox"]), 4))


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"min_tokens": 9, "max_tokens": 8}, "min_tokens must be less"),
        ({"bad_words": [""]}, "bad_words cannot contain an empty"),
    ],
)
def test_what_vllm_refuses_itself(fields: dict[str, Any], words: str) -> None:
    with pytest.raises(VLLMValidationError, match=words):
        SamplingParams(**fields)


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
