"""Patches on vLLM, for what no registry or hook offers.

One function each. Every patch touches diffusion architectures of this package
only, is applied once a process, and checks its target: when vLLM has moved,
``RuntimeError`` names the target and the version instead of a silent change.
``ACTIVE`` lists what has been applied, for ``vllm-diffusion doctor``.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from vllm_diffusion.families import FAMILIES
from vllm_diffusion.models.registry import WITHOUT_TRITON

if TYPE_CHECKING:
    from vllm.config import ModelConfig, VllmConfig
    from vllm.sampling_params import SamplingParams

ACTIVE: dict[str, str] = {}
"""Name of each applied patch, and the first line of why."""


def _serves(model_config: ModelConfig | None) -> bool:
    return model_config is not None and model_config.architecture in FAMILIES


def _has_kernels(model_config: ModelConfig | None) -> bool:
    """Does it run without Triton: ours, and on CPUs a model whose decoding is vLLM's own."""
    if model_config is None or _serves(model_config):
        return model_config is not None
    from vllm.platforms import current_platform

    return model_config.architecture in WITHOUT_TRITON and current_platform.is_cpu()


def _take(owner: Any, name: str) -> Any:
    """The attribute to be wrapped, or a clear failure."""
    target = vars(owner).get(name)
    if target is None:
        import vllm

        raise RuntimeError(
            f"vllm_diffusion.compat: {owner.__name__}.{name} is not in vLLM {vllm.__version__}. "
            "Install a supported vLLM (0.32 or 0.33) or update vllm_diffusion."
        )
    return target


def _once(patch: Callable[[], None]) -> Callable[[], None]:
    def apply() -> None:
        if patch.__name__ not in ACTIVE:
            patch()
            ACTIVE[patch.__name__] = (patch.__doc__ or "").strip().splitlines()[0]

    apply.__name__ = patch.__name__
    apply.__doc__ = (patch.__doc__ or "").strip().splitlines()[0]
    return apply


@_once
def runner_without_triton() -> None:
    """Model Runner V2 for diffusion models where vLLM has no Triton (CPU).

    Without it: "Model Runner V2 requires Triton" at start-up, although this
    package brings the runner's kernels. Acts in every process, since the
    scheduler and the worker must agree on the runner. Only where ``HAS_TRITON``
    is False. Remove when vLLM chooses V2 on CPUs without Triton.
    """
    from vllm.config import VllmConfig
    from vllm.config import vllm as config_module

    if config_module.HAS_TRITON:
        return
    choose = _take(VllmConfig, "use_v2_model_runner").fget
    validate = _take(VllmConfig, "_validate_v2_model_runner")

    def use_v2_model_runner(self: VllmConfig) -> bool:
        return True if _has_kernels(self.model_config) else choose(self)

    def _validate_v2_model_runner(self: VllmConfig) -> None:
        if not _has_kernels(self.model_config):
            validate(self)
        elif unsupported := self._get_v2_model_runner_unsupported_features():
            raise ValueError(f"Model Runner V2 does not support: {', '.join(unsupported)}")

    VllmConfig.use_v2_model_runner = property(use_v2_model_runner)  # type: ignore[assignment]
    VllmConfig._validate_v2_model_runner = _validate_v2_model_runner  # type: ignore[method-assign]


@_once
def request_validation() -> None:
    """This package's own check of sampling parameters for its models.

    Without it vLLM refuses every request for a diffusion model whose
    temperature is not 1 or that has a seed. Acts in the front end, the only
    place that calls it. Remove when vLLM asks the model what it honours.
    """
    from vllm.sampling_params import SamplingParams

    original = _take(SamplingParams, "_validate_diffusion")

    def _validate_diffusion(self: SamplingParams, model_config: ModelConfig) -> None:
        if not _serves(model_config):
            original(self, model_config)
            return
        from vllm_diffusion.server.validation import validate

        validate(self, model_config)

    SamplingParams._validate_diffusion = _validate_diffusion  # type: ignore[method-assign]


@_once
def structured_output_validation() -> None:
    """Structured output for this package's models, checked by vLLM and by us.

    Without it vLLM refuses every grammar for a diffusion model, because its own
    sampler can only follow one from left to right. Acts in the front end, the
    only place that calls it. Remove when vLLM asks the model.
    """
    from vllm.sampling_params import SamplingParams

    original = _take(SamplingParams, "_validate_structured_outputs")

    def _validate_structured_outputs(
        self: SamplingParams, model_config: ModelConfig, *args: Any, **kwargs: Any
    ) -> None:
        if not _serves(model_config):
            original(self, model_config, *args, **kwargs)
            return
        from vllm_diffusion.server.structured import AsAutoregressive, check_structured

        # vLLM's check looks at ``is_diffusion`` alone.
        original(self, AsAutoregressive(model_config), *args, **kwargs)
        check_structured(self, model_config)

    SamplingParams._validate_structured_outputs = (  # type: ignore[method-assign]
        _validate_structured_outputs
    )


@_once
def prompt_validation() -> None:
    """This package's check of a request together with its prompt.

    Without it a guided request whose prompt does not fit twice into the context
    would fail in the engine. Acts in the front end, where prompts become
    requests. Remove when vLLM shows a request's prompt to its validators.
    """
    from vllm.v1.engine.input_processor import InputProcessor

    original = _take(InputProcessor, "process_inputs")

    def process_inputs(self: InputProcessor, *args: Any, **kwargs: Any) -> Any:
        request = original(self, *args, **kwargs)
        if _serves(self.model_config):
            from vllm_diffusion.server.reasoning import settle
            from vllm_diffusion.server.room import check_room
            from vllm_diffusion.server.validation import check_prompt
            from vllm_diffusion.server.wording import constrain

            settle(request, self.vllm_config)
            check_room(request, self.vllm_config, self.tokenizer)
            constrain(request, self.tokenizer, self.model_config.max_model_len)
            check_prompt(request, self.vllm_config)
        return request

    InputProcessor.process_inputs = process_inputs  # type: ignore[method-assign]


@_once
def no_draft_round_trip() -> None:
    """No round trip to the worker after each step for draft tokens that nobody reads.

    Without it every step of a diffusion model asks the worker process for its
    canvases once more, although this package's scheduler derives their widths
    itself. Acts in the engine core, where its scheduler says so. Remove when
    vLLM asks the scheduler whether it wants draft tokens.
    """
    from vllm.v1.engine.core import EngineCore

    original = _take(EngineCore, "post_step")

    def post_step(self: EngineCore, model_executed: bool) -> None:
        if getattr(self.scheduler, "reads_draft_tokens", True):
            original(self, model_executed)

    EngineCore.post_step = post_step  # type: ignore[method-assign]


@_once
def prometheus_metrics() -> None:
    """Forwards by kind, tokens per forward and steps by block on ``/metrics``.

    Without it only vLLM's three ``vllm:diffusion_*`` counters are there. Acts
    where Prometheus metrics are made, the front end; other models' metrics stay
    as they are. A stat logger plugin would switch statistics on for every
    model. Remove when vLLM counts forwards of diffusion models.
    """
    from vllm.v1.metrics.loggers import PrometheusStatLogger

    from vllm_diffusion.server.prometheus import DiffusionProm

    _take(PrometheusStatLogger, "_spec_decoding_cls")
    PrometheusStatLogger._spec_decoding_cls = DiffusionProm


@_once
def response_metrics() -> None:
    """Diffusion's own numbers in the ``metrics`` of a response.

    Without it vLLM would report an "acceptance length" that counts a bonus
    token, which diffusion models do not have. Acts in the front end, on records
    of this package alone (their histogram is empty). Remove when vLLM's
    response has metrics of diffusion models.
    """
    from vllm.v1.metrics.stats import RequestSpecDecodeMetrics

    original = _take(RequestSpecDecodeMetrics, "to_dict")

    def to_dict(self: RequestSpecDecodeMetrics) -> dict[str, Any]:
        if self.histogram:
            result: dict[str, Any] = original(self)
            return result
        from vllm_diffusion.server.response import to_response

        return to_response(self)

    RequestSpecDecodeMetrics.to_dict = to_dict  # type: ignore[method-assign]


@_once
def openai_handlers() -> None:
    """Fields that nobody reads are refused, approximate text is warned of, outputs have an end.

    Without it ``diffusion_*`` fields outside of ``vllm_xargs``, fields that vLLM
    does not know and some that it does are ignored, the warning of an
    approximate cache is only among a response's metrics, which streams without
    usage and requests for several answers lack, a chat without ``max_tokens``
    fills a full-attention model's context, and parsers of tool calls and
    thoughts read a block at once, which several get wrong. Acts in the API
    server, once its handlers are made, on those of our models alone. An endpoint
    plugin could do the same, but vLLM loads these only when told to. Remove when
    vLLM lets a model check and complete requests and responses.
    """
    from vllm.entrypoints.generate import api_router

    original = _take(api_router, "init_generate_state")

    async def init_generate_state(engine_client: Any, state: Any, *args: Any, **kw: Any) -> None:
        await original(engine_client, state, *args, **kw)
        model_config = engine_client.vllm_config.model_config
        if not _serves(model_config):
            return
        from vllm_diffusion.models.serving import plan_of
        from vllm_diffusion.server.admission import Served, admit
        from vllm_diffusion.server.handlers import HANDLERS, limit_output, wrap
        from vllm_diffusion.server.token_feed import feed_by_token

        plan = plan_of(model_config)
        served = Served.of(engine_client.vllm_config, plan)
        feed_by_token(state)
        for name, method in HANDLERS:
            handler = getattr(state, name)
            if handler is not None:
                _take(type(handler), method)
                check = partial(admit, served=served, handler=handler)
                setattr(handler, method, wrap(getattr(handler, method), plan, check))
                limit_output(handler.default_sampling_params, plan)

    api_router.init_generate_state = init_generate_state


@_once
def chat_route() -> None:
    """``reasoning_effort`` takes the level ``instant``, and every level a meaning of ours.

    Without it vLLM's request model refuses ``instant``, and the other levels only
    reach the chat template. Acts in the API server: the route gets a request
    model of its own once the server is known to be of our models. Remove when
    vLLM lets a model read requests.
    """
    from vllm.entrypoints.generate import api_router

    register = _take(api_router, "register_generate_api_routers")
    original = _take(api_router, "init_generate_state")
    apps: list[Any] = []

    def register_generate_api_routers(app: Any) -> None:
        register(app)
        apps.append(app)

    async def init_generate_state(engine_client: Any, state: Any, *args: Any, **kw: Any) -> None:
        await original(engine_client, state, *args, **kw)
        if not _serves(engine_client.vllm_config.model_config):
            return
        from vllm_diffusion.server.chat_route import take_levels

        for app in apps:
            if app.state is state:
                take_levels(app)

    api_router.register_generate_api_routers = register_generate_api_routers
    api_router.init_generate_state = init_generate_state


@_once
def sample_in_the_same_call() -> None:
    """One call of the worker a step instead of two.

    Without it the engine core calls the worker once for the forward and once
    more for the denoising step, so that it can compute a grammar's bitmask in
    between; this package's worker follows grammars itself. Acts in the worker,
    on this package's model state alone, which applies it. Remove when vLLM
    lets a model say that it needs nothing in between.
    """
    from vllm.v1.worker.gpu.model_runner import GPUModelRunner

    from vllm_diffusion.engine.model_state import BlockDiffusionState

    original = _take(GPUModelRunner, "execute_model")

    def execute_model(self: Any, *args: Any, dummy_run: bool = False, **kwargs: Any) -> Any:
        output = original(self, *args, dummy_run=dummy_run, **kwargs)
        is_ours = isinstance(self.model_state, BlockDiffusionState)
        if output is None and is_ours and not dummy_run:
            return self.sample_tokens(None)
        return output

    GPUModelRunner.execute_model = execute_model


PATCHES: tuple[Callable[[], None], ...] = (
    runner_without_triton,
    request_validation,
    structured_output_validation,
    prompt_validation,
    no_draft_round_trip,
    prometheus_metrics,
    response_metrics,
    openai_handlers,
    chat_route,
)

WORKER_PATCHES: tuple[Callable[[], None], ...] = (sample_in_the_same_call,)
"""Those on modules that only a worker loads; the model state applies them."""


def apply() -> None:
    """Apply every patch but the workers'; safe to call again."""
    for patch in PATCHES:
        patch()
