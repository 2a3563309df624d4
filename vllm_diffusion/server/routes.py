"""vLLM's routes, reading this package's request models; all the rest of a route stays vLLM's."""

from __future__ import annotations

import functools
import inspect
from typing import TYPE_CHECKING, Any

from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from starlette.responses import JSONResponse

from vllm_diffusion.request.quote import quoted
from vllm_diffusion.server.errors import openai_error
from vllm_diffusion.server.gate import guard
from vllm_diffusion.server.request_models import BY_PATH

if TYPE_CHECKING:
    from fastapi import FastAPI, Request

MOST_ERRORS = 5
"""Of a body that a message lists."""


def take_routes(app: FastAPI) -> None:
    """Let the app's routes read our models, and put its errors into shape.

    Raises:
        RuntimeError: vLLM has no such route, or it looks different.
    """
    for path, model in BY_PATH.items():
        _take(app, path, model)
    app.exception_handlers[RequestValidationError] = say_what_is_invalid
    guard(app)


def _take(app: FastAPI, path: str, model: type) -> None:
    routes = app.router.routes
    found = [r for r in routes if isinstance(r, APIRoute) and r.path == path]
    signature = inspect.signature(found[0].endpoint) if found else inspect.Signature()
    if "request" not in signature.parameters:
        raise RuntimeError(f"vllm_diffusion: vLLM's route {path} has moved; update vllm_diffusion")
    old = found[0]

    @functools.wraps(old.endpoint)
    async def answer(*args: Any, **kwargs: Any) -> Any:
        return await old.endpoint(*args, **kwargs)

    parameters = {
        **signature.parameters,
        "request": signature.parameters["request"].replace(annotation=model),
    }
    answer.__signature__ = signature.replace(parameters=[*parameters.values()])  # type: ignore[attr-defined]
    app.router.add_api_route(
        path,
        answer,
        methods=sorted(old.methods),
        dependencies=old.dependencies,
        responses=old.responses,
    )
    routes[routes.index(old)] = routes.pop()


async def say_what_is_invalid(request: Request, error: RequestValidationError) -> JSONResponse:
    """A 400 that says of each field what is wrong with it, where vLLM's prints Python's records."""
    errors: list[Any] = list(error.errors())
    told = [_told(each) for each in errors[:MOST_ERRORS]]
    message = "; ".join(dict.fromkeys(text for text, _, _ in told)) or "the body is not valid"
    if len(errors) > MOST_ERRORS:
        message += f"; and {len(errors) - MOST_ERRORS} more"
    _, param, code = told[0] if told else ("", None, "invalid_value")
    return JSONResponse({"error": openai_error(400, message, param, code)}, 400)


def _told(error: Any) -> tuple[str, str | None, str | None]:
    """Of one error: what to say, the field, and a code where its kind says it."""
    if not isinstance(error, dict):
        return str(error), None, None
    kind, said = str(error.get("type")), str(error.get("msg"))
    cause = error.get("ctx", {}).get("error")
    if kind == "json_invalid":
        return f"the body is no JSON, at byte {error['loc'][-1]}: {cause}", None, "invalid_json"
    if isinstance(cause, Exception):  # a validator's own words, which name the field
        return str(cause), getattr(cause, "parameter", None) or _field(error), None
    field = _field(error)
    if kind == "missing":
        return f"{field} is missing", field, "missing_required_parameter"
    code = "invalid_type" if kind.endswith(("_type", "_parsing")) else "invalid_value"
    return f"{field}={quoted(error.get('input'))} is not valid: {said}", field, code


def _field(error: dict[str, Any]) -> str:
    """Where it is, in the words of a client: without the branches that pydantic tried."""
    from vllm.entrypoints.serve.exception_handling.handlers.validation import clean_loc_for_param

    path = clean_loc_for_param(tuple(error.get("loc", ())))
    return path.removeprefix("body.") if path != "body" else "the body"
