"""``echo`` with ``logprobs`` for models that do not read a prompt from left to right.

No row of such a model's prompt predicts its next token, so vLLM has no log-probabilities of it. An
estimate is asked for by name, in ``vllm_xargs``:

- ``diffusion_likelihood: "chain"``, the chain rule from left to right:
  ``P(t_k | t_1..t_(k-1) shown, the rest masked)``, a read for each token. The rest is that of its
  block, or with full attention that of the text.
- ``"mc"``, LLaDA's bound by Monte Carlo (``likelihood_bound``).

Harnesses cannot name a field of ours: ``--additional-config '{"likelihood": "chain"}'`` asks for
it in every request that says ``echo`` and ``logprobs``.
"""

from __future__ import annotations

import asyncio
import functools
import uuid
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from vllm.entrypoints.serve.engine.protocol import ErrorResponse

from vllm_diffusion.decisions.reading import Read, Seen
from vllm_diffusion.server.label_reads import Reader
from vllm_diffusion.server.likelihood_bound import (
    Share,
    Window,
    WindowReader,
    by_token,
    num_windows,
    pieces_of,
    shares_of,
    windows_of,
)
from vllm_diffusion.server.likelihood_fields import (
    BOUND,
    FIELD,
    Asked,
    check_fields,
    contexts_of,
    take_asked,
)
from vllm_diffusion.server.refusal import refused

if TYPE_CHECKING:
    from vllm_diffusion.request.plan import DecodePlan
    from vllm_diffusion.server.handlers import Handler

MAX_READS = 8192
MAX_TOKENS = 1 << 24
"""That all reads of a request compute, if none of them shares a page."""


class Told(NamedTuple):
    """What stands beside one token."""

    log: float
    top: int
    top_log: float


def reads_of(tokens: Sequence[int], num_more: int, context: int | None = None) -> list[Read]:
    """One for each token but those shown, and one for each token behind the text."""
    num = len(tokens)
    reads = [Read(tokens[:k], [tokens[k]], num - k) for k in range(context or 1, num)]
    return reads + more_of(tokens, num_more)


def more_of(tokens: Sequence[int], num_more: int) -> list[Read]:
    """Of what is behind the text."""
    return [Read(tokens, [tokens[-1]])] * num_more


def cost_of(text: Sequence[int], context: int | None, asked: Asked, plan: DecodePlan) -> list[int]:
    """Reads that a text takes at most, and the tokens that they compute together."""
    if asked.method != BOUND:
        return [len(text) - (context or 1), len(text) * (len(text) - (context or 1))]
    pieces = pieces_of(len(text), context, plan)
    counts = [num_windows(piece, asked.samples, plan) for piece in pieces]
    tokens = [count * piece.end for count, piece in zip(counts, pieces, strict=True)]
    return [sum(counts), sum(tokens)]


def check_work(
    texts: Sequence[Sequence[int]],
    contexts: Sequence[int | None],
    num_more: int,
    asked: Asked,
    plan: DecodePlan,
) -> None:
    """Refuse more than one request may cost, before any of it is spent."""
    costs = [
        cost_of(text, context, asked, plan) for text, context in zip(texts, contexts, strict=True)
    ]
    num_reads = sum(cost[0] + num_more for cost in costs)
    num_tokens = sum(
        cost[1] + num_more * len(text) for cost, text in zip(costs, texts, strict=True)
    )
    if num_reads > MAX_READS or num_tokens > MAX_TOKENS:
        fewer = ", draw fewer samples" if asked.method == BOUND else ""
        raise refused(
            f"prompt: {FIELD} would take {num_reads} reads of {num_tokens} tokens together, and a "
            f"request has at most {MAX_READS} and {MAX_TOKENS}; send fewer or shorter texts{fewer} "
            f"or say {FIELD}_context",
            "prompt",
        )


def check_texts(texts: Sequence[Sequence[int]], num_more: int, longest: int) -> None:
    """Refuse texts of no token or of too many."""
    for text in texts:
        if not text:
            raise refused("prompt: it has no token, and nothing to score", "prompt")
        if len(text) + num_more > longest:
            raise refused(
                f"prompt: it has {len(text)} tokens, and with max_tokens more than the maximum "
                f"context length, which is {longest}; shorten it",
                "prompt",
            )


def estimating(answer: Handler, handler: Any, plan: DecodePlan, default: Asked | None) -> Handler:
    """A handler of completions that also estimates."""

    @functools.wraps(answer)
    async def answered(request: Any, *args: Any, **kwargs: Any) -> Any:
        asked = take_asked(request, plan, default)
        if asked is None:
            return await answer(request, *args, **kwargs)
        check_fields(request)
        return await estimate(request, handler, plan, asked)

    return answered


async def estimate(request: Any, handler: Any, plan: DecodePlan, asked: Asked) -> Any:
    """Score the texts of a completion."""
    rendered = await handler.render_completion_request(request)
    if isinstance(rendered, ErrorResponse):
        return rendered
    texts = [list(each.get("prompt_token_ids") or ()) for each in rendered]
    num_more = request.max_tokens
    check_texts(texts, num_more, handler.model_config.max_model_len)
    contexts = contexts_of(asked, texts, plan.mask_id)
    check_work(texts, contexts, num_more, asked, plan)
    name = f"cmpl-{uuid.uuid4().hex}"
    engine, lora = handler.engine_client, handler.models.lora_requests.get(request.model)
    reader = Reader(engine, plan, name, lora=lora, salt=request.cache_salt)
    if asked.method == BOUND:
        windows = WindowReader(engine, plan, f"{name}-w", lora=lora, salt=request.cache_salt)
        seed = request.seed or 0
        told = await bounds(reader, windows, texts, contexts, num_more, asked.samples, seed)
    else:
        told = await chains(reader, texts, contexts, num_more)
    tokenizer = handler.renderer.get_tokenizer()
    choices = [
        choice(tokenizer, i, text, each)
        for i, (text, each) in enumerate(zip(texts, told, strict=True))
    ]
    model = handler.models.model_name(lora)
    return response(name, model, choices, texts, num_more, asked.method)


async def chains(
    reader: Reader,
    texts: Sequence[Sequence[int]],
    contexts: Sequence[int | None],
    num_more: int,
) -> list[list[Told | None]]:
    """What stands beside each token, and beside each behind it, by the chain rule."""
    reads = [
        read
        for text, context in zip(texts, contexts, strict=True)
        for read in reads_of(text, num_more, context)
    ]
    reader.engine.check_admission(max(1, len(reads)))
    # The longest first: the others find its pages.
    seen = (await reader.all(reads[::-1]))[::-1]
    left = iter(seen)
    told: list[list[Told | None]] = []
    for text, context in zip(texts, contexts, strict=True):
        first = context or 1
        scored = [_told(token, next(left)) for token in text[first:]]
        told.append([None] * first + scored + _behind(left, num_more))
    return told


async def bounds(
    reader: Reader,
    window_reader: WindowReader,
    texts: Sequence[Sequence[int]],
    contexts: Sequence[int | None],
    num_more: int,
    samples: int,
    seed: int,
) -> list[list[Told | None]]:
    """The same by the bound, from one set of reads."""
    plan = reader.plan

    def drawn() -> list[list[Window]]:
        return [
            [
                window
                for piece in pieces_of(len(text), context, plan)
                for window in windows_of(text, piece, samples, seed, plan)
            ]
            for text, context in zip(texts, contexts, strict=True)
        ]

    # Sorting a million keys takes a while, and the event loop is others' as well.
    windows = await asyncio.to_thread(drawn)
    behind = [read for text in texts for read in more_of(text, num_more)]
    num = sum(map(len, windows))
    reader.engine.check_admission(max(1, num + len(behind)))
    heard = iter((await window_reader.all([w for each in windows for w in each][::-1]))[::-1])
    left = iter(await reader.all(behind))
    told: list[list[Told | None]] = []
    for text, context, each in zip(texts, contexts, windows, strict=True):
        shares = shares_of(text, each, [next(heard) for _ in each])
        scored = [_as_told(share) for share in by_token(len(text), context, shares)]
        told.append(scored + _behind(left, num_more))
    return told


def _told(token: int, seen: Seen) -> Told:
    log = seen.top_log if token == seen.top else seen.logs[token]
    return Told(log, seen.top, seen.top_log)


def _as_told(share: Share | None) -> Told | None:
    return None if share is None else Told(share.log, share.top, share.top_log)


def _behind(left: Any, num_more: int) -> list[Told | None]:
    seen = [next(left) for _ in range(num_more)]
    return [Told(each.top_log, each.top, each.top_log) for each in seen]


def choice(
    tokenizer: Any, index: int, text: Sequence[int], told: Sequence[Told | None]
) -> dict[str, Any]:
    """One text with what stands beside its tokens, and the tokens behind it."""
    behind = [each.top for each in told[len(text) :] if each is not None]
    ids = [*text, *behind]
    tokens = [tokenizer.decode([token]) for token in ids]
    logs: list[float | None] = []
    tops: list[dict[str, float] | None] = []
    offsets, end = [], 0
    for word, each in zip(tokens, told, strict=True):
        offsets.append(end)
        end += len(word)
        logs.append(None if each is None else each.log)
        # A word of the same letters is another token: the more probable one stays.
        top = {} if each is None else {tokenizer.decode([each.top]): each.top_log}
        tops.append(None if each is None else {word: each.log} | top)
    return {
        "index": index,
        "text": tokenizer.decode(ids),
        "finish_reason": "length",
        "logprobs": {
            "text_offset": offsets,
            "token_logprobs": logs,
            "tokens": tokens,
            "top_logprobs": tops,
        },
    }


def response(
    name: str,
    model: str,
    choices: Sequence[Any],
    texts: Sequence[Sequence[int]],
    num_more: int,
    method: str,
) -> Any:
    """vLLM's response, which says how it was estimated."""
    from vllm.entrypoints.openai.completion.protocol import CompletionResponse

    num_prompt, num_new = sum(map(len, texts)), num_more * len(texts)
    usage = {
        "prompt_tokens": num_prompt,
        "completion_tokens": num_new,
        "total_tokens": num_prompt + num_new,
    }
    return CompletionResponse(
        id=name, model=model, choices=list(choices), usage=usage, **{FIELD: method}
    )
