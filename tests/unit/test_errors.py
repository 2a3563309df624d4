"""The body of an error response, whoever made it."""

from __future__ import annotations

from typing import Any

import pytest

pytest.importorskip("vllm", reason="the messages are vLLM's")

from vllm_diffusion.server.errors import envelope


def vllms(message: str, status: int, param: str | None = None) -> dict[str, Any]:
    error = {"message": message, "type": "BadRequestError", "param": param, "code": status}
    return {"error": error}


@pytest.mark.parametrize(
    ("status", "message", "code"),
    [
        (400, "This model's maximum context length is 9 tokens. However, ...", None),
        (400, "max_tokens=9 cannot be greater than max_model_len=8. Please ...", None),
        (400, "The engine prompt length 9 exceeds the max_model_len 8. Please reduce", None),
        (404, "The model `x` does not exist.", "model_not_found"),
        (404, "Response with id 'x' not found.", "not_found"),
        (400, "colour=4: this field is not known, and it would be ignored", "unknown_parameter"),
        (
            400,
            "store=True is not supported for diffusion models: leave it",
            "unsupported_parameter",
        ),
        (400, "temperature must be non-negative, got -1.0.", "invalid_value"),
        (500, "Internal server error", "internal_error"),
        (503, "the queue is full", "server_overloaded"),
    ],
)
def test_codes_are_strings(status: int, message: str, code: str | None) -> None:
    error = envelope(status, vllms(message, status, "body.a"), "POST", "/v1/completions")["error"]
    assert error == {
        "message": message,
        "type": "server_error" if status >= 500 else "invalid_request_error",
        "param": "a",
        "code": code or "context_length_exceeded",
    }


@pytest.mark.parametrize(
    ("status", "body", "says", "code"),
    [
        (404, {"detail": "Not Found"}, "there is no GET /v1/nope on this server", "not_found"),
        (405, {"detail": "Method Not Allowed"}, "/v1/nope does not take GET", "method_not_allowed"),
        (401, {"error": "Unauthorized"}, "the API key is missing", "invalid_api_key"),
        (400, {"detail": "There was an error parsing the body"}, "There was an", "invalid_value"),
        (500, None, "the server failed to answer", "internal_error"),
        (500, "out of luck", "out of luck", "internal_error"),
    ],
)
def test_every_shape_becomes_one(status: int, body: Any, says: str, code: str) -> None:
    error = envelope(status, body, "GET", "/v1/nope")["error"]
    assert error["message"].startswith(says)
    assert error["code"] == code


def test_what_vllm_adds_is_said_once() -> None:
    def said(message: str) -> str:
        text: str = envelope(400, vllms(message, 400))["error"]["message"]
        return text

    assert said("a=5 is wrong (parameter=a, value=5)") == "a=5 is wrong"
    assert said("a is wrong (parameter=a, value=5)") == "a is wrong (parameter=a, value=5)"
    assert said("a is wrong (parameter=a)") == "a is wrong"


def test_messages_keep_anthropics_shape() -> None:
    for status, kind in (
        (400, "invalid_request_error"),
        (404, "not_found_error"),
        (500, "api_error"),
    ):
        made = envelope(status, vllms("no", status), "POST", "/v1/messages")
        assert made == {"type": "error", "error": {"type": kind, "message": "no"}}
