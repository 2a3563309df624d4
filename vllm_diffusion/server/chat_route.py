"""The chat route with ``reasoning_effort`` as it is meant here.

vLLM's request model knows neither the level ``instant`` nor what a level is worth; all the rest of
the route stays vLLM's.
"""

from __future__ import annotations

import functools
import inspect
from typing import TYPE_CHECKING, Any, Literal, Self

from fastapi.routing import APIRoute
from pydantic import PrivateAttr, model_validator
from vllm.entrypoints.openai.chat_completion.protocol import ChatCompletionRequest

from vllm_diffusion.server.reasoning import LEVEL

if TYPE_CHECKING:
    from fastapi import FastAPI
    from vllm.sampling_params import SamplingParams

ROUTE = "/v1/chat/completions"
_VLLMS: Any = ChatCompletionRequest.model_fields["reasoning_effort"].annotation


class ChatRequest(ChatCompletionRequest):
    """vLLM's request of a chat, with Mercury's level and a meaning for all of them."""

    reasoning_effort: _VLLMS | Literal["instant"] = None

    _level: str | None = PrivateAttr(default=None)

    @model_validator(mode="after")
    def _take_level(self) -> Self:
        self._level = self.reasoning_effort
        if self.reasoning_effort == "instant":
            # Chat templates know how to turn thinking off, by OpenAI's word for it.
            self.reasoning_effort = "none"
        return self

    def to_sampling_params(self, *args: Any, **kwargs: Any) -> SamplingParams:
        """vLLM's, and the level."""
        params: SamplingParams = super().to_sampling_params(*args, **kwargs)
        if self._level is not None:
            params.extra_args = {**(params.extra_args or {}), LEVEL: self._level}
        return params


def take_levels(app: FastAPI) -> None:
    """Let the app's chat route read ``ChatRequest``.

    Raises:
        RuntimeError: vLLM has no such route, or it looks different.
    """
    routes = app.router.routes
    found = [r for r in routes if isinstance(r, APIRoute) and r.path == ROUTE]
    signature = inspect.signature(found[0].endpoint) if found else inspect.Signature()
    if "request" not in signature.parameters:
        raise RuntimeError(f"vllm_diffusion: vLLM's route {ROUTE} has moved; update vllm_diffusion")
    old = found[0]

    @functools.wraps(old.endpoint)
    async def answer(*args: Any, **kwargs: Any) -> Any:
        return await old.endpoint(*args, **kwargs)

    parameters = {
        **signature.parameters,
        "request": signature.parameters["request"].replace(annotation=ChatRequest),
    }
    answer.__signature__ = signature.replace(parameters=[*parameters.values()])  # type: ignore[attr-defined]
    app.router.add_api_route(
        ROUTE,
        answer,
        methods=sorted(old.methods),
        dependencies=old.dependencies,
        responses=old.responses,
    )
    routes[routes.index(old)] = routes.pop()
