"""Patches in the front end: requests are checked, and responses completed."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from vllm_diffusion.compat.checks import Calls, Takes
from vllm_diffusion.compat.contact import patch
from vllm_diffusion.patching import serves, take

if TYPE_CHECKING:
    from vllm.config import ModelConfig
    from vllm.sampling_params import SamplingParams


@patch(
    "vllm.sampling_params.SamplingParams._validate_diffusion",
    breaks="Start-up names the target; where vLLM no longer calls it, fields are not checked",
    checks=(
        Calls("vllm.sampling_params.SamplingParams.verify", "self._validate_diffusion"),
        Takes("vllm.sampling_params.SamplingParams._validate_diffusion", ("model_config",)),
    ),
)
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
        from vllm_diffusion.server.taken import known
        from vllm_diffusion.server.validation import validate

        if known(self) is None:
            validate(self, model_config)

    SamplingParams._validate_diffusion = _validate_diffusion  # type: ignore[method-assign]


@patch(
    "vllm.sampling_params.SamplingParams._validate_structured_outputs",
    breaks="Start-up names the target; where vLLM no longer calls it, grammars are not checked",
    checks=(
        Calls("vllm.sampling_params.SamplingParams.verify", "self._validate_structured_outputs"),
        Takes(
            "vllm.sampling_params.SamplingParams._validate_structured_outputs", ("model_config",)
        ),
    ),
)
def structured_output_validation() -> None:
    """Structured output for this package's models, checked by us alone.

    Without it vLLM refuses every grammar for a diffusion model, because its own
    sampler can only follow one from left to right; for others its check has the
    libraries compile what the client sent, on the event loop and without a bound.
    Acts in the front end, the only place that calls it. Remove when vLLM asks
    the model.
    """
    from vllm.sampling_params import SamplingParams

    original = take(SamplingParams, "_validate_structured_outputs")

    def _validate_structured_outputs(
        self: SamplingParams, model_config: ModelConfig, *args: Any, **kwargs: Any
    ) -> None:
        if not serves(model_config):
            original(self, model_config, *args, **kwargs)
            return
        from vllm_diffusion.server.structured import check_structured
        from vllm_diffusion.server.taken import known

        if known(self) is None:
            check_structured(self, model_config)

    SamplingParams._validate_structured_outputs = (  # type: ignore[method-assign]
        _validate_structured_outputs
    )


@patch(
    "vllm.v1.engine.async_llm.AsyncLLM.add_request",
    breaks="Start-up names the target; with other parameters requests fail",
    checks=(
        Takes("vllm.v1.engine.async_llm.AsyncLLM.add_request", ("request_id", "prompt", "params")),
    ),
)
def constraint_compilation() -> None:
    """A request's constraint is compiled before the request is taken, and nobody waits for it.

    Without it the server's event loop would wait for each new schema. Acts in
    the API server. Remove when vLLM lets a model prepare requests.
    """
    from vllm.v1.engine.async_llm import AsyncLLM

    original = take(AsyncLLM, "add_request")

    async def add_request(
        self: Any, request_id: str, prompt: Any, params: Any, *args: Any, **kwargs: Any
    ) -> Any:
        if not serves(self.model_config) or not hasattr(params, "structured_outputs"):
            return await original(self, request_id, prompt, params, *args, **kwargs)
        from vllm_diffusion.server import acceptance
        from vllm_diffusion.server.compilation import prepare
        from vllm_diffusion.server.draft_text import read_draft_async
        from vllm_diffusion.server.taken import known
        from vllm_diffusion.server.validation import take as take_request

        self.output_processor.isolates = True
        has_ended = bool(kwargs.get("reasoning_ended"))
        params = await read_draft_async(params, self.model_config, self.input_processor)
        params = take_request(params, self.model_config, reasoning_ended=has_ended)
        acceptance.taken(known(params))
        compiled = await prepare(params, self.vllm_config, self.input_processor.tokenizer)
        # ``compiled`` lives until the request has been made with it.
        result = await original(self, request_id, prompt, params, *args, **kwargs)
        del compiled
        return result

    AsyncLLM.add_request = add_request  # type: ignore[method-assign]


@patch(
    "vllm.v1.engine.output_processor.OutputProcessor.process_outputs",
    breaks="Start-up names the target; where vLLM no longer calls it, errors end all requests",
    checks=(
        Calls("vllm.v1.engine.async_llm.AsyncLLM", "output_processor.process_outputs"),
        Takes(
            "vllm.v1.engine.output_processor.OutputProcessor.process_outputs",
            ("engine_core_outputs",),
        ),
    ),
)
def output_isolation() -> None:
    """An error in one request's output ends that request, and says what it is.

    Without it an exception of one detokenizer ends every request of the server,
    and a request that the engine has ended gets "Internal server error". Acts in
    the API server, where it serves our models. Remove when vLLM isolates outputs
    and carries an engine's reason.
    """
    from vllm.v1.engine.output_processor import OutputProcessor

    original = take(OutputProcessor, "process_outputs")

    def process_outputs(self: Any, outputs: Any, *args: Any, **kwargs: Any) -> Any:
        if not getattr(self, "isolates", False):
            return original(self, outputs, *args, **kwargs)
        from vllm_diffusion.server.outputs import process_isolated

        return process_isolated(original, self, outputs, *args, **kwargs)

    OutputProcessor.process_outputs = process_outputs  # type: ignore[method-assign]


@patch(
    "vllm.v1.engine.input_processor.InputProcessor.process_inputs",
    breaks="Start-up names the target; where vLLM no longer calls it, constraints are not attached",
    checks=(Calls("vllm.v1.engine.async_llm.AsyncLLM", "self.input_processor.process_inputs"),),
)
def prompt_validation() -> None:
    """This package's check of a request together with its prompt.

    Without it a guided request whose prompt does not fit twice into the context
    would fail in the engine. Acts in the front end, where prompts become
    requests. Remove when vLLM shows a request's prompt to its validators.
    """
    from vllm.v1.engine.input_processor import InputProcessor

    original = take(InputProcessor, "process_inputs")

    def process_inputs(
        self: InputProcessor, request_id: str, prompt: Any, params: Any, *args: Any, **kwargs: Any
    ) -> Any:
        if not serves(self.model_config):
            return original(self, request_id, prompt, params, *args, **kwargs)
        from vllm_diffusion.server.compilation import attach
        from vllm_diffusion.server.draft_text import read_draft
        from vllm_diffusion.server.reasoning import resolve_effort
        from vllm_diffusion.server.validation import check_prompt
        from vllm_diffusion.server.validation import take as take_request

        if hasattr(params, "structured_outputs"):
            params = read_draft(params, self.model_config, self)
            params = take_request(params, self.model_config)
        request = original(self, request_id, prompt, params, *args, **kwargs)
        resolve_effort(request, self.vllm_config)
        check_prompt(request, self.vllm_config)
        attach(request, self.vllm_config, self.tokenizer)
        return request

    InputProcessor.process_inputs = process_inputs  # type: ignore[method-assign]


@patch(
    "vllm.v1.engine.async_llm.AsyncLLM.add_request",
    breaks="Start-up names the target; where `generate` no longer calls it, streams wait for text",
    checks=(Calls("vllm.v1.engine.async_llm.AsyncLLM.generate", "self.add_request"),),
)
def request_acceptance() -> None:
    """Handlers learn when the engine has accepted a request.

    Without it a stream could only begin before its request is checked, so that a
    refusal is an event after a status of 200, or with its first text. Acts in the
    API server, where requests are handed to the engine. Remove when vLLM checks
    requests before it answers.
    """
    from vllm.v1.engine.async_llm import AsyncLLM

    original = take(AsyncLLM, "add_request")

    async def add_request(self: AsyncLLM, *args: Any, **kwargs: Any) -> Any:
        queue = await original(self, *args, **kwargs)
        if serves(self.model_config):
            from vllm_diffusion.server.acceptance import accepted

            accepted()
        return queue

    AsyncLLM.add_request = add_request  # type: ignore[method-assign]


@patch(
    "vllm.v1.engine.async_llm.AsyncLLM.generate",
    breaks="Start-up names the target; with other parameters texts are not checked",
    checks=(Takes("vllm.v1.engine.async_llm.AsyncLLM.generate", ("prompt", "sampling_params")),),
)
def finished_texts() -> None:
    """A finished text of structured output is checked before its end is told.

    Without it a defect of what makes such texts would reach clients as a valid
    answer. Acts in the API server, where outputs leave the engine's client.
    Remove when vLLM checks texts.
    """
    from vllm.v1.engine.async_llm import AsyncLLM

    original = take(AsyncLLM, "generate")

    def generate(
        self: AsyncLLM, prompt: Any, sampling_params: Any, *args: Any, **kwargs: Any
    ) -> Any:
        if not serves(self.model_config):
            return original(self, prompt, sampling_params, *args, **kwargs)
        from vllm_diffusion.server.finished import checked, is_held
        from vllm_diffusion.server.validation import take_or_leave

        if not is_held(sampling_params):
            return original(self, prompt, sampling_params, *args, **kwargs)
        sampling_params = take_or_leave(sampling_params, self.model_config)
        outputs = original(self, prompt, sampling_params, *args, **kwargs)
        return checked(
            outputs,
            sampling_params,
            self.vllm_config,
            self.input_processor.tokenizer,
            has_reasoned=bool(kwargs.get("reasoning_ended")),
        )

    AsyncLLM.generate = generate  # type: ignore[method-assign]


@patch(
    "vllm.entrypoints.generate.api_router.init_generate_state",
    breaks="Start-up names the target; where vLLM no longer calls it, fields are not checked",
    checks=(
        Takes(
            "vllm.entrypoints.generate.api_router.init_generate_state", ("engine_client", "state")
        ),
    ),
)
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
        from vllm_diffusion.server.admission import Served
        from vllm_diffusion.server.finished import get_ready
        from vllm_diffusion.server.install import install
        from vllm_diffusion.server.likelihood_fields import default_of
        from vllm_diffusion.server.request_log import ask_for_lines
        from vllm_diffusion.startup.serving import plan_of

        plan = plan_of(model_config)
        get_ready(engine_client.vllm_config)
        ask_for_lines(engine_client)
        vllm_config = engine_client.vllm_config
        likelihood = default_of(vllm_config.additional_config, plan)
        install(state, plan, Served.of(vllm_config, plan), likelihood)

    api_router.init_generate_state = init_generate_state


@patch(
    "vllm.entrypoints.generate.api_router.register_generate_api_routers",
    "vllm.entrypoints.generate.api_router.init_generate_state",
    breaks="Start-up names the target or the route",
    checks=(Takes("vllm.entrypoints.generate.api_router.register_generate_api_routers", ("app",)),),
)
def request_routes() -> None:
    """Routes read request models of ours, bodies are checked first, errors have string codes.

    Without it vLLM's request models refuse ``reasoning_effort: instant`` and a
    fifth stop string, drop what they do not know of Anthropic's fields, and fail
    with a 500 on some bodies; errors have the status for a code, and several
    shapes. Acts in the API server: routes get models of their own and the app two
    middlewares, once the server is known to be of our models. Remove when vLLM
    lets a model read requests.
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
        from vllm_diffusion.server.routes import take_routes

        for app in apps:
            if app.state is state:
                take_routes(app)

    api_router.register_generate_api_routers = register_generate_api_routers
    api_router.init_generate_state = init_generate_state


@patch(
    "vllm.entrypoints.generate.api_router.init_generate_state",
    "vllm.entrypoints.launchers.api_server.entry.serve_http",
    breaks="Start-up names the target",
    checks=(
        Takes(
            "vllm.entrypoints.generate.api_router.init_generate_state", ("engine_client", "state")
        ),
    ),
)
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
