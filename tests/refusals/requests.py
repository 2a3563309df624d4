"""Requests that are refused before the engine sees them: bodies, fields, sampling parameters."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from vllm.sampling_params import SamplingParams, StructuredOutputsParams

from tests.refusals.decode import named, plan_of
from tests.refusals.record import Case
from vllm_diffusion.family.record import FamilyRecord
from vllm_diffusion.family.rows import LLADA, LLADA2, NEMOTRON_LABS, SDAR
from vllm_diffusion.server import admission, body, compilation, reasoning, templates, tool_grammar
from vllm_diffusion.server.fields import OTHERS_OF, RECORDS
from vllm_diffusion.server.request_models import (
    BatchRequest,
    ChatRequest,
    MessagesRequest,
    ResponseRequest,
    TextRequest,
)
from vllm_diffusion.server.structured import check_structured
from vllm_diffusion.server.validation import check_prompt, validate

FOLDERS = (
    *("server/admission.py", "server/body.py", "server/forms.py", "server/reasoning.py"),
    *("server/request_models.py", "server/structured.py", "server/templates.py"),
    *("server/seed_canvas.py", "server/tool_grammar.py", "server/validation.py"),
)
MODELS: dict[str, Any] = {
    "chat": ChatRequest,
    "completion": TextRequest,
    "responses": ResponseRequest,
    "messages": MessagesRequest,
}
CHAT = {"messages": [{"role": "user", "content": "a"}]}
TEXT = {"prompt": "a"}
RESPONSE = {"input": "a"}
F = {"name": "f", "parameters": {"type": "object"}}
TOOL = {"type": "function", "function": F}
RESPONSE_TOOL = {"type": "function", **F}
JSON = {"type": "json_object"}
NAMED = {"type": "function", "function": {"name": "f"}}
MASK_ID = 3

BODIES: list[bytes] = [
    b"\xff", b'{"a": "\\ud800"}', b'{"\\udfff": 1}', b'{"a": {"\\ud800": 1}}',
    b'{"temperature": NaN}', b'{"a": [1, -Infinity]}', b'{"a": 1e999}',
    b'{"seed": 99999999999999999999}', b'{"a": [-99999999999999999999]}',
    b"9" * 5000, b"[" * 129 + b"]" * 129, b'{"a":' * 5000 + b"1" + b"}" * 5000,
]  # fmt: skip

ASKED: list[tuple[Any, dict[str, Any]]] = [
    *((model, base | {"structured_outputs": asked})
      for model, base in ((ChatRequest, CHAT), (TextRequest, TEXT))
      for asked in (5, [], {"chioce": ["a"]}, {"json": {}, "colour": 1})),
    (ChatRequest, CHAT | {"tools": 5, "tool_choice": NAMED}),
]  # fmt: skip
BATCHES: list[dict[str, Any]] = [{"stream": True}, {"tools": [TOOL]}]

ADMITTED: list[tuple[str, dict[str, Any]]] = [
    *(("chat", CHAT | more) for more in (
        {"diffusion_threshold": 0.5}, {"diffusion_keywords": ["a" * 300]},
        {"vllm_xargs": {"colour": 1}},
        {"temprature": 1}, {"suffix": "x"}, {"colour": 1}, {"previous_response_id": "x"},
        {"response_format": {"type": "json_object", "colour": 1}},
        {"stream": True, "stream_options": {"include_usge": True}},
        {"logit_bias": {"5": 101}}, {"logit_bias": {"5": float("nan")}},
        {"priority": 1}, {"kv_transfer_params": {"a": 1}},
        {"echo": True, "logprobs": True},
        {"tools": [TOOL], "response_format": JSON},
        {"tools": [TOOL], "structured_outputs": {"regex": "a"}},
        {"tools": [TOOL], "tool_choice": "required", "response_format": JSON},
        {"tools": [TOOL], "tool_choice": NAMED, "response_format": JSON},
        {"tools": [TOOL], "vllm_xargs": {"diffusion_keywords": ["a"]}},
    )),
    *(("completion", TEXT | more) for more in (
        {"temprature": 1}, {"messages": []}, {"echo": True, "logprobs": 1},
        {"vllm_xargs": {"colour": 1}}, {"priority": 1},
    )),
    *(("responses", RESPONSE | more) for more in (
        {"store": True}, {"background": True, "store": True}, {"previous_response_id": "x"},
        {"reasoning": {"summary": "detailed"}}, {"text": {"verbosity": "low"}},
        {"tools": [{"type": "web_search_preview"}]},
        {"tools": [RESPONSE_TOOL], "text": {"format": JSON}},
        {"tools": [RESPONSE_TOOL], "tool_choice": {"type": "web_search_preview"}},
        {"n": 2}, {"colour": 1},
    )),
]  # fmt: skip

GRAMMAR = StructuredOutputsParams(regex="a")
SEED = {"diffusion_seed_canvas": [5, MASK_ID, 6], "diffusion_pinned": [2]}
EDITED = (("edit_threshold", 1), ("preset", "speed"), ("max_post_steps", 2))
SAMPLED: list[tuple[FamilyRecord, dict[str, Any]]] = [
    (SDAR, {"trace_decode_token_ids": [5]}),
    (SDAR, {"seed": 2**63}),
    (SDAR, {"extra_args": {"diffusion_threshold": 2}}),
    (SDAR, {"prompt_logprobs": 1}),
    *((NEMOTRON_LABS, {**said, "extra_args": {"diffusion_policy": "self_speculation"}})
      for said in ({"repetition_penalty": 2.0}, {"frequency_penalty": 1.0}, {"bad_words": ["a"]},
                   {"presence_penalty": 1.0}, {"logprobs": 1}, {"logprob_token_ids": [5]},
                   {"structured_outputs": GRAMMAR})),
    *((SDAR, {"logit_bias": bias})
      for bias in ({5: float("nan")}, {5: 1e5}, {MASK_ID: -1.0}, {5: 1.0, MASK_ID: 1.0})),
    (SDAR, {"allowed_token_ids": [MASK_ID]}),
    (SDAR, {"allowed_token_ids": [5], "stop_token_ids": [5], "min_tokens": 1}),
    *((SDAR, {"structured_outputs": GRAMMAR, **said})
      for said in ({"min_tokens": 1}, {"allowed_token_ids": [5]}, {"bad_words": ["a"]},
                   {"ignore_eos": True})),
    *((SDAR, {"extra_args": {"diffusion_keywords": value}}) for value in ("x", [""], ["a"] * 9)),
    (SDAR, {"extra_args": {"diffusion_keywords": ["a"]}, "structured_outputs": GRAMMAR}),
    (SDAR, {"extra_args": {"diffusion_keywords": ["a"]}, "ignore_eos": True}),
    (SDAR, {"extra_args": {"diffusion_min_chars": 5}, "stop": ["x"]}),
    (NEMOTRON_LABS, {"extra_args": {"diffusion_keywords": ["a"],
                                    "diffusion_policy": "self_speculation"}}),
    *((LLADA2, {"extra_args": {"diffusion_keywords": ["a"], f"diffusion_{name}": value}})
      for name, value in EDITED),
    *((LLADA2, {"structured_outputs": GRAMMAR, "extra_args": {f"diffusion_{name}": value}})
      for name, value in EDITED),
    *((SDAR, {**said, "extra_args": SEED})
      for said in ({"structured_outputs": GRAMMAR}, {"thinking_token_budget": 5},
                   {"bad_words": ["a"]}, {"max_tokens": 2})),
    (SDAR, {"extra_args": {"diffusion_keywords": ["a"], **SEED}}),
    (NEMOTRON_LABS, {"extra_args": {"diffusion_policy": "self_speculation", **SEED}}),
    (SDAR, {"extra_args": {"diffusion_seed_canvas": [512]}}),
    (SDAR, {"max_tokens": 99, "extra_args": {"diffusion_seed_canvas": [5] * 21}}),
    *((SDAR, {**said, "extra_args": {"diffusion_draft": [5, 6]}})
      for said in ({"structured_outputs": GRAMMAR}, {"thinking_token_budget": 5},
                   {"bad_words": ["a"]})),
    (NEMOTRON_LABS, {"extra_args": {"diffusion_policy": "self_speculation",
                                    "diffusion_draft": [5]}}),
    (SDAR, {"extra_args": {"diffusion_draft": [512]}}),
    (SDAR, {"extra_args": {"diffusion_draft": [5] * 600}}),
    *((SDAR, {**said, "extra_args": {"diffusion_read_only": 1}})
      for said in ({"structured_outputs": GRAMMAR}, {"min_tokens": 1})),
    *((SDAR, {**said, "extra_args": {"diffusion_constrained": True}})
      for said in ({}, {"allowed_token_ids": [5], "logprob_token_ids": [5]},
                   {"structured_outputs": GRAMMAR, "logprob_token_ids": [5]})),
]  # fmt: skip
BUDGET: list[tuple[FamilyRecord, dict[str, Any], dict[str, Any]]] = [
    *((LLADA2, {"extra_args": {f"diffusion_{name}": value}}, {}) for name, value in EDITED),
    (SDAR, {"structured_outputs": GRAMMAR}, {"enable_in_reasoning": True}),
    (SDAR, {"allowed_token_ids": [5]}, {}),
    (SDAR, {"bad_words": ["x"]}, {}),
]
"""Beside a budget for thoughts: of a request, and of its server."""
FORMS: list[dict[str, Any]] = [
    {"json": 5}, {"json_object": False}, {"choice": []}, {"choice": [5]}, {"regex": 5},
    {"grammar": " "}, {"structural_tag": ""}, {"regex": "a", "disable_any_whitespace": True},
    {"regex": "a", "whitespace_pattern": "x"},
    {"regex": "a", "disable_additional_properties": True},
]  # fmt: skip
PROMPTS: list[tuple[FamilyRecord, dict[str, Any], int]] = [
    (SDAR, {"min_tokens": 8}, 13),
    (SDAR, {"bad_words": ["fox"]}, 4),
    (SDAR, {"structured_outputs": GRAMMAR}, 4),
    (SDAR, {"extra_args": {"diffusion_keywords": ["a"]}}, 4),
    (LLADA, {"extra_args": {"diffusion_guidance_scale": 1.5}}, 16),
    (SDAR, {"extra_args": SEED, "max_tokens": 8}, 18),
    (SDAR, {"extra_args": {"diffusion_seed_canvas": [7, 5], "diffusion_pinned": [0, 1]},
            "stop_token_ids": [7]}, 4),
    (SDAR, {"extra_args": SEED, "stop_token_ids": [6], "min_tokens": 4}, 4),
    (SDAR, {"extra_args": SEED, "stop_token_ids": [7], "allowed_token_ids": [7]}, 4),
    (NEMOTRON_LABS, {"thinking_token_budget": 5,
                     "extra_args": {"diffusion_policy": "self_speculation"}}, 4),
]  # fmt: skip


def model_of(record: FamilyRecord) -> Any:
    length = 16 if record is not NEMOTRON_LABS else None
    return SimpleNamespace(
        diffusion_plan=plan_of(record, block_length=length),
        max_model_len=20,
        get_vocab_size=lambda: 512,
    )


def server_of(record: FamilyRecord, **changes: Any) -> Any:
    options = {
        "enable_in_reasoning": False, "disable_any_whitespace": False, "backend": "xgrammar",
        "disable_additional_properties": False, "reasoning_parser": "",
    }  # fmt: skip
    return SimpleNamespace(
        model_config=model_of(record),
        cache_config=SimpleNamespace(block_size=4),
        structured_outputs_config=SimpleNamespace(**options | changes),
        reasoning_config=SimpleNamespace(
            enabled=True,
            reasoning_start_token_ids=[8],
            reasoning_end_token_ids=[7, 9],
            natural_reasoning_end_token_ids=[9],
        ),
        additional_config={},
    )


def _admit(route: str, said: dict[str, Any]) -> None:
    request = MODELS[route].model_validate(said)
    served = admission.Served(has_prompt_scores=False)
    (admission.admit_response if route == "responses" else admission.admit)(request, served)


def _with_form(asked: dict[str, Any]) -> SamplingParams:
    form = StructuredOutputsParams(regex="a")
    for name, value in ({"regex": None} | asked).items():
        object.__setattr__(form, name, value)
    return SamplingParams(structured_outputs=form)


def _prompt(record: FamilyRecord, said: dict[str, Any], prompt_len: int) -> None:
    params = SamplingParams(**{"max_tokens": None} | said)
    request = SimpleNamespace(sampling_params=params, prompt_token_ids=[5] * prompt_len)
    check_prompt(request, server_of(record))  # type: ignore[arg-type]


def _budget(record: FamilyRecord, said: dict[str, Any], served: dict[str, Any]) -> None:
    params = SamplingParams(thinking_token_budget=5, stop_token_ids=[3], **said)
    params._bad_words_token_ids = [[4, 7]] if "bad_words" in said else None
    request = SimpleNamespace(sampling_params=params, prompt_token_ids=[5])
    check_prompt(request, server_of(record, **served))  # type: ignore[arg-type]


def _level(level: str) -> None:
    params = SamplingParams(extra_args={reasoning.LEVEL: level})
    request = SimpleNamespace(sampling_params=params, prompt_token_ids=[5])
    reasoning.resolve_effort(request, server_of(SDAR))  # type: ignore[arg-type]


def _template(**asked: Any) -> None:
    plain = {"chat_template": None, "documents": None, "chat_template_kwargs": None}
    handler = SimpleNamespace(trust_request_chat_template=False)
    templates.check_template(SimpleNamespace(**plain | asked), handler, has_reasoning_parser=False)


def _batch(more: dict[str, Any]) -> None:
    request = BatchRequest.model_validate({"messages": [CHAT["messages"]]} | more)
    request.to_chat_completion_request(CHAT["messages"])


def _records() -> Iterator[Case]:
    """Every field whose record says that it is refused, or is for some values."""
    for route, model in MODELS.items():
        for field, record in (OTHERS_OF[route] | RECORDS[route]).items():
            if record.neutral_values is not None:
                request = model.model_construct(**{field: "x"})
                call = partial(admission.check_records, request, route)
                yield Case(f"{route}, field {field}", call)


def cases(_: Path) -> Iterator[Case]:
    for sent in BODIES:
        yield Case(f"body: {named(sent)}", partial(body.check_body, sent))
    for model, said in ASKED:
        yield Case(f"{model.__name__}: {named(said)}", partial(model.model_validate, said))
    for said in BATCHES:
        yield Case(f"several chats: {named(said)}", partial(_batch, said))
    yield from _records()
    for route, said in ADMITTED:
        yield Case(f"{route}: {named(said)}", partial(_admit, route, said))
    for record, said in SAMPLED:
        is_form = said.get("structured_outputs") is not None and not _is_worded(said)
        check = check_structured if is_form else validate
        call = partial(check, SamplingParams(**said), model_of(record))
        yield Case(f"sampling of {record.architecture}: {_shown(said)}", call)
    for said in FORMS:
        yield Case(f"form: {said}", partial(_form, said))
    for record, said, length in PROMPTS:
        name = f"{_shown(said)} and a prompt of {length} of 20 tokens"
        yield Case(
            f"sampling of {record.architecture}: {name}", partial(_prompt, record, said, length)
        )
    for record, said, served in BUDGET:
        name = f"budget of {record.architecture}: {_shown(said)}, server {served}"
        yield Case(name, partial(_budget, record, said, served))
    yield Case("a level of reasoning_effort", partial(_level, "huge"))
    yield Case("a template of the request's", partial(_template, chat_template="{{ x }}"))
    for kind in ("string", ["array", "null"], 5):
        call = partial(tool_grammar.completed, {"type": kind}, "f")
        yield Case(f"a function's parameters: {json.dumps(kind)}", call)
    yield Case("no tokenizer", partial(compilation.service_of, server_of(SDAR), None))


def _form(asked: dict[str, Any]) -> None:
    check_structured(_with_form(asked), model_of(SDAR))


def _is_worded(said: dict[str, Any]) -> bool:
    """Or laid: what excludes a form is found before the form is read."""
    fields = ("keywords", "seed_canvas", "draft", "read_only", "constrained")
    return any(f"diffusion_{name}" in said.get("extra_args", {}) for name in fields)


def _shown(said: dict[str, Any]) -> str:
    return named({key: "a regex" if value is GRAMMAR else value for key, value in said.items()})
