"""Patches in the front end: requests checked, responses and metrics completed."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from vllm_diffusion.compat.patch import once, serves, take

if TYPE_CHECKING:
    from vllm.config import ModelConfig
    from vllm.sampling_params import SamplingParams


@once
def request_validation() -> None:
    """This package's own check of sampling parameters for its models.

    Without it vLLM refuses every request for a diffusion model whose
    temperature is not 1 or that has a seed. Acts in the front end, the only
    place that calls it. Remove when vLLM asks the model what it honours.
    """
    from vllm.sampling_params import SamplingParams

    original = take(SamplingParams, "_validate_diffusion")

    def _validate_diffusion(self: SamplingParams, model_config: ModelConfig) -> None:
        if not serves(model_config):
            original(self, model_config)
            return
        from vllm_diffusion.server.validation import validate

        validate(self, model_config)

    SamplingParams._validate_diffusion = _validate_diffusion  # type: ignore[method-assign]


@once
def structured_output_validation() -> None:
    """Structured output for this package's models, checked by vLLM and by us.

    Without it vLLM refuses every grammar for a diffusion model, because its own
    sampler can only follow one from left to right. Acts in the front end, the
    only place that calls it. Remove when vLLM asks the model.
    """
    from vllm.sampling_params import SamplingParams

    original = take(SamplingParams, "_validate_structured_outputs")

    def _validate_structured_outputs(
        self: SamplingParams, model_config: ModelConfig, *args: Any, **kwargs: Any
    ) -> None:
        if not serves(model_config):
            original(self, model_config, *args, **kwargs)
            return
        from vllm_diffusion.server.structured import AsAutoregressive, check_structured

        # vLLM's check looks at ``is_diffusion`` alone.
        original(self, AsAutoregressive(model_config), *args, **kwargs)
        check_structured(self, model_config)

    SamplingParams._validate_structured_outputs = (  # type: ignore[method-assign]
        _validate_structured_outputs
    )


@once
def prompt_validation() -> None:
    """This package's check of a request together with its prompt.

    Without it a guided request whose prompt does not fit twice into the context
    would fail in the engine. Acts in the front end, where prompts become
    requests. Remove when vLLM shows a request's prompt to its validators.
    """
    from vllm.v1.engine.input_processor import InputProcessor

    original = take(InputProcessor, "process_inputs")

    def process_inputs(self: InputProcessor, *args: Any, **kwargs: Any) -> Any:
        request = original(self, *args, **kwargs)
        if serves(self.model_config):
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


@once
def prometheus_metrics() -> None:
    """Forwards by kind, tokens per forward and steps by block on ``/metrics``.

    Without it only vLLM's three ``vllm:diffusion_*`` counters are there. Acts
    where Prometheus metrics are made, the front end; other models' metrics stay
    as they are. A stat logger plugin would switch statistics on for every
    model. Remove when vLLM counts forwards of diffusion models.
    """
    from vllm.v1.metrics.loggers import PrometheusStatLogger

    from vllm_diffusion.server.prometheus import DiffusionProm

    take(PrometheusStatLogger, "_spec_decoding_cls")
    PrometheusStatLogger._spec_decoding_cls = DiffusionProm


@once
def response_metrics() -> None:
    """Diffusion's own numbers in the ``metrics`` of a response.

    Without it vLLM would report an "acceptance length" that counts a bonus
    token, which diffusion models do not have. Acts in the front end, on records
    of this package alone (their histogram is empty). Remove when vLLM's
    response has metrics of diffusion models.
    """
    from vllm.v1.metrics.stats import RequestSpecDecodeMetrics

    original = take(RequestSpecDecodeMetrics, "to_dict")

    def to_dict(self: RequestSpecDecodeMetrics) -> dict[str, Any]:
        if self.histogram:
            result: dict[str, Any] = original(self)
            return result
        from vllm_diffusion.server.response import to_response

        return to_response(self)

    RequestSpecDecodeMetrics.to_dict = to_dict  # type: ignore[method-assign]


@once
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

    original = take(api_router, "init_generate_state")

    async def init_generate_state(engine_client: Any, state: Any, *args: Any, **kw: Any) -> None:
        await original(engine_client, state, *args, **kw)
        model_config = engine_client.vllm_config.model_config
        if not serves(model_config):
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
                take(type(handler), method)
                check = partial(admit, served=served, handler=handler)
                setattr(handler, method, wrap(getattr(handler, method), plan, check))
                limit_output(handler.default_sampling_params, plan)

    api_router.init_generate_state = init_generate_state


@once
def chat_route() -> None:
    """``reasoning_effort`` takes the level ``instant``, and every level a meaning of ours.

    Without it vLLM's request model refuses ``instant``, and the other levels only
    reach the chat template. Acts in the API server: the route gets a request
    model of its own once the server is known to be of our models. Remove when
    vLLM lets a model read requests.
    """
    from vllm.entrypoints.generate import api_router

    register = take(api_router, "register_generate_api_routers")
    original = take(api_router, "init_generate_state")
    apps: list[Any] = []

    def register_generate_api_routers(app: Any) -> None:
        register(app)
        apps.append(app)

    async def init_generate_state(engine_client: Any, state: Any, *args: Any, **kw: Any) -> None:
        await original(engine_client, state, *args, **kw)
        if not serves(engine_client.vllm_config.model_config):
            return
        from vllm_diffusion.server.chat_route import take_levels

        for app in apps:
            if app.state is state:
                take_levels(app)

    api_router.register_generate_api_routers = register_generate_api_routers
    api_router.init_generate_state = init_generate_state


@once
def server_end() -> None:
    """Requests are answered when the server ends, and its engine's death is its exit code.

    Without it SIGTERM stops the engine, and requests that it was at wait for good, as does
    a server for a client that does not read; a server whose engine has died ends with
    exit code 0, so that nothing starts it again. Acts in the API server, on that of our
    models alone. Remove when vLLM fails requests in ``AsyncLLM.shutdown``, limits
    ``uvicorn``'s graceful shutdown, and returns a code that is not 0 once the engine is dead.
    """
    from vllm.entrypoints.generate import api_router

    original = take(api_router, "init_generate_state")

    async def init_generate_state(engine_client: Any, state: Any, *args: Any, **kw: Any) -> None:
        await original(engine_client, state, *args, **kw)
        if not serves(engine_client.vllm_config.model_config):
            return
        from vllm.entrypoints.launchers.api_server import entry

        from vllm_diffusion.server.ending import UNREAD_SECONDS, Ending

        take(type(engine_client), "shutdown")
        take(type(engine_client), "check_admission")
        Ending(engine_client).install()
        serve_http = take(entry, "serve_http")
        entry.serve_http = partial(serve_http, timeout_graceful_shutdown=UNREAD_SECONDS)

    api_router.init_generate_state = init_generate_state
