"""What an error response says: OpenAI's envelope with its string codes, or Anthropic's.

vLLM's has the status for a code, and other shapes for unknown paths, for a missing key and for
what is no JSON. Clients read ``error.code``: LangChain and LiteLLM make an error of its own of
``context_length_exceeded``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from vllm_diffusion.request.quote import LONGEST, shortened

ANTHROPIC = "/v1/messages"
"""Where errors have Anthropic's envelope."""
INVALID, SERVER = "invalid_request_error", "server_error"

CODES: tuple[tuple[int, str, str], ...] = (
    (
        400,
        r"maximum context length|maximum model length|context length \(|"
        r"exceeds? the max_model_len|cannot be greater than max_model_len",
        "context_length_exceeded",
    ),
    (400, r"this field is not known|this route has no such field", "unknown_parameter"),
    (400, r"is not supported|does not go together with", "unsupported_parameter"),
    (404, r"^The model `", "model_not_found"),
    (500, r"^structured output: the finished text", "invalid_structured_output"),
)
"""Of a message without a code: status, what it says, its code."""
BY_STATUS = {
    400: "invalid_value",
    401: "invalid_api_key",
    404: "not_found",
    405: "method_not_allowed",
    413: "request_too_large",
    422: "invalid_value",
    429: "rate_limit_exceeded",
    501: "not_implemented",
    503: "server_overloaded",
}
ANTHROPIC_TYPES = {
    400: INVALID,
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
}
STARLETTES = {
    "Not Found": "there is no {method} {path} on this server",
    "Method Not Allowed": "{path} does not take {method}",
    "Unauthorized": "the API key is missing or is not one of this server's",
}
"""In place of messages that say nothing of the request."""

_PARAMETER = re.compile(r" \(parameter=[^=()]*(?:, value=(.*))?\)$", re.DOTALL)
"""What vLLM adds to a message, and the envelope says by itself."""


def envelope(status: int, body: Any, method: str = "", path: str = "") -> dict[str, Any]:
    """The body of an error response.

    Args:
        status: of the response.
        body: what vLLM, FastAPI or a middleware answered, parsed.
        method: of the request.
        path: likewise.
    """
    found = _found(body)
    message = str(found.get("message") or "the server failed to answer")
    if message in STARLETTES:
        message = STARLETTES[message].format(method=method, path=path[:LONGEST])
    if path.startswith(ANTHROPIC):
        kind = ANTHROPIC_TYPES.get(status, "api_error" if status >= 500 else INVALID)
        said = shortened(_plain(message))
        return {"type": "error", "error": {"type": kind, "message": said}}
    return {"error": openai_error(status, message, found.get("param"), found.get("code"))}


def openai_error(
    status: int, message: str, param: Any = None, code: Any = None
) -> dict[str, str | None]:
    """The object within OpenAI's envelope; ``code`` is kept if it is one of its strings."""
    if not isinstance(code, str):
        code = code_of(status, message)
    return {
        "message": shortened(_plain(message)),
        "type": SERVER if status >= 500 else INVALID,
        "param": _path(param),
        "code": code,
    }


def _plain(message: str) -> str:
    """Without what vLLM adds, unless it alone says the value."""
    added = _PARAMETER.search(message)
    if added is None or (added[1] and added[1] not in message[: added.start()]):
        return message
    return message[: added.start()]


def code_of(status: int, message: str) -> str:
    """A code for a message that has none."""
    for of_status, says, code in CODES:
        if of_status == status and re.search(says, message[: 8 * LONGEST]):
            return code
    return BY_STATUS.get(status, "internal_error" if status >= 500 else "invalid_request")


def _found(body: Any) -> Mapping[str, Any]:
    """The error within: vLLM's and Anthropic's object, FastAPI's detail, a middleware's string."""
    if not isinstance(body, Mapping):
        return {"message": body if isinstance(body, str) else None}
    for name in ("error", "detail"):
        error = body.get(name)
        if isinstance(error, Mapping):
            return error
        if error is not None:
            return {"message": str(error)}
    return {}


def _path(param: Any) -> str | None:
    """Fields as a client names them: ``body.`` is FastAPI's."""
    if not isinstance(param, str):
        return None
    return param.removeprefix("body.")[:LONGEST]
