"""``reasoning_effort``: what reaches the engine, and what a budget does not go together with."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("vllm", reason="requests are vLLM's")

from fastapi import FastAPI
from fastapi.testclient import TestClient
from vllm.entrypoints.generate import api_router
from vllm.entrypoints.openai.chat_completion.protocol import ChatCompletionRequest
from vllm.exceptions import VLLMValidationError
from vllm.sampling_params import SamplingParams, StructuredOutputsParams

from vllm_diffusion import compat, patching
from vllm_diffusion.family.record import FamilyRecord
from vllm_diffusion.family.rows import LLADA, LLADA2, NEMOTRON_LABS, SDAR
from vllm_diffusion.request.parsed import PARSED
from vllm_diffusion.request.plan import make_plan
from vllm_diffusion.server.reasoning import resolve_effort
from vllm_diffusion.server.request_models import ChatRequest
from vllm_diffusion.server.routes import take_routes
from vllm_diffusion.server.validation import check_prompt

MAX_LEN = 2000
START, END = 8, 9
THINKS, THOUGHT, PLAIN = [5, START], [START, END, 5], [5, 6]
LEVELS = ("instant", "none", "minimal", "low", "medium", "high", "xhigh", "max")


def config_of(
    record: FamilyRecord = SDAR,
    *,
    has_parser: bool = True,
    in_reasoning: bool = False,
    preset: str | None = None,
    **options: Any,
) -> Any:
    """As much of a ``VllmConfig`` as is read."""
    plan = make_plan(
        record,
        mask_id=3,
        block_length=None,
        vocab_size=512,
        generation={},
        options={"block_length": 16} | options,
        preset=preset,
    )
    reasoning = SimpleNamespace(
        enabled=has_parser,
        reasoning_start_token_ids=[START],
        reasoning_end_token_ids=[7, END],
        natural_reasoning_end_token_ids=[END],
    )
    return SimpleNamespace(
        model_config=SimpleNamespace(diffusion_plan=plan, max_model_len=MAX_LEN),
        cache_config=SimpleNamespace(block_size=16),
        reasoning_config=reasoning,
        structured_outputs_config=SimpleNamespace(enable_in_reasoning=in_reasoning),
    )


def settled(
    level: str | None,
    config: Any = None,
    prompt: list[int] = THINKS,
    extra: dict[str, Any] | None = None,
    **said: Any,
) -> SamplingParams:
    fields = {"max_tokens": 100} | said
    given = (extra or {}) | ({"reasoning_effort": level} if level else {})
    params = SamplingParams(**fields, extra_args=given or None)
    request: Any = SimpleNamespace(sampling_params=params, prompt_token_ids=prompt)
    resolve_effort(request, config or config_of())
    return params


def fields_of(params: SamplingParams) -> dict[str, Any]:
    """The decode fields that the request has then, its own among them."""
    parsed = (params.extra_args or {}).pop(PARSED)
    assert params.extra_args == parsed.sent
    return dict(parsed.fields)


def test_without_a_level_nothing_changes() -> None:
    before = SamplingParams(max_tokens=100, extra_args={"diffusion_threshold": 0.5})
    assert repr(settled(None, extra={"diffusion_threshold": 0.5})) == repr(before)
    assert repr(settled(None)) == repr(SamplingParams(max_tokens=100))


def test_thoughts_have_tokens_of_their_own() -> None:
    params = settled("low")
    assert params.thinking_token_budget == 1024
    # And so have the three markers around them.
    assert params.max_tokens == 100 + 1024 + 3
    assert fields_of(params) == {"effort": "low"}


@pytest.mark.parametrize("level", ["instant", "none"])
def test_no_thoughts(level: str) -> None:
    params = settled(level)
    assert (params.thinking_token_budget, params.max_tokens) == (0, 100)
    effort = {"instant": "instant", "none": "medium"}[level]
    assert fields_of(params) == {"effort": effort}


@pytest.mark.parametrize("level", LEVELS)
def test_thoughts_that_the_template_has_ended_need_no_budget(level: str) -> None:
    params = settled(level, prompt=THOUGHT)
    assert (params.thinking_token_budget, params.max_tokens) == (None, 100)


@pytest.mark.parametrize("prompt", [THINKS, PLAIN])
def test_the_context_bounds_both(prompt: list[int]) -> None:
    room = MAX_LEN - 2
    params = settled("high", prompt=prompt, max_tokens=900)
    assert (params.thinking_token_budget, params.max_tokens) == (room - 900, room)
    # Half of it stays for an answer that asked for more.
    for max_tokens in (1500, room, None):
        params = settled("high", prompt=prompt, max_tokens=max_tokens)
        assert (params.thinking_token_budget, params.max_tokens) == (room // 2, room)


def test_full_attention_thinks_less() -> None:
    assert settled("high", config_of(LLADA)).thinking_token_budget == 512


@pytest.mark.parametrize(
    ("config", "why"),
    [
        (config_of(has_parser=False), "no reasoning parser"),
        (config_of(NEMOTRON_LABS, policy="self_speculation"), "drafts"),
        (config_of(LLADA2, preset="quality"), "edits"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_cannot_be_budgeted_is_refined_alone(config: Any, why: str) -> None:
    params = settled("high", config)
    assert (params.thinking_token_budget, params.max_tokens) == (None, 100)
    assert fields_of(params) == ({} if why == "drafts" else {"effort": "high"})


def test_what_is_said_wins() -> None:
    params = settled("high", thinking_token_budget=7)
    assert (params.thinking_token_budget, params.max_tokens) == (7, 100)
    for name, value in (("effort", "low"), ("preset", "speed")):
        params = settled("high", config_of(LLADA2), extra={f"diffusion_{name}": value})
        assert fields_of(params) == {name: value}
    both = settled("high", extra={"diffusion_threshold": 0.5})
    assert fields_of(both) == {"threshold": 0.5, "effort": "high"}


def test_an_unknown_level_is_refused() -> None:
    with pytest.raises(VLLMValidationError, match="reasoning_effort='huge' is not valid: it must"):
        settled("huge")


@pytest.mark.parametrize("level", [None, *LEVELS])
def test_a_chat_carries_its_level(level: str | None) -> None:
    """And OpenAI's word for no thoughts reaches the chat template."""
    said = {"messages": [{"role": "user", "content": "a"}], "vllm_xargs": {"a": 1}}
    request = ChatRequest(**said, reasoning_effort=level)
    params = request.to_sampling_params(10, {})
    assert (params.extra_args or {}).get("reasoning_effort") == level
    assert (params.extra_args or {})["a"] == 1
    template = request.build_chat_params(None, "auto").chat_template_kwargs
    thinks = {None: None, "instant": False, "none": False}.get(level, True)
    assert template.get("enable_thinking") == thinks


@pytest.mark.parametrize("architecture", ["SDARForCausalLM", "Qwen3ForCausalLM"])
def test_the_routes_of_our_models_alone(architecture: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async def init_generate_state(engine_client: Any, state: Any) -> None:
        pass

    monkeypatch.setattr(api_router, "init_generate_state", init_generate_state)
    monkeypatch.setattr(
        api_router, "register_generate_api_routers", api_router.register_generate_api_routers
    )
    monkeypatch.setattr(patching, "ACTIVE", {})
    compat.frontend.request_routes()
    app, other = FastAPI(), FastAPI()
    for each in (app, other):
        api_router.register_generate_api_routers(each)
    model = SimpleNamespace(architecture=architecture)
    engine = SimpleNamespace(vllm_config=SimpleNamespace(model_config=model))
    asyncio.run(api_router.init_generate_state(engine, app.state))
    is_ours = architecture == "SDARForCausalLM"
    assert levels_of(app) == {*LEVELS} - (set() if is_ours else {"instant"})
    assert levels_of(other) == {*LEVELS} - {"instant"}


def levels_of(app: FastAPI) -> set[str]:
    """The levels that the app's chat route takes, by what reaches its handler."""
    seen: list[Any] = []

    async def create_chat_completion(request: ChatCompletionRequest, raw_request: Any) -> Any:
        seen.append(request)
        raise NotImplementedError

    handler = SimpleNamespace(create_chat_completion=create_chat_completion)
    app.state.openai_serving_chat = handler
    taken = set()
    client = TestClient(app, raise_server_exceptions=False)
    for level in LEVELS:
        body = {"messages": [], "reasoning_effort": level}
        seen.clear()
        client.post("/v1/chat/completions", json=body)
        taken |= {level} if seen else set()
    return taken


def test_a_moved_route_is_named() -> None:
    with pytest.raises(RuntimeError, match="/v1/chat/completions has moved"):
        take_routes(FastAPI())


@pytest.mark.parametrize(
    ("config", "said", "message"),
    [
        (
            config_of(NEMOTRON_LABS, policy="self_speculation"),
            {},
            "thinking_token_budget=5 cannot be honoured: policy 'self_speculation'",
        ),
        (
            config_of(LLADA2),
            {"extra_args": {"diffusion_preset": "speed"}},
            "diffusion_preset='speed' cannot be honoured: an edit could undo",
        ),
        (
            config_of(in_reasoning=True),
            {"structured_outputs": StructuredOutputsParams(json="{}")},
            "thinking_token_budget=5 cannot be honoured: this server's grammars cover thoughts",
        ),
        (
            config_of(),
            {"allowed_token_ids": [5, END]},
            r"the end of thoughts is not among them; add \[7\]",
        ),
        (config_of(), {"bad_words": ["x"]}, "bad_words=.* thinking_token_budget forces the end"),
    ],
)
def test_what_a_budget_does_not_go_together_with(
    config: Any, said: dict[str, Any], message: str
) -> None:
    params = SamplingParams(thinking_token_budget=5, stop_token_ids=[3], **said)
    params._bad_words_token_ids = [[4, 7]] if "bad_words" in said else None
    request: Any = SimpleNamespace(sampling_params=params, prompt_token_ids=THINKS)
    with pytest.raises(VLLMValidationError, match=message):
        check_prompt(request, config)


def test_what_a_budget_goes_together_with() -> None:
    params = SamplingParams(thinking_token_budget=5, allowed_token_ids=[5, 7, END], min_tokens=3)
    request: Any = SimpleNamespace(sampling_params=params, prompt_token_ids=THINKS)
    check_prompt(request, config_of())
