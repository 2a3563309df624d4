"""``POST /infill``: llama.cpp's route for the text between two passages, as editors call it."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncGenerator
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, StreamingResponse
from pydantic import BaseModel, ConfigDict, Field
from vllm.entrypoints.serve.engine.protocol import ErrorResponse
from vllm.entrypoints.serve.utils.api_utils import with_cancellation

from vllm_diffusion.request.quote import close_to
from vllm_diffusion.server.refusal import refuse
from vllm_diffusion.server.request_models import Stops, TextRequest

router = APIRouter()

DEFAULT_MAX_TOKENS = 512
"""Of ``n_predict: -1``, which llama.cpp leaves to the context."""
SAME = ("temperature", "top_k", "top_p", "min_p", "presence_penalty", "frequency_penalty", "seed")
"""Options with vLLM's names."""


class Extra(BaseModel):
    """Text of another file, which is read in front of the prefix."""

    model_config = ConfigDict(extra="forbid")

    text: str
    filename: str = ""
    time: float | None = None


class InfillRequest(BaseModel):
    """What llama.vim and llama.vscode send; other fields are refused by name."""

    model_config = ConfigDict(extra="allow")

    input_prefix: str = ""
    input_suffix: str = ""
    input_extra: list[Extra] = Field(default_factory=list, max_length=256)
    prompt: str = ""
    """The line so far, between the prefix and the hole."""
    n_predict: int = Field(default=-1, ge=-1)
    n_indent: int = 0
    t_max_predict_ms: float = Field(default=0, ge=0)
    stop: Stops = Field(default_factory=list)
    stream: bool = False
    response_fields: list[str] | None = None
    repeat_penalty: float | None = None
    temperature: float | None = None
    top_k: int | None = None
    top_p: float | None = None
    min_p: float | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    seed: int | None = None
    model: str | None = None
    # How llama.cpp goes about it; no text depends on them.
    samplers: list[str] | None = None
    cache_prompt: bool = True
    t_max_prompt_ms: float = Field(default=0, ge=0)
    id_slot: int = -1

    def check(self) -> None:
        """Refuse what nothing reads.

        Raises:
            VLLMValidationError: with the first such field.
        """
        for field, value in (self.model_extra or {}).items():
            close = close_to(field, [*type(self).model_fields])
            raise refuse(field, value, f"did you mean {close}?" if close else "leave it out")
        if self.n_indent:
            raise refuse("n_indent", self.n_indent, "indents are not counted; leave it out")

    def completion(self, model: str) -> TextRequest:
        """The same as a completion with a suffix."""
        extra = "".join(f"{each.text}\n" for each in self.input_extra)
        said = {name: value for name in SAME if (value := getattr(self, name)) is not None}
        if self.repeat_penalty is not None:
            said["repetition_penalty"] = self.repeat_penalty
        if said.get("seed") == -1:
            del said["seed"]  # llama.cpp's word for a random one
        if said.get("top_k") == 0:
            said["top_k"] = -1
        return TextRequest.model_validate(
            {
                "model": self.model or model,
                "prompt": extra + self.input_prefix + self.prompt,
                "suffix": self.input_suffix or "\n",
                "max_tokens": DEFAULT_MAX_TOKENS if self.n_predict < 0 else self.n_predict,
                "stop": self.stop,
                **said,
            }
        )


def _answer(request: InfillRequest, response: Any, seconds: float, model: str) -> dict[str, Any]:
    """In llama.cpp's shape."""
    choice = response.choices[0] if response is not None else None
    num_prompt = response.usage.prompt_tokens if response is not None else 0
    num_made = response.usage.completion_tokens if response is not None else 0
    milliseconds = 1000 * seconds
    is_cut = choice is not None and choice.finish_reason == "length"
    return {
        "content": choice.text if choice is not None else "",
        "stop": True,
        "stop_type": "limit" if is_cut or choice is None else "eos",
        "truncated": False,
        "tokens_predicted": num_made,
        "tokens_evaluated": num_prompt,
        "tokens_cached": 0,
        "model": model,
        "generation_settings": request.model_dump(include={*SAME, "n_predict", "stop"}),
        "timings": {
            "prompt_n": num_prompt,
            "prompt_ms": 0.0,
            "prompt_per_second": 0.0,
            "predicted_n": num_made,
            "predicted_ms": milliseconds,
            "predicted_per_second": num_made / seconds if seconds else 0.0,
        },
    }


def picked(whole: dict[str, Any], fields: list[str] | None) -> dict[str, Any]:
    """The fields asked for; ``a/b`` is a key of that name, with what stands at b in a."""
    if fields is None:
        return whole
    found = {}
    for field in fields:
        value: Any = whole
        for part in field.split("/"):
            value = value.get(part) if isinstance(value, dict) else None
        if value is not None:
            found[field] = value
    return found


async def _event(answer: dict[str, Any]) -> AsyncGenerator[str, None]:
    yield f"data: {json.dumps(answer, ensure_ascii=False)}\n\n"


@router.post("/infill")
@with_cancellation  # type: ignore[untyped-decorator]
async def create_infill(request: InfillRequest, raw_request: Request) -> Any:
    """Fill in; ``t_max_predict_ms`` is a deadline, after which the answer is empty."""
    request.check()
    state, response, began = raw_request.app.state, None, time.monotonic()
    model = state.openai_serving_models.model_name()
    if request.n_predict:
        timeout = request.t_max_predict_ms / 1000 or None
        try:
            async with asyncio.timeout(timeout):
                response = await state.openai_serving_completion.create_completion(
                    request.completion(model), raw_request
                )
        except TimeoutError:
            response = None
        if isinstance(response, ErrorResponse):
            return JSONResponse(response.model_dump(), response.error.code)
    answer = picked(
        _answer(request, response, time.monotonic() - began, model), request.response_fields
    )
    if request.stream:
        return StreamingResponse(_event(answer), media_type="text/event-stream")
    return JSONResponse(answer)
