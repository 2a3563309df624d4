"""Constraints of requests, compiled before they reach the engine.

``prepare`` is awaited where the server takes a request, so that nothing waits on its event loop;
``attach`` then finds what was compiled, and only an ``LLM()`` without a loop waits in it.
"""

from __future__ import annotations

import asyncio
import weakref
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from vllm_diffusion.server.refusal import refused
from vllm_diffusion.server.structured import constraint_of
from vllm_diffusion.server.taken import hand_over, parsed_of
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

    from vllm_diffusion.request.parsed import ParsedRequest

# By the id of the engine's config, as long as there is one: an engine's processes end with it.
_SERVICES: dict[int, CompileService] = {}
_CHECKS: dict[int, CheckService] = {}


def _keep(
    services: dict[int, Any], vllm_config: VllmConfig, service: CompileService | CheckService
) -> None:
    services[id(vllm_config)] = service
    weakref.finalize(vllm_config, _end, services, id(vllm_config))


def _end(services: dict[int, Any], key: int) -> None:
    services.pop(key).close()


def service_of(vllm_config: VllmConfig, tokenizer: Any) -> CompileService:
    """The service of a server; its processes are started by the first constraint.

    Raises:
        VLLMValidationError: the server has no tokenizer, or none that constraints can use.
    """
    known = _SERVICES.get(id(vllm_config))
    if known is not None:
        return known
    if tokenizer is None:
        raise refused(
            "structured output needs a tokenizer, and this server has none (--skip-tokenizer-init)",
            "structured_outputs",
        )
    size = vllm_config.model_config.get_vocab_size()
    try:
        spec = TokenizerSpec.of(tokenizer, size, plan_of(vllm_config.model_config).mask_id)
    except RefusedError as error:
        raise refused(str(error), "structured_outputs") from error
    service = CompileService(spec, read_limits(vllm_config.additional_config))
    _keep(_SERVICES, vllm_config, service)
    return service


def checks_of(vllm_config: VllmConfig) -> CheckService:
    """What checks the finished texts of a server."""
    known = _CHECKS.get(id(vllm_config))
    if known is not None:
        return known
    service = CheckService(read_limits(vllm_config.additional_config))
    _keep(_CHECKS, vllm_config, service)
    return service


def _field(constraint: Constraint, parsed: ParsedRequest) -> str:
    if constraint.kind == "lexical":
        return parsed.lexical_field
    return f"structured_outputs.{constraint.kind}"


def _not_served(constraint: Constraint, parsed: ParsedRequest, error: Exception) -> Exception:
    if isinstance(error, RefusedError):
        field = _field(constraint, parsed)
        return refused(f"{field} cannot be served: {error!s:.600}", field)
    return error


async def prepare(
    params: SamplingParams, vllm_config: VllmConfig, tokenizer: Any
) -> Compiled | None:
    """Have a taken request's constraint compiled, if it has one; the caller keeps the result.

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
        parsed = parsed_of(params, vllm_config.model_config)
        raise _not_served(constraint, parsed, error) from error


def attach(request: EngineCoreRequest, vllm_config: VllmConfig, tokenizer: Any) -> None:
    """Give the engine what the request's text is held to, in the place of how it was said.

    Called with the request's own copy of its sampling parameters, once its prompt is known.

    Raises:
        VLLMValidationError: it is not served, or no text of it fits into the output.
    """
    params = request.sampling_params
    if params is None:
        return
    parsed, plan = parsed_of(params, vllm_config.model_config), plan_of(vllm_config.model_config)
    constraint = constraint_of(params, vllm_config)
    if constraint is None:
        hand_over(params, parsed, plan)
        return
    service = service_of(vllm_config, tokenizer)
    try:
        compiled = service.compile(constraint)
    except Exception as error:
        raise _not_served(constraint, parsed, error) from error
    _check_room(request, params, compiled, _field(constraint, parsed), vllm_config)
    hand_over(params, replace(parsed, compiled=compiled.pack()), plan)
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
    raise refused(
        f"max_tokens={params.max_tokens} cannot be honoured: of all texts of {field} {least} has "
        f"{needed} tokens with the stop token, and the output has {room}; raise max_tokens",
        "max_tokens",
    )
