"""Every field of vLLM's request models has a record, and the docs say what the records say."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("vllm", reason="the request models are vLLM's")

from vllm.entrypoints.anthropic.protocol import AnthropicMessagesRequest
from vllm.exceptions import VLLMValidationError

from scripts import field_tables
from vllm_diffusion.server.admission import Served, admit, admit_response, check_records
from vllm_diffusion.server.fields import (
    CHAT,
    COMPLETION,
    MESSAGES_OTHERS,
    OTHERS,
    OTHERS_OF,
    RECORDS,
    SHARED,
)
from vllm_diffusion.server.fields.record import refused
from vllm_diffusion.server.request_models import (
    ChatRequest,
    MessagesRequest,
    ResponseRequest,
    TextRequest,
)

MODELS: dict[str, Any] = {"chat": ChatRequest, "completion": TextRequest}
PLAIN: dict[str, dict[str, Any]] = {
    "chat": {"messages": [{"role": "user", "content": "a"}]},
    "completion": {"prompt": "a"},
}
BLOCK_CAUSAL = Served(has_prompt_scores=False)
# Since vLLM 0.33: without a record, and so refused or dropped as before.
GAINED: dict[str, dict[str, Any]] = {
    "chat": {"return_weight_versions": True},
    "completion": {"return_weight_versions": True},
    "responses": {
        "prompt_cache_options": {"mode": "explicit"},
        "prompt_cache_retention": "24h",
        "safety_identifier": "somebody",
        "spaces_between_special_tokens": False,
    },
    "messages": {},
}
each_route = pytest.mark.parametrize("route", MODELS)


def request(route: str, **fields: Any) -> Any:
    return MODELS[route].model_validate(PLAIN[route] | fields)


def refusal(route: str, served: Served = BLOCK_CAUSAL, **fields: Any) -> VLLMValidationError:
    with pytest.raises(VLLMValidationError) as caught:
        admit(request(route, **fields), served)
    return caught.value


@pytest.mark.parametrize(
    ("route", "model"),
    [*MODELS.items(), ("responses", ResponseRequest), ("messages", AnthropicMessagesRequest)],
)
def test_every_field_has_a_record_and_every_record_a_field(route: str, model: Any) -> None:
    assert set(model.model_fields) - set(GAINED[route]) == set(RECORDS[route])


@pytest.mark.parametrize(
    ("route", "field"), [(route, field) for route in GAINED for field in GAINED[route]]
)
def test_a_field_that_vllm_has_gained_is_as_before(route: str, field: str) -> None:
    models = MODELS | {"responses": ResponseRequest}
    plain = PLAIN.get(route, {"input": "a"})
    asked = models[route].model_validate(plain | {field: GAINED[route][field]})
    if OTHERS_OF[route].get(field, refused("")).status == "meaningless":
        check_records(asked, route)
        return
    with pytest.raises(VLLMValidationError) as caught:
        check_records(asked, route)
    assert caught.value.parameter == field


def test_a_field_that_vllm_will_gain_is_refused() -> None:
    class Newer(TextRequest):
        novelty: bool = False

    check_records(Newer(prompt="a"), "completion")
    with pytest.raises(VLLMValidationError, match="novelty=True: this field is not known, and it"):
        check_records(Newer(prompt="a", novelty=True), "completion")


def test_a_record_stands_in_one_place() -> None:
    places = (SHARED, CHAT, COMPLETION, OTHERS)
    assert sum(map(len, places)) == len(set().union(*places))


def test_openais_own_fields_are_all_known() -> None:
    chat = pytest.importorskip("openai.types.chat.completion_create_params")
    completion = pytest.importorskip("openai.types.completion_create_params")
    response = pytest.importorskip("openai.types.responses.response_create_params")
    for route, params in (
        ("chat", chat.CompletionCreateParamsBase),
        ("completion", completion.CompletionCreateParamsBase),
        ("responses", response.ResponseCreateParamsBase),
    ):
        theirs = set(params.__annotations__)
        assert theirs - set(RECORDS[route]) - set(OTHERS_OF[route]) == set()


def test_anthropics_own_fields_are_all_known() -> None:
    params = pytest.importorskip("anthropic.types.message_create_params")
    theirs = set(params.MessageCreateParamsBase.__annotations__)
    assert theirs - set(RECORDS["messages"]) - set(MESSAGES_OTHERS) == set()


def test_every_record_has_a_probe_of_its_kind() -> None:
    from tests.server.field_probes import CASES, PROBES

    for route, probes in PROBES.items():
        records = RECORDS[route] | OTHERS
        assert set(probes) == set(records)
        for field, record in records.items():
            outcomes = {p.outcome for r, f, p in CASES if (r, f) == (route, field)}
            wanted = {"honoured": "served", "meaningless": "served"}.get(record.status, "refused")
            assert outcomes & {wanted, "either"} or field == "model", field


def test_the_docs_are_up_to_date(tmp_path: Path) -> None:
    """``make docs`` writes them."""
    copy = tmp_path / "api.md"
    shutil.copy(field_tables.API, copy)
    field_tables.write(copy)
    assert copy.read_text() == field_tables.API.read_text()


def test_a_table_says_each_field_once() -> None:
    for records in field_tables.SECTIONS.values():
        rows = field_tables.table(records).splitlines()[2:]
        assert sum(row.count("`, `") for row in rows) < len(records)
        assert all(any(f"`{name}`" in row.split(" | ")[0] for row in rows) for name in records)


@each_route
@pytest.mark.parametrize(
    ("fields", "named", "words"),
    [
        ({"diffusion_threshold": 0.5}, "diffusion_threshold", "belongs into vllm_xargs: {"),
        ({"temprature": 0}, "temprature", "did you mean temperature?"),
        ({"max_new_tokens": 5}, "max_new_tokens", "did you mean max_tokens?"),
        ({"colour": "red"}, "colour", "this field is not known, and it would be ignored"),
        ({"realtime": True}, "realtime", "stream"),
        ({"stream": True, "stream_options": {"a": 1}}, "stream_options.a", "is not known"),
        ({"vllm_xargs": {"top_k": 1}}, "vllm_xargs.top_k", "stand beside it"),
        ({"priority": -1}, "priority", "--scheduling-policy priority"),
        ({"use_beam_search": True, "temprature": 0}, "temprature", "did you mean"),
    ],
)
def test_what_nobody_would_read_is_refused(
    route: str, fields: dict[str, Any], named: str, words: str
) -> None:
    error = refusal(route, **fields)
    assert error.parameter == named
    assert named in str(error)
    assert words in str(error)


def test_a_field_of_the_other_route_is_named_as_that() -> None:
    assert "though chats and responses have it" in str(refusal("completion", tools=[]))
    assert "though completions have it" in str(refusal("chat", suffix="a"))


@each_route
@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"colour": None},
        {"store": False, "metadata": {"a": "b"}, "service_tier": "auto", "diffusing": None},
        {"priority": 0, "use_beam_search": False, "length_penalty": 1},
        {"vllm_xargs": {"diffusion_threshold": 0.5}},
        {"vllm_xargs": {}, "kv_transfer_params": {}},
    ],
)
def test_what_asks_for_nothing_passes(route: str, fields: dict[str, Any]) -> None:
    admit(request(route, **fields), BLOCK_CAUSAL)


@each_route
def test_options_of_the_server_make_fields_mean_something(route: str) -> None:
    able = Served(has_prompt_scores=True, has_priorities=True, has_kv_connector=True)
    asked = {"priority": 3, "kv_transfer_params": {"a": 1}, "echo": True, "logprobs": True}
    admit(request(route, **asked), able)
    for field, value in asked.items():
        if field != "logprobs":
            fields = {field: value} | ({"logprobs": True} if field == "echo" else {})
            assert refusal(route, **fields).parameter == field


def test_an_echo_alone_asks_for_no_scores() -> None:
    """vLLM makes the prompt's log-probabilities of ``top_logprobs``, which is 0 if not said."""
    asked = request("chat", echo=True)
    admit(asked, BLOCK_CAUSAL)
    assert asked.to_sampling_params(8, {}).prompt_logprobs is None
    scored = request("chat", echo=True)
    admit(scored, Served(has_prompt_scores=True))
    assert scored.to_sampling_params(8, {}).prompt_logprobs == 0


TOOL = {"type": "function", "function": {"name": "f"}}
OF_RESPONSE = {"type": "function", "name": "f", "parameters": {}, "strict": None}
FORM = {"type": "json_schema", "name": "a", "schema": {"type": "object"}}


@pytest.mark.parametrize(
    ("fields", "named", "words"),
    [
        ({"diffusing": True}, "diffusing", "settled text alone"),
        ({"diffusion_threshold": 0.5}, "diffusion_threshold", "belongs into vllm_xargs"),
        ({"vllm_xargs": {"foo": 1}}, "vllm_xargs.foo", "stand beside it"),
        ({"max_tokens": 5}, "max_tokens", "though chats and completions have it"),
        ({"max_output_token": 5}, "max_output_token", "did you mean max_output_tokens?"),
        ({"store": True}, "store", "keeps no answers"),
        ({"previous_response_id": "resp_1"}, "previous_response_id", "keeps no answers"),
        ({"service_tier": "flex"}, "service_tier", "one tier"),
        ({"conversation": "c"}, "conversation", "not kept"),
        ({"reasoning": {"summary": "detailed"}}, "reasoning.summary", "not summed up"),
        ({"text": {"verbosity": "low"}}, "text.verbosity", "in the prompt"),
        ({"text": {"colour": "red"}}, "text.colour", "is not known"),
        ({"tools": [{"type": "web_search"}]}, "tools[0].type", "functions of the client's"),
        (
            {
                "tools": [OF_RESPONSE],
                "tool_choice": {"type": "allowed_tools", "mode": "auto", "tools": []},
            },
            "tool_choice",
            "send fewer tools",
        ),
        ({"tools": [OF_RESPONSE], "text": {"format": FORM}}, "tools", "with text.format"),
        ({"logit_bias": {"5": 1e10}}, "logit_bias.5", "from -100 to 100"),
        ({"priority": 1}, "priority", "--scheduling-policy"),
    ],
)
def test_responses_are_admitted_alike(fields: dict[str, Any], named: str, words: str) -> None:
    body = ResponseRequest.model_validate({"input": "a"} | fields)
    with pytest.raises(VLLMValidationError, match=re.escape(words)) as caught:
        admit_response(body, BLOCK_CAUSAL)
    assert caught.value.parameter == named


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"store": False, "service_tier": "auto", "metadata": {"a": "b"}, "user": "eva"},
        {"reasoning": {"effort": "low", "summary": "auto"}, "text": {"verbosity": "medium"}},
        {"include": ["reasoning.encrypted_content"], "truncation": "auto"},
        {"tools": [OF_RESPONSE], "tool_choice": "required"},
        {"tools": [OF_RESPONSE], "tool_choice": "none", "text": {"format": FORM}},
        {"vllm_xargs": {"diffusion_threshold": 0.5}},
    ],
)
def test_what_clients_of_responses_send_passes(fields: dict[str, Any]) -> None:
    admit_response(ResponseRequest.model_validate({"input": "a"} | fields), BLOCK_CAUSAL)


MESSAGE = {"model": "m", "max_tokens": 4, "messages": [{"role": "user", "content": "a"}]}


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"diffusing": True}, "diffusing"),
        ({"seed": 1}, "seed"),
        ({"stop_sequence": ["a"]}, "stop_sequence"),
        ({"vllm_xargs": {"bar": 1}}, "vllm_xargs.bar"),
        ({"service_tier": "priority"}, "service_tier"),
        ({"container": "c"}, "container"),
        ({"watermarking": True}, "watermarking"),
        ({"metadata": {"user_id": "a"}, "cache_control": {"type": "ephemeral"}}, None),
        ({"service_tier": "auto", "speed": "standard", "mcp_servers": []}, None),
    ],
)
def test_messages_are_admitted_alike(fields: dict[str, Any], named: str | None) -> None:
    asked = MessagesRequest.model_validate(MESSAGE | fields)
    if named is None:
        check_records(asked, "messages")
        return
    with pytest.raises(VLLMValidationError) as caught:
        check_records(asked, "messages")
    assert caught.value.parameter == named


@pytest.mark.parametrize(
    ("form", "other"),
    [
        ({"response_format": {"type": "json_object"}}, "response_format"),
        ({"structured_outputs": {"regex": "a"}}, "structured_outputs"),
    ],
)
def test_tools_do_not_go_together_with_a_form(form: dict[str, Any], other: str) -> None:
    for choice in ({}, {"tool_choice": "auto"}):
        error = refusal("chat", tools=[TOOL], **form, **choice)
        assert error.parameter == "tools"
        assert f"tools=['f'] does not go together with {other}" in str(error)
    forced = refusal("chat", tools=[TOOL], tool_choice="required", **form)
    assert f"tool_choice='required' does not go together with {other}" in str(forced)
    admit(request("chat", tools=[TOOL], tool_choice="none", **form), BLOCK_CAUSAL)


@each_route
@pytest.mark.parametrize("bias", [1e10, -100.5, float("nan"), float("inf")])
def test_a_bias_that_vllm_would_cut_is_refused(route: str, bias: float) -> None:
    assert refusal(route, logit_bias={"5": bias}).parameter == "logit_bias.5"
    admit(request(route, logit_bias={"5": -100, "6": 100}), BLOCK_CAUSAL)
