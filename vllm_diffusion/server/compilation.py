"""Constraints of requests, compiled before they reach the engine.

``prepare`` is awaited where the server takes a request, so that nothing waits on its event loop;
``attach`` then finds what was compiled, and only an ``LLM()`` without a loop waits in it.
"""

from __future__ import annotations

import asyncio
import atexit
from typing import TYPE_CHECKING, Any

from vllm.exceptions import VLLMValidationError

from vllm_diffusion.request.keys import COMPILED, REASONING_ENDED
from vllm_diffusion.request.params import PREFIX
from vllm_diffusion.request.wording import WORDING_PARSERS
from vllm_diffusion.server.structured import check_structured, constraint_of
from vllm_diffusion.server.validation import validate
from vllm_diffusion.startup.serving import plan_of
from vllm_diffusion.structured.check_service import CheckService
from vllm_diffusion.structured.compiled import Compiled
from vllm_diffusion.structured.constraint import Constraint, RefusedError
from vllm_diffusion.structured.limits import read_limits
from vllm_diffusion.structured.service import CompileService
from vllm_diffusion.structured.vocabulary import TokenizerSpec

if TYPE_CHECKING:
    from vllm.config import VllmConfig
    from vllm.sampling_params import SamplingParams
    from vllm.v1.engine import EngineCoreRequest

_SERVICES: dict[int, tuple[VllmConfig, CompileService]] = {}
_CHECKS: dict[int, tuple[VllmConfig, CheckService]] = {}


def service_of(vllm_config: VllmConfig, tokenizer: Any) -> CompileService:
    """The service of a server; its processes are started by the first constraint.

    Raises:
        VLLMValidationError: the server has no tokenizer, or none that constraints can use.
    """
    known = _SERVICES.get(id(vllm_config))
    if known is not None:
        return known[1]
    if tokenizer is None:
        raise VLLMValidationError(
            "structured output needs a tokenizer, and this server has none (--skip-tokenizer-init)",
            parameter="structured_outputs",
        )
    size = vllm_config.model_config.get_vocab_size()
    try:
        spec = TokenizerSpec.of(tokenizer, size, plan_of(vllm_config.model_config).mask_id)
    except RefusedError as error:
        raise VLLMValidationError(str(error), parameter="structured_outputs") from error
    service = CompileService(spec, read_limits(vllm_config.additional_config))
    atexit.register(service.close)
    # Kept with its config, so that no other one gets its address.
    _SERVICES[id(vllm_config)] = (vllm_config, service)
    return service


def checks_of(vllm_config: VllmConfig) -> CheckService:
    """What checks the finished texts of a server."""
    known = _CHECKS.get(id(vllm_config))
    if known is not None:
        return known[1]
    service = CheckService(read_limits(vllm_config.additional_config))
    atexit.register(service.close)
    _CHECKS[id(vllm_config)] = (vllm_config, service)
    return service


def _field(constraint: Constraint, params: SamplingParams) -> str:
    if constraint.kind == "lexical":
        return next(
            PREFIX + name for name in WORDING_PARSERS if PREFIX + name in (params.extra_args or {})
        )
    return f"structured_outputs.{constraint.kind}"


def _refused(constraint: Constraint, params: SamplingParams, error: Exception) -> Exception:
    if isinstance(error, RefusedError):
        field = _field(constraint, params)
        return VLLMValidationError(f"{field} cannot be served: {error!s:.600}", parameter=field)
    return error


def check_early(params: SamplingParams, model_config: Any) -> None:
    """What costs nothing to refuse, before anything is compiled.

    Raises:
        VLLMValidationError: see ``validate`` and ``check_structured``.
    """
    validate(params, model_config)
    check_structured(params, model_config)


async def prepare(
    params: SamplingParams, vllm_config: VllmConfig, tokenizer: Any
) -> Compiled | None:
    """Have the request's constraint compiled, if it has one; keep the result until it is attached.

    Raises:
        VLLMValidationError: it is not served.
    """
    constraint = constraint_of(params, vllm_config)
    if constraint is None:
        return None
    service = service_of(vllm_config, tokenizer)
    checks_of(vllm_config).start()
    try:
        if (known := service.known(constraint)) is not None:
            return known
        return await asyncio.wrap_future(service.submit(constraint))
    except Exception as error:
        raise _refused(constraint, params, error) from error


def attach(request: EngineCoreRequest, vllm_config: VllmConfig, tokenizer: Any) -> None:
    """Give the engine what the request's text is held to, in the place of how it was said.

    Called with the request's own copy of its sampling parameters, once its prompt is known.

    Raises:
        VLLMValidationError: it is not served, or no text of it fits into the output.
    """
    params = request.sampling_params
    if params is None:
        return
    extra_args = dict(params.extra_args or {})
    extra_args.pop(COMPILED, None)
    constraint = constraint_of(params, vllm_config)
    if constraint is None:
        extra_args.pop(REASONING_ENDED, None)
        params.extra_args = extra_args or None
        return
    service = service_of(vllm_config, tokenizer)
    try:
        compiled = service.compile(constraint)
    except Exception as error:
        raise _refused(constraint, params, error) from error
    _check_room(request, params, compiled, _field(constraint, params), vllm_config)
    extra_args[COMPILED] = compiled.pack()
    params.extra_args = extra_args
    # From here on it is followed by the worker alone: the engine core compiles nothing.
    params.structured_outputs = None


def _check_room(
    request: EngineCoreRequest,
    params: SamplingParams,
    compiled: Compiled,
    field: str,
    vllm_config: VllmConfig,
) -> None:
    assert params.max_tokens is not None
    length = vllm_config.model_config.max_model_len - len(request.prompt_token_ids or ())
    room = min(params.max_tokens, length)
    needed = len(compiled.ending) + 1
    if needed <= room:
        return
    least = "the shortest" if compiled.is_shortest else "the shortest that was found"
    raise VLLMValidationError(
        f"max_tokens={params.max_tokens} cannot be honoured: of all texts of {field} {least} has "
        f"{needed} tokens with the stop token, and the output has {room}; raise max_tokens",
        parameter="max_tokens",
    )
