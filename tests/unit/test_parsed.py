"""A request is parsed once: what travels, who refuses, and the table of what excludes what."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from vllm_diffusion.family.record import FamilyRecord
from vllm_diffusion.family.rows import LLADA, LLADA2, NEMOTRON_LABS, SDAR
from vllm_diffusion.request.conflicts import CONFLICTS, conflict
from vllm_diffusion.request.features import FEATURES, Asked
from vllm_diffusion.request.params import InvalidFieldError
from vllm_diffusion.request.parsed import PARSED, VERSION, parse, received
from vllm_diffusion.request.plan import DecodePlan, make_plan


def plan_of(record: FamilyRecord = SDAR, **options: Any) -> DecodePlan:
    return make_plan(
        record, mask_id=3, block_length=32, vocab_size=512, generation={}, options=options
    )


def params_of(extra_args: dict[str, Any] | None, **said: Any) -> Any:
    nothing = {"structured_outputs": None, "thinking_token_budget": None}
    return SimpleNamespace(extra_args=extra_args, **nothing | said)


def sent(packed: Any) -> Any:
    """As the engine gets it: through vLLM's serializer, tuples and all."""
    serial = pytest.importorskip("vllm.v1.serial_utils", reason="requests travel by vLLM")
    from vllm.sampling_params import SamplingParams

    encoder, decoder = serial.MsgpackEncoder(), serial.MsgpackDecoder(SamplingParams)
    return decoder.decode(encoder.encode(SamplingParams(extra_args={PARSED: packed, "other": 1})))


@pytest.mark.parametrize(
    ("record", "fields"),
    [
        (SDAR, {}),
        (SDAR, {"threshold": 0.5, "block_length": 16}),
        (LLADA, {"kv_cache": "dual", "max_steps": 9}),
        (LLADA, {"guidance_scale": 1.5}),
        (LLADA2, {"preset": "quality"}),
        (SDAR, {"effort": "low", "policy": "entropy"}),
        (SDAR, {"seed_canvas": [7, 3, 8], "pinned": [2, 0]}),
    ],
)
def test_the_engine_gets_what_was_parsed(record: FamilyRecord, fields: dict[str, Any]) -> None:
    plan = plan_of(record)
    parsed = parse({f"diffusion_{name}": value for name, value in fields.items()}, plan)
    compiled = {"digest": "x", "ending": [1, 2], "tokens": {"a": ["<i4", [1], b"\0\0\0\1"]}}
    for asked in (parsed, replace(parsed, compiled=compiled, reasoning_ended=True)):
        got = received(sent(asked.pack(plan)), plan)
        assert (got.decode, got.compiled, got.reasoning_ended, got.seed) == (
            asked.decode,
            asked.compiled,
            asked.reasoning_ended,
            asked.seed,
        )
    assert (parsed.pack(plan) is None) == (not fields)


def test_without_our_front_end_fields_are_parsed_in_the_engine() -> None:
    plan = plan_of()
    params = params_of({"diffusion_threshold": 0.5, "other": 1})
    assert received(params, plan).decode == parse({"diffusion_threshold": 0.5}, plan).decode
    assert received(params_of(None), plan).decode is plan.defaults
    with pytest.raises(InvalidFieldError, match="diffusion_threshold=2"):
        received(params_of({"diffusion_threshold": 2}), plan)


def test_without_our_front_end_a_form_is_refused_by_name() -> None:
    form = SimpleNamespace(all_constraints_none=lambda: False)
    with pytest.raises(InvalidFieldError, match=r"(?s)^structured_outputs=.*has not passed"):
        received(params_of(None, structured_outputs=form), plan_of())
    with pytest.raises(InvalidFieldError, match=r"^diffusion_keywords=\['a'\].*has not passed"):
        received(params_of({"diffusion_keywords": ["a"]}), plan_of())
    free = SimpleNamespace(all_constraints_none=lambda: True)
    received(params_of({"diffusion_min_chars": 0}, structured_outputs=free), plan_of())


@pytest.mark.parametrize("packed", [[VERSION + 1, None, None, False], [VERSION], {}, "x", 5])
def test_what_another_version_packs_is_refused(packed: Any) -> None:
    with pytest.raises(ValueError, match=r"extra_args\['_diffusion'\] is not what this version"):
        received(params_of({PARSED: packed}), plan_of())


def test_every_pair_is_recognised_by_something() -> None:
    """A misspelt feature would be taken for a sampling parameter, which is an error then."""
    vllm = pytest.importorskip("vllm", reason="fields are vLLM's")
    fields = set(vllm.SamplingParams.__struct_fields__)
    rows = {row.one for rows in CONFLICTS.values() for row in rows}
    assert rows | set(CONFLICTS) <= set(FEATURES) | fields
    assert set(FEATURES) <= rows | set(CONFLICTS)


def test_the_first_pair_of_a_feature_is_named() -> None:
    vllm = pytest.importorskip("vllm", reason="fields are vLLM's")
    plan = plan_of(NEMOTRON_LABS)
    parsed = parse({"diffusion_policy": "self_speculation"}, plan)
    params = vllm.SamplingParams(logprobs=1, repetition_penalty=2.0)
    asked = Asked(params=params, parsed=parsed, record=plan.record)
    refusal = conflict(asked, "words", "form", "speculation")
    assert refusal is not None
    assert refusal.field == "repetition_penalty"
    assert conflict(asked, "words", "form", "thinking_token_budget", "unread prompt") is None


def test_a_copy_of_the_parameters_shares_the_parsed_request() -> None:
    parsed = parse({"diffusion_threshold": 0.5}, plan_of())
    assert deepcopy({PARSED: parsed})[PARSED] is parsed


def model_of(record: FamilyRecord = SDAR) -> Any:
    return SimpleNamespace(diffusion_plan=plan_of(record), max_model_len=64)


def server_of(record: FamilyRecord = SDAR) -> Any:
    config = SimpleNamespace(
        enable_in_reasoning=False,
        disable_any_whitespace=False,
        disable_additional_properties=False,
        backend="auto",
    )
    return SimpleNamespace(model_config=model_of(record), structured_outputs_config=config)


def test_the_front_end_parses_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """From where a request comes in to what the engine is sent, and again in neither process."""
    vllm = pytest.importorskip("vllm", reason="requests are vLLM's")
    from vllm_diffusion.request import parsed as module
    from vllm_diffusion.server import compilation, reasoning, validation
    from vllm_diffusion.server.structured import constraint_of

    reads: list[str] = []
    for name in ("read_fields", "read_lexical"):
        read = getattr(module, name)

        def counted(*args: Any, _name: str = name, _read: Any = read, **kwargs: Any) -> Any:
            reads.append(_name)
            return _read(*args, **kwargs)

        monkeypatch.setattr(module, name, counted)
    server, extra_args = server_of(), {"diffusion_threshold": 0.5, "other": 1}
    clients = vllm.SamplingParams(extra_args=dict(extra_args), max_tokens=8)
    taken = validation.take(clients, server.model_config, reasoning_ended=True)
    assert clients.extra_args == extra_args
    taken = validation.take(taken, server.model_config)
    assert constraint_of(taken, server) is None
    request: Any = SimpleNamespace(sampling_params=taken.clone(), prompt_token_ids=[5])
    reasoning.resolve_effort(request, server)
    validation.check_prompt(request, server)
    compilation.attach(request, server, None)
    assert set(request.sampling_params.extra_args) == {"other", PARSED}
    plan = server.model_config.diffusion_plan
    for _ in ("scheduler", "worker"):
        assert received(request.sampling_params, plan).decode.threshold == 0.5
    assert reads == ["read_fields", "read_lexical"]


def test_what_a_client_sends_under_the_key_is_not_believed() -> None:
    vllm = pytest.importorskip("vllm", reason="requests are vLLM's")
    from vllm_diffusion.server import validation
    from vllm_diffusion.server.taken import known

    model = model_of()
    forged = [VERSION, ["static", *[0] * 8], None, True]
    params = vllm.SamplingParams(extra_args={PARSED: forged, "diffusion_threshold": 0.5})
    taken = known(validation.take(params, model))
    assert taken is not None
    assert (taken.decode.threshold, taken.decode.policy) == (0.5, "confidence")
