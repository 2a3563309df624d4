"""The patches on vLLM, tried on it: which there are, what they leave alone, how they fail."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("vllm", reason="the patches need vLLM")

import prometheus_client
from vllm.config import VllmConfig
from vllm.entrypoints.generate import api_router
from vllm.entrypoints.launchers.api_server import entry
from vllm.exceptions import VLLMValidationError
from vllm.model_executor.models.registry import ModelRegistry
from vllm.platforms import current_platform
from vllm.sampling_params import SamplingParams
from vllm.v1.engine import output_processor
from vllm.v1.engine.async_llm import AsyncLLM
from vllm.v1.engine.core import EngineCore, EngineCoreProc
from vllm.v1.engine.input_processor import InputProcessor
from vllm.v1.metrics.loggers import PrometheusStatLogger
from vllm.v1.metrics.stats import RequestSpecDecodeMetrics
from vllm.v1.spec_decode.metrics import SpecDecodingStats

from vllm_diffusion import compat, patching, plugin
from vllm_diffusion.compat import contact, registries
from vllm_diffusion.family.rows import FAMILIES
from vllm_diffusion.server.ending import UNREAD_SECONDS, Ending
from vllm_diffusion.server.prometheus import DiffusionProm

TARGETS = {
    "runner_without_triton": (VllmConfig, "use_v2_model_runner"),
    "unknown_architecture": (type(ModelRegistry), "inspect_model_cls"),
    "request_validation": (SamplingParams, "_validate_diffusion"),
    "structured_output_validation": (SamplingParams, "_validate_structured_outputs"),
    "constraint_compilation": (AsyncLLM, "add_request"),
    "output_isolation": (output_processor.OutputProcessor, "process_outputs"),
    "prompt_validation": (InputProcessor, "process_inputs"),
    "request_acceptance": (AsyncLLM, "add_request"),
    "finished_texts": (AsyncLLM, "generate"),
    "no_draft_round_trip": (EngineCore, "post_step"),
    "cut_requests_say_so": (EngineCoreProc, "_send_finish_outputs_to_client"),
    "prometheus_metrics": (PrometheusStatLogger, "_spec_decoding_cls"),
    "response_metrics": (RequestSpecDecodeMetrics, "to_dict"),
    "span_attributes": (output_processor, "instrument_manual"),
    "openai_handlers": (api_router, "init_generate_state"),
    "request_routes": (api_router, "register_generate_api_routers"),
    "server_end": (api_router, "init_generate_state"),
}
OURS = SimpleNamespace(architecture="SDARForCausalLM", is_diffusion=True)
OTHER = SimpleNamespace(architecture="Qwen3ForCausalLM", is_diffusion=False)
OTHER_DIFFUSION = SimpleNamespace(architecture="DiffusionGemmaForBlockDiffusion", is_diffusion=True)


@pytest.fixture
def fresh(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Apply the patches as a new process would; vLLM is put back afterwards."""
    monkeypatch.setattr(patching, "ACTIVE", {})
    for owner, name in TARGETS.values():
        monkeypatch.setattr(owner, name, vars(owner)[name])
    monkeypatch.setattr(
        VllmConfig, "_validate_v2_model_runner", VllmConfig._validate_v2_model_runner
    )
    monkeypatch.setattr(entry, "serve_http", entry.serve_http)
    return compat.apply


def test_the_patches_are_frozen() -> None:
    """A new patch is seen here, and in ``docs/compatibility.md``."""
    names = [patch.contact.name for patch in compat.WORKER_PATCHES]
    of_ranks = ["canvases_in_a_pipeline", "failed_ranks_end"]
    alone = ["sample_in_the_same_call", "rows_without_adapter"]
    assert names == [*alone, *of_ranks, "frames_with_outputs"]
    names = [patch.contact.name for patch in compat.PATCHES]
    assert names == [
        "runner_without_triton",
        "unknown_architecture",
        "request_validation",
        "structured_output_validation",
        "constraint_compilation",
        "output_isolation",
        "prompt_validation",
        "request_acceptance",
        "finished_texts",
        "no_draft_round_trip",
        "cut_requests_say_so",
        "prometheus_metrics",
        "response_metrics",
        "span_attributes",
        "openai_handlers",
        "request_routes",
        "server_end",
    ]


def test_active_patches_say_why(fresh: Callable[[], None]) -> None:
    assert patching.ACTIVE == {}
    fresh()
    assert list(patching.ACTIVE) == list(TARGETS)
    assert all(why.endswith(".") and len(why) > 20 for why in patching.ACTIVE.values())


def test_a_patch_that_does_not_say_when_it_can_go_is_refused() -> None:
    def silent() -> None:
        """It does something. Without it something is missing. Acts somewhere."""

    with pytest.raises(AssertionError, match="silent: 'Without it', 'Acts' and 'Remove when'"):
        contact.patch("vllm.config", breaks="nothing")(silent)


def test_the_record_of_a_patch_is_its_docstring() -> None:
    record = compat.core.no_draft_round_trip.contact
    assert record.what.startswith("No round trip to the worker after each step")
    assert record.why.startswith("every step of a diffusion model asks")
    assert record.acts == "in the engine core, where its scheduler says so"
    assert record.remove == "vLLM asks the scheduler whether it wants draft tokens"


def test_registering_again_changes_nothing() -> None:
    plugin.register()
    before = {name: vars(owner)[name] for owner, name in TARGETS.values()}
    plugin.register()
    assert {name: vars(owner)[name] for owner, name in TARGETS.values()} == before


@pytest.mark.parametrize("name", TARGETS)
def test_a_moved_target_is_named(
    name: str, fresh: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    owner, attribute = TARGETS[name]
    monkeypatch.setattr("vllm.config.vllm.HAS_TRITON", False)
    monkeypatch.delattr(owner, attribute)
    with pytest.raises(RuntimeError) as caught:
        fresh()
    message = str(caught.value)
    assert f"{owner.__name__}.{attribute} is not in vLLM " in message
    assert "Install a supported vLLM" in message
    assert name not in patching.ACTIVE


def config(model_config: Any, unsupported: list[str] | None = None) -> Any:
    """Just what the runner's choice reads of a ``VllmConfig``."""
    made = VllmConfig.__new__(VllmConfig)
    made.model_config = model_config
    made._get_v2_model_runner_unsupported_features = lambda: unsupported or []
    return made


def test_only_our_models_get_the_second_runner(
    fresh: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vllm.config.vllm.HAS_TRITON", False)
    monkeypatch.setattr(VllmConfig, "use_v2_model_runner", property(lambda self: "vLLM's choice"))
    asked: list[Any] = []
    monkeypatch.setattr(VllmConfig, "_validate_v2_model_runner", asked.append)
    # Since vLLM 0.33 a worker asks for Triton, after it has asked for the runner.
    worker = SimpleNamespace(HAS_TRITON=False)
    monkeypatch.setitem(sys.modules, "vllm.v1.worker.gpu_worker", worker)  # type: ignore[arg-type]
    fresh()
    ours, other = config(OURS), config(OTHER)
    assert ours.use_v2_model_runner is worker.HAS_TRITON is True
    assert other.use_v2_model_runner == "vLLM's choice"
    assert worker.HAS_TRITON is False
    assert config(None).use_v2_model_runner == "vLLM's choice"
    ours._validate_v2_model_runner()
    other._validate_v2_model_runner()
    assert asked == [other]
    with pytest.raises(ValueError, match="does not support: sleep mode, elephants"):
        config(OURS, ["sleep mode", "elephants"])._validate_v2_model_runner()


@pytest.mark.parametrize("is_cpu", [True, False])
def test_vllms_diffusion_models_get_the_second_runner_on_cpus_alone(
    is_cpu: bool, fresh: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vllm.config.vllm.HAS_TRITON", False)
    monkeypatch.setattr(current_platform, "is_cpu", lambda: is_cpu, raising=False)
    monkeypatch.setattr(VllmConfig, "use_v2_model_runner", property(lambda self: "vLLM's choice"))
    fresh()
    runner = config(OTHER_DIFFUSION).use_v2_model_runner
    assert runner == (True if is_cpu else "vLLM's choice")


@pytest.mark.parametrize(
    ("is_cpu", "has_triton", "is_ours"),
    [(True, False, True), (True, True, False), (False, True, False), (False, False, False)],
)
def test_vllms_class_is_replaced_where_vllm_refuses_it(
    is_cpu: bool, has_triton: bool, is_ours: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    architecture = OTHER_DIFFUSION.architecture
    before = object()
    monkeypatch.setitem(ModelRegistry.models, architecture, before)
    monkeypatch.setattr("vllm.triton_utils.HAS_TRITON", has_triton)
    monkeypatch.setattr(current_platform, "is_cpu", lambda: is_cpu, raising=False)
    registries.register()
    assert (ModelRegistry.models[architecture] is not before) == is_ours


def test_with_triton_the_runner_is_vllms_choice(
    fresh: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vllm.config.vllm.HAS_TRITON", True)
    choice = vars(VllmConfig)["use_v2_model_runner"]
    fresh()
    assert vars(VllmConfig)["use_v2_model_runner"] is choice


def test_requests_of_other_models_are_checked_by_vllm(
    fresh: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Any] = []
    monkeypatch.setattr(
        SamplingParams, "_validate_diffusion", lambda self, model: asked.append(model)
    )
    checked: list[Any] = []
    monkeypatch.setattr(
        "vllm_diffusion.server.validation.validate", lambda params, model: checked.append(model)
    )
    fresh()
    for model in (OTHER, OTHER_DIFFUSION, OURS):
        SamplingParams(temperature=0.5)._validate_diffusion(model)
    assert asked == [OTHER, OTHER_DIFFUSION]
    assert checked == [OURS]


def test_vllms_refusal_of_other_diffusion_models_stays(fresh: Callable[[], None]) -> None:
    fresh()
    with pytest.raises(VLLMValidationError, match="not yet supported with diffusion models"):
        SamplingParams(temperature=0.5)._validate_diffusion(OTHER_DIFFUSION)


def test_constraints_are_compiled_before_our_requests_alone(
    fresh: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    taken: list[Any] = []
    prepared: list[Any] = []

    async def add_request(self: Any, request_id: str, prompt: Any, params: Any, **kw: Any) -> str:
        taken.append((request_id, params.extra_args))
        return request_id

    async def prepare(params: Any, vllm_config: Any, tokenizer: Any) -> object:
        prepared.append(params)
        return object()

    def take(params: Any, model_config: Any, *, reasoning_ended: bool) -> Any:
        assert reasoning_ended
        return SamplingParams(extra_args={"taken": True})

    monkeypatch.setattr(AsyncLLM, "add_request", add_request)
    monkeypatch.setattr("vllm_diffusion.server.compilation.prepare", prepare)
    monkeypatch.setattr("vllm_diffusion.server.validation.take", take)
    fresh()
    for model, isolates in ((OTHER, False), (OTHER_DIFFUSION, False), (OURS, True)):
        engine = SimpleNamespace(
            model_config=model,
            vllm_config=None,
            input_processor=SimpleNamespace(tokenizer=None),
            output_processor=SimpleNamespace(),
        )
        call = AsyncLLM.add_request(engine, "one", "x", SamplingParams(), reasoning_ended=True)
        assert asyncio.run(call) == "one"
        assert hasattr(engine.output_processor, "isolates") == isolates
    assert len(prepared) == 1
    assert [said for _, said in taken] == [None, None, {"taken": True}]


def test_outputs_of_other_models_stay_together(
    fresh: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Any] = []
    monkeypatch.setattr(
        output_processor.OutputProcessor,
        "process_outputs",
        lambda self, outputs: seen.append(outputs),
    )
    fresh()
    processor = output_processor.OutputProcessor.__new__(output_processor.OutputProcessor)
    output_processor.OutputProcessor.process_outputs(processor, [1, 2])
    assert seen == [[1, 2]]


def test_acceptance_metrics_of_other_models_stay(fresh: Callable[[], None]) -> None:
    record = RequestSpecDecodeMetrics.new(2)
    before = record.to_dict()
    fresh()
    assert record.to_dict() == before
    assert "diffusion" not in record.to_dict()
    ours = RequestSpecDecodeMetrics(
        num_spec_tokens=4, num_draft_tokens=8, per_step_accepted=[0, 4], per_step_drafted=[4, 4]
    )
    assert ours.to_dict()["diffusion"]["num_denoising_steps"] == 2


class Parser:
    """Stands for vLLM's, which is fed token by token for our models."""


class Handler:
    """What vLLM keeps for chat requests, as far as the patch looks."""

    def __init__(self) -> None:
        self.default_sampling_params: dict[str, Any] = {}
        self.parser_cls = Parser

    async def create_chat_completion(self, request: Any) -> Any:
        return request

    async def create_completion(self, request: Any) -> Any:
        return request


class Engine:
    """The front end's client of an engine, as far as the patches look."""

    def __init__(self, vllm_config: Any) -> None:
        self.vllm_config = vllm_config

    def shutdown(self, timeout: float | None = None) -> None: ...

    def check_admission(self, n: int = 1) -> None: ...


class Config(SimpleNamespace):
    """An engine's config: what belongs to an engine ends when its config goes."""


def handlers(model_config: Any) -> SimpleNamespace:
    """The server's state, once vLLM and the patch have made it."""
    state = SimpleNamespace(openai_serving_chat=Handler(), openai_serving_completion=None)
    vllm_config = Config(
        model_config=model_config,
        scheduler_config=SimpleNamespace(policy="fcfs"),
        kv_transfer_config=None,
        structured_outputs_config=SimpleNamespace(reasoning_parser=""),
        additional_config={},
    )
    state.engine = Engine(vllm_config)
    asyncio.run(api_router.init_generate_state(state.engine, state, "args"))
    return state


def test_handlers_of_our_models_alone_are_wrapped(
    fresh: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[Any] = []

    async def init_generate_state(engine_client: Any, state: Any, *args: Any) -> None:
        made.append(args)

    monkeypatch.setattr(api_router, "init_generate_state", init_generate_state)
    fresh()
    serve_http = entry.serve_http
    for model in (OTHER, OTHER_DIFFUSION):
        state = handlers(model)
        untouched = {"default_sampling_params": {}, "parser_cls": Parser}
        assert vars(state.openai_serving_chat) == untouched
        assert "shutdown" not in vars(state.engine)
        assert entry.serve_http is serve_http
    plan = SimpleNamespace(record=FAMILIES["LLaDAModelLM"])
    ours = SimpleNamespace(architecture="LLaDAModelLM", diffusion_plan=plan, served_model_name="x")
    ours.max_model_len = 64
    state = handlers(ours)
    assert isinstance(state.engine.shutdown, Ending)
    assert entry.serve_http.keywords == {"timeout_graceful_shutdown": UNREAD_SECONDS}
    wrapped = state.openai_serving_chat
    assert "create_chat_completion" in vars(wrapped)
    assert wrapped.default_sampling_params == {"max_tokens": 512}
    assert Parser in wrapped.parser_cls.__mro__[1:]
    assert made == [("args",)] * 3
    monkeypatch.delattr(Handler, "create_chat_completion")
    with pytest.raises(RuntimeError, match=r"Handler\.create_chat_completion is not in vLLM"):
        handlers(ours)


@pytest.mark.parametrize("num_spec_tokens", [1, 4])
def test_counters_of_speculative_decoding_stay(num_spec_tokens: int) -> None:
    """A model that drafts tokens gets none of the diffusion metrics."""
    registry = prometheus_client.REGISTRY
    before = set(registry._collector_to_names)
    recorder = DiffusionProm(
        SimpleNamespace(num_speculative_tokens=num_spec_tokens), ["engine"], {0: ["0"]}
    )
    stats = SpecDecodingStats.new(num_spec_tokens)
    stats.observe_draft(num_draft_tokens=num_spec_tokens, num_accepted_tokens=1)
    recorder.observe(stats)
    collectors = set(registry._collector_to_names) - before
    made = {family.name for collector in collectors for family in collector.collect()}
    for collector in collectors:
        registry.unregister(collector)
    start = "vllm:spec_decode_num_"
    of_tokens = {f"{start}{each}" for each in ("draft_tokens", "accepted_tokens")}
    assert made == {f"{start}drafts", *of_tokens, f"{start}accepted_tokens_per_pos"}
