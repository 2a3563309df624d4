"""``/v1/decisions`` and ``/v1/systemone``: questions about a state, with probabilities.

Everything that a body asks for is checked before the engine is asked for anything: fields, limits,
labels and the length of every prompt.
"""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse
from vllm.entrypoints.serve.engine.protocol import ErrorResponse
from vllm.entrypoints.serve.utils.api_utils import with_cancellation

from vllm_diffusion.decisions import prompts, shapes, trie
from vllm_diffusion.decisions.asked import MAX_READS, Decision, Question
from vllm_diffusion.decisions.calibration import temperatures_of
from vllm_diffusion.decisions.reading import Asking, spent_on
from vllm_diffusion.request.field_errors import InvalidFieldError
from vllm_diffusion.server.errors import openai_error
from vllm_diffusion.server.label_reads import Reader
from vllm_diffusion.server.refusal import refused, refused_field
from vllm_diffusion.server.request_models import ChatRequest
from vllm_diffusion.startup.serving import plan_of

if TYPE_CHECKING:
    from collections.abc import Sequence

router = APIRouter()


@router.post("/v1/decisions")
@with_cancellation  # type: ignore[untyped-decorator]
async def decide(body: dict[str, Any], raw_request: Request) -> JSONResponse:
    """Answer questions in the shape in which they are asked."""
    return await _answer(body, raw_request, None)


@router.post("/v1/systemone")
@with_cancellation  # type: ignore[untyped-decorator]
async def decide_as_system_one(body: dict[str, Any], raw_request: Request) -> JSONResponse:
    """The same for System One's shape alone."""
    return await _answer(body, raw_request, "system_one")


async def _answer(body: dict[str, Any], raw_request: Request, shape: str | None) -> JSONResponse:
    state = raw_request.app.state
    try:
        decision = shapes.read(body, shape)
        model, lora = _model(state, decision.model)
        if model is None:
            message = f"The model `{decision.model}` does not exist."
            return JSONResponse({"error": openai_error(404, message, "model")}, 404)
        askings = await _askings(state, decision)
    except InvalidFieldError as error:
        raise refused_field(error) from error
    if isinstance(askings, ErrorResponse):
        return JSONResponse(askings.model_dump(), askings.error.code)
    name = f"decision-{uuid.uuid4().hex}"
    engine = state.engine_client
    reads = [read for asking in askings for read in asking.reads()]
    engine.check_admission(len(reads))
    plan = plan_of(engine.model_config)
    reader = Reader(engine, plan, name, lora=lora, salt=decision.cache_salt)
    seen = await reader.all(reads)
    spent = spent_on(decision, askings, seen, temperatures_of(state.vllm_config.additional_config))
    return JSONResponse(shapes.answer(decision, spent, name, model))


def _model(state: Any, name: str | None) -> tuple[str | None, Any]:
    """The served name and the adapter; no name where there is no such model."""
    models = state.openai_serving_models
    if name is None:
        return models.model_name(), None
    if models.is_base_model(name):
        return name, None
    lora = models.lora_requests.get(name)
    return (None if lora is None else name), lora


async def _askings(state: Any, decision: Decision) -> list[Asking] | ErrorResponse:
    """Every question in every order; or what vLLM says of its prompt."""
    _check_mode(state.engine_client.model_config)
    askings: list[Asking] = []
    num_reads = 0
    for question in decision.questions:
        num_orders = decision.num_orders(question)
        for number in range(num_orders):
            order = prompts.rotated(question.options, number, num_orders)
            ids = await _prompt(state, decision, prompts.content(decision, question, order))
            if isinstance(ids, ErrorResponse):
                return ids
            askings.append(_asking(state, decision, question, order, ids))
            num_reads += len(askings[-1].nodes)
            if num_reads > MAX_READS:
                remedy = f"more than {MAX_READS} reads would be needed; ask for less at a time"
                raise InvalidFieldError("questions", len(decision.questions), remedy)
    return askings


def _check_mode(model_config: Any) -> None:
    mode = model_config.logprobs_mode
    if mode.endswith("logits"):
        raise InvalidFieldError(
            "--logprobs-mode", mode, "decisions need probabilities; serve with raw_logprobs"
        )


async def _prompt(state: Any, decision: Decision, content: str) -> list[int] | ErrorResponse:
    """The tokens of a chat whose answer is read."""
    messages = [{"role": "user", "content": content}]
    if decision.instructions:
        messages.insert(0, {"role": "system", "content": decision.instructions})
    chat = ChatRequest(
        messages=messages, model=decision.model, chat_template_kwargs={"enable_thinking": False}
    )
    rendered = await state.online_renderer.render_chat(chat)
    if isinstance(rendered, ErrorResponse):
        return rendered
    return list(rendered[1][0]["prompt_token_ids"])


def _asking(
    state: Any, decision: Decision, question: Question, order: list[int], prompt: list[int]
) -> Asking:
    tokenizer = state.online_renderer.renderer.get_tokenizer()
    labels = prompts.labels_of(question, decision.reading)
    if question.kind == "choice" and decision.reading == "options":
        labels = [labels[i] for i in order]
    options = _tokens(tokenizer, labels, prompt, question.field)
    asking = Asking.of(question, order, prompt, labels, options)
    longest = state.engine_client.model_config.max_model_len
    if len(prompt) + asking.num_slots > longest:
        raise refused(
            f"{decision.state_field}: with {question.field} it has {len(prompt)} tokens, and the "
            f"answer needs {asking.num_slots}, but the maximum context length is {longest}; "
            "shorten it",
            decision.state_field,
        )
    return asking


def _tokens(
    tokenizer: Any, labels: Sequence[str], prompt: Sequence[int], field: str
) -> list[trie.Tokens]:
    """What each label adds to the prompt: its tokens where it stands."""
    added = set(tokenizer.get_added_vocab().values())
    start = max((i + 1 for i, token in enumerate(prompt) if token in added), default=0)
    tail = list(prompt[start:])
    before = tokenizer.decode(tail)
    found: list[list[int]] = []
    for label in labels:
        ids = tokenizer.encode(before + label, add_special_tokens=False)
        if ids[: len(tail)] != tail or len(ids) == len(tail):
            remedy = "the tokenizer joins it with the end of the chat template"
            raise InvalidFieldError(f"{field}, the answer", label, remedy)
        found.append(ids[len(tail) :])
    end = tokenizer.eos_token_id
    if end is None and any(len(ids) > 1 for ids in found):
        remedy = "answers of several tokens need an end token, and the tokenizer names none"
        raise InvalidFieldError(field, list(labels), remedy)
    return trie.with_end(found, end)
