"""``POST /v1/edit/completions`` and ``POST /v1/apply/completions``, in Mercury's shape.

Both are chats of one message whose passages stand between tags. The text that is to change is the
draft of the answer: the model keeps what it does not doubt, given the instruction.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Any, ClassVar

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, StreamingResponse
from pydantic import Field
from vllm.entrypoints.serve.engine.protocol import ErrorResponse
from vllm.entrypoints.serve.utils.api_utils import with_cancellation

from vllm_diffusion.request.features import is_said
from vllm_diffusion.request.seed_canvas import DRAFT, SEED
from vllm_diffusion.server import edit_prompt, edit_tags, prediction
from vllm_diffusion.server.admission import check_records
from vllm_diffusion.server.draft_text import check_length
from vllm_diffusion.server.edit_prompt import Form
from vllm_diffusion.server.edit_tags import Passages
from vllm_diffusion.server.refusal import refuse
from vllm_diffusion.server.request_models import ChatRequest
from vllm_diffusion.server.sse import DONE, event_of

router = APIRouter()

ALIASES = ("mercury-coder", "mercury-edit", "mercury-edit-2")
"""Names that editors have built in, for whatever is served."""
MOST_TOKENS = 8192
ALONE = (
    *("tools", "response_format", "structured_outputs", "thinking_token_budget", "bad_words"),
    *("logprobs", "echo", "return_token_ids", "prompt_logprobs", "continue_final_message"),
)
"""Fields of chats that an edit cannot have: its prompt is made here, and its answer is cut."""
OF_CHATS = ("prediction", "diffusing")
IGNORED = ("nextEdit",)
"""Continue's own mark."""


class EditRequest(ChatRequest):
    """A next edit: a chat with other defaults."""

    max_tokens: int | None = Field(default=None, ge=1, le=MOST_TOKENS)
    temperature: float | None = Field(default=0.0, ge=0, le=2)

    tags: ClassVar[tuple[str, ...]] = edit_tags.EDIT
    default_tokens: ClassVar[int] = 1024

    def read(self) -> tuple[str, str]:
        """Instruction and text.

        Raises:
            VLLMValidationError: the message does not say them, or a field cannot be had.
        """
        self._check()
        content = edit_tags.content_of(self.messages)
        return self.parts(edit_tags.passages_of(content, self.tags))

    def parts(self, passages: Passages) -> tuple[str, str]:
        return edit_prompt.next_edit(passages)

    def told(self, answer: str, text: str, *, is_cut: bool) -> str:
        """The answer as clients of this route read it."""
        return edit_prompt.told(answer, text, is_cut=is_cut)

    def _check(self) -> None:
        extra, why = self.model_extra or {}, "this route has no such thing; leave it out"
        for field in IGNORED:
            extra.pop(field, None)
        check_records(self, "chat")
        if getattr(self.stream_options, "diffusion_frames", None):
            raise refuse("stream_options.diffusion_frames", True, why)
        if (self.n or 1) > 1:
            raise refuse("n", self.n, "an edit has one answer")
        for field in ALONE:
            value = getattr(self, field, None)
            if is_said(value) and value is not False:
                raise refuse(field, value, why)
        for field in OF_CHATS:
            if extra.get(field):
                raise refuse(field, extra[field], why)
        for field in (DRAFT, SEED):
            if field in (self.vllm_xargs or {}):
                value = (self.vllm_xargs or {})[field]
                raise refuse(f"vllm_xargs.{field}", value, "the text to change is the draft here")

    def chat(self, form: Form, instruction: str, text: str, state: Any) -> ChatRequest:
        """What the model is asked."""
        models = state.openai_serving_models
        longest = models.model_config.max_model_len
        is_alias = self.model in ALIASES and not models.is_base_model(self.model)
        said = {name: getattr(self, name) for name in self.model_fields_set - {*IGNORED}}
        made: ChatRequest = ChatRequest.model_validate(
            said
            | {
                "model": models.model_name() if is_alias else self.model,
                "messages": [{"role": "user", "content": form.message(instruction, text)}],
                "temperature": self.temperature,
                "stream": False,
                "stream_options": None,
                "vllm_xargs": {**(self.vllm_xargs or {}), DRAFT: text},
            }
        )
        if self.max_tokens is None and self.max_completion_tokens is None:
            made.max_tokens = min(self.default_tokens, longest // 2)
        return made


class ApplyRequest(EditRequest):
    """A change that is put into a whole file."""

    tags: ClassVar[tuple[str, ...]] = edit_tags.APPLY
    default_tokens: ClassVar[int] = MOST_TOKENS

    def parts(self, passages: Passages) -> tuple[str, str]:
        return edit_prompt.applied(passages)

    def told(self, answer: str, text: str, *, is_cut: bool) -> str:
        return answer


async def _edited(request: EditRequest, raw_request: Request) -> Any:
    """The whole response, or vLLM's error."""
    state = raw_request.app.state
    handler = state.openai_serving_chat
    instruction, text = request.read()
    check_length(text, "messages", handler.model_config)
    chat = request.chat(state.diffusion_edit_form, instruction, text, state)
    response = await handler.create_chat_completion(chat, raw_request)
    if isinstance(response, ErrorResponse):
        return response
    await prediction.count(response, handler, text)
    whole = response.model_dump()
    (choice,) = whole["choices"]
    is_cut = choice["finish_reason"] == "length"
    answer = edit_prompt.unfenced(choice["message"]["content"] or "")
    content = request.told(answer.replace(edit_tags.CURSOR, ""), text, is_cut=is_cut)
    choices = [
        {
            "index": 0,
            "message": {"role": "assistant", "content": content},
            "finish_reason": choice["finish_reason"],
        }
    ]
    kept = ("id", "created", "model", "usage", "metrics", "diffusion", "warning")
    return {
        **{key: whole[key] for key in kept if whole.get(key) is not None},
        "object": "edit.completion",
        "model": request.model or whole["model"],
        "choices": choices,
    }


async def _stream(whole: dict[str, Any], request: EditRequest) -> AsyncGenerator[str, None]:
    """A whole response as chunks of a chat: only its end tells whether it says ``None``."""
    head: dict[str, Any] = {key: whole[key] for key in ("id", "created", "model")}
    head["object"] = "chat.completion.chunk"
    (choice,) = whole["choices"]
    delta = {"index": 0, "delta": choice["message"], "finish_reason": None}
    yield event_of({**head, "choices": [delta]})
    last = {"index": 0, "delta": {}, "finish_reason": choice["finish_reason"]}
    more: dict[str, Any] = {key: whole[key] for key in ("diffusion", "warning") if key in whole}
    yield event_of({**head, "choices": [last], **more})
    if request.stream_options is not None and request.stream_options.include_usage:
        yield event_of({**head, "choices": [], "usage": whole["usage"]})
    yield f"{DONE}\n\n"


async def _answer(request: EditRequest, raw_request: Request) -> Any:
    response = await _edited(request, raw_request)
    if isinstance(response, ErrorResponse):
        return JSONResponse(response.model_dump(), response.error.code)
    if not request.stream:
        return JSONResponse(response)
    headers = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
    return StreamingResponse(
        _stream(response, request), media_type="text/event-stream", headers=headers
    )


@router.post("/v1/edit/completions")
@with_cancellation  # type: ignore[untyped-decorator]
async def create_edit(request: EditRequest, raw_request: Request) -> Any:
    """The region as it will be after the next change."""
    return await _answer(request, raw_request)


@router.post("/v1/apply/completions")
@with_cancellation  # type: ignore[untyped-decorator]
async def create_applied(request: ApplyRequest, raw_request: Request) -> Any:
    """The file with a change in it."""
    return await _answer(request, raw_request)
