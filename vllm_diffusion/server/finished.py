"""The last line of structured output: a finished text is checked before its end is told.

A text that is not what its request asked for is a defect of this package. Its client gets an error
in the place of the end, and ``/metrics`` counts it. Only texts are checked that end by themselves:
what ``max_tokens`` or a stop string of the client's has cut off is promised to nobody.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from vllm.exceptions import GenerationError
from vllm.logger import init_logger

from vllm_diffusion.request.lexical import LEXICAL_PARSERS
from vllm_diffusion.request.params import PREFIX
from vllm_diffusion.server.compilation import checks_of
from vllm_diffusion.server.prometheus import CheckedTexts
from vllm_diffusion.server.structured import constraint_of
from vllm_diffusion.structured.check_service import CheckService
from vllm_diffusion.structured.compile_process import WARM_CHECKS, Verdict, verdict
from vllm_diffusion.structured.constraint import Constraint
from vllm_diffusion.structured.reasoning import TAIL
from vllm_diffusion.structured.validity.check import is_cheap

if TYPE_CHECKING:
    from vllm.config import VllmConfig
    from vllm.outputs import RequestOutput
    from vllm.sampling_params import SamplingParams

logger = init_logger(f"vllm.{__name__}")

MESSAGE = (
    "structured output: the finished text is not what was asked for, and is not sent on as if it "
    "were. This is a defect of the server; its log and /metrics have it"
)
"""What a client is told; ``errors`` has a code for it."""


class _Text:
    """What one answer of a request has come to."""

    def __init__(self) -> None:
        self.text = ""
        self.tokens: list[int] = []

    def take(self, output: Any, *, is_delta: bool) -> None:
        if is_delta:
            self.text += output.text
            self.tokens += output.token_ids
        else:
            self.text, self.tokens = output.text, list(output.token_ids)


def get_ready(vllm_config: VllmConfig) -> None:
    """What a first text would wait for; the counters are on ``/metrics`` from the start."""
    CheckedTexts(vllm_config.model_config.served_model_name)
    limits = checks_of(vllm_config).limits
    for constraint, text in WARM_CHECKS:
        verdict(constraint, text, limits)


def is_held(params: SamplingParams) -> bool:
    """Whether something is asked of the request's text."""
    asked = params.structured_outputs
    if asked is not None and not asked.all_constraints_none():
        return True
    return any(PREFIX + name in (params.extra_args or {}) for name in LEXICAL_PARSERS)


async def checked(
    outputs: AsyncGenerator[RequestOutput, None],
    params: SamplingParams,
    vllm_config: VllmConfig,
    tokenizer: Any,
    *,
    has_reasoned: bool,
) -> AsyncGenerator[RequestOutput, None]:
    """The same outputs of one request; each answer is checked before its end is passed on.

    Args:
        outputs: of the engine.
        params: of the request, as its handler made them.
        vllm_config: of the server.
        tokenizer: likewise.
        has_reasoned: whether no reasoning stands in front of the answer, whatever the prompt says.

    Raises:
        GenerationError: an answer is not what the request asked for.
    """
    from vllm.sampling_params import RequestOutputKind

    is_delta = params.output_kind == RequestOutputKind.DELTA
    texts: dict[int, _Text] = {}
    async with aclosing(outputs):
        async for output in outputs:
            for one in output.outputs:
                state = texts.setdefault(one.index, _Text())
                state.take(one, is_delta=is_delta)
                if one.finish_reason != "stop" or isinstance(one.stop_reason, str):
                    continue
                prompt = [] if has_reasoned else output.prompt_token_ids or []
                answer = answer_of(state, prompt, params, vllm_config, tokenizer, has_reasoned)
                if answer is None:
                    continue  # it ends within its reasoning, of which nothing is asked
                constraint = constraint_of(params, vllm_config)
                if constraint is not None:
                    await _settle(constraint, answer, output.request_id, vllm_config)
            yield output


async def _settle(
    constraint: Constraint, text: str, request_id: str, vllm_config: VllmConfig
) -> None:
    service = checks_of(vllm_config)
    found, why = await _verdict(constraint, text, service)
    CheckedTexts(vllm_config.model_config.served_model_name).count(found)
    if found == "unchecked":
        logger.warning("%s: its text has not been checked: %s", request_id, why)
    if found == "invalid":
        logger.error(
            "%s: a text that is not what was asked for: %s. A defect: please report it. "
            "The constraint: %s %.2000s The text: %.2000r",
            request_id, why, constraint.kind, constraint.spec, text,
        )  # fmt: skip
        raise GenerationError(MESSAGE)


async def _verdict(constraint: Constraint, text: str, service: CheckService) -> Verdict:
    limits = service.limits
    if len(text) > limits.check_bytes:
        return "unchecked", f"it is longer than {limits.check_bytes} characters"
    if is_cheap(constraint, text):
        return verdict(constraint, text, limits)
    try:
        await asyncio.shield(asyncio.wrap_future(service.start()))
        waiting = asyncio.wrap_future(service.submit(constraint, text))
        return await asyncio.wait_for(waiting, limits.check_seconds)
    except TimeoutError:
        return "unchecked", f"it takes more than {limits.check_seconds:g} s"
    except Exception as error:
        return "unchecked", f"{type(error).__name__}: {error!s:.200}"


def answer_of(
    state: _Text,
    prompt: list[int],
    params: SamplingParams,
    vllm_config: VllmConfig,
    tokenizer: Any,
    has_reasoned: bool,
) -> str | None:
    """The part of a text that its constraint is about; None where it ends before that."""

    def decode(tokens: list[int]) -> str:
        text: str = tokenizer.decode(tokens, skip_special_tokens=params.skip_special_tokens)
        return text

    text = state.text
    if not params.detokenize:
        text = decode(state.tokens[:-1])  # without the token that ends it
    elif params.include_stop_str_in_output and state.tokens:
        text = text.removesuffix(decode(state.tokens[-1:]))
    parser = None if has_reasoned else _reasoning_parser(vllm_config, tokenizer)
    if parser is None or parser.is_reasoning_end(prompt):
        return text
    start = _end_of_reasoning(parser, prompt, state.tokens)
    if start is None:
        return None
    reasoning = decode(state.tokens[:start])
    return text[len(reasoning) :] if text.startswith(reasoning) else decode(state.tokens[start:])


def _end_of_reasoning(parser: Any, prompt: list[int], tokens: list[int]) -> int | None:
    """Where the answer begins; a token that ends reasoning may be the answer's first."""
    tail = prompt[-TAIL:]
    for at, token in enumerate(tokens):
        tail = [*tail, token][-TAIL:]
        if parser.is_reasoning_end_streaming(tail, [token]):
            end = parser.find_reasoning_end([token]) if _finds(parser) else None
            return at if end is not None and end.implicit else at + 1
    return None


def _finds(parser: Any) -> bool:
    return hasattr(parser, "find_reasoning_end")


def _reasoning_parser(vllm_config: VllmConfig, tokenizer: Any) -> Any:
    config = vllm_config.structured_outputs_config
    if not config.reasoning_parser or config.enable_in_reasoning:
        return None
    return _made_parser(config.reasoning_parser, tokenizer)


@lru_cache(maxsize=4)
def _made_parser(name: str, tokenizer: Any) -> Any:
    from vllm.reasoning import ReasoningParserManager

    make: Callable[..., Any] = ReasoningParserManager.get_reasoning_parser(name)
    return make(tokenizer=tokenizer)
