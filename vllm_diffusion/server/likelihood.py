"""``echo`` with ``logprobs`` for models that do not read a prompt from left to right.

No row of such a model's prompt predicts its next token, so vLLM has no log-probabilities of it. One
estimate is asked for by name, in ``vllm_xargs``: ``diffusion_likelihood: "chain"``. It is the chain
rule from left to right, ``P(t_k | t_1..t_(k-1) shown, the rest masked)``: a read for each token.
The rest is that of its block, or with full attention that of the text. ``"mc"``, LLaDA's bound by
Monte Carlo, needs a canvas that begins with the text itself, and is refused.

Harnesses cannot name a field of ours: ``--additional-config '{"likelihood": "chain"}'`` asks for
it in every request that says ``echo`` and ``logprobs``.
"""

from __future__ import annotations

import functools
import uuid
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from vllm.entrypoints.serve.engine.protocol import ErrorResponse

from vllm_diffusion.decisions.reading import Read, Seen
from vllm_diffusion.request.field_errors import PREFIX, InvalidFieldError
from vllm_diffusion.server.admission import check_records
from vllm_diffusion.server.label_reads import Reader
from vllm_diffusion.server.refusal import refuse, refused

if TYPE_CHECKING:
    from vllm_diffusion.request.plan import DecodePlan
    from vllm_diffusion.server.handlers import Handler

OPTION = "likelihood"
FIELD = f"{PREFIX}{OPTION}"
CHAIN = "chain"
NO_SAMPLES = (
    'the bound by Monte Carlo needs a canvas that begins with the text; take "chain", which reads '
    "the text from left to right"
)
FREE = frozenset({"model", "prompt", "echo", "logprobs", "max_tokens", "seed", "user"})
"""Fields that go with it; a seed means nothing, since nothing is drawn."""
MAX_READS = 8192
MAX_TOKENS = 1 << 24
"""That all reads of a request compute, if none of them shares a page."""


def default_of(additional_config: Any) -> str | None:
    """What the server's owner has chosen for requests that name nothing.

    Raises:
        InvalidFieldError: it is not an estimate that there is.
    """
    given = additional_config.get(OPTION) if isinstance(additional_config, dict) else None
    if given not in (None, CHAIN):
        remedy = NO_SAMPLES if given == "mc" else f"it must be {CHAIN!r}"
        raise InvalidFieldError(f"additional_config.{OPTION}", given, remedy)
    return given


def take_method(request: Any, plan: DecodePlan, default: str | None) -> str | None:
    """The estimate that a completion asks for, taken out of its fields; None for vLLM's own way.

    Raises:
        VLLMValidationError: it is unknown, or goes with another field.
    """
    xargs = request.vllm_xargs or {}
    scores = bool(request.echo) and request.logprobs is not None
    is_exact = plan.record.mask_group.has_causal_context
    if FIELD not in xargs:
        return default if scores and not is_exact else None
    method = xargs[FIELD]
    request.vllm_xargs = {name: value for name, value in xargs.items() if name != FIELD} or None
    if method != CHAIN:
        remedy = NO_SAMPLES if method == "mc" else f"it must be {CHAIN!r}"
        raise refuse(FIELD, method, remedy, "is not valid")
    if not scores:
        raise refuse(FIELD, method, "it says how echo with logprobs is estimated; ask for both")
    # There a prompt's rows are its log-probabilities, from one forward.
    return None if is_exact else CHAIN


def check_fields(request: Any) -> None:
    """Refuse what the estimate has no place for."""
    check_records(request, "completion")
    for name in sorted(request.model_fields_set - FREE):
        field, value = type(request).model_fields.get(name), getattr(request, name)
        default = None if field is None else field.get_default(call_default_factory=True)
        is_greedy = name == "temperature" and value == 0
        if value not in (None, default) and not is_greedy:
            raise refuse(name, value, "leave it out", f"does not go together with {FIELD}")
    if request.max_tokens not in (0, 1):
        remedy = "the text is scored, with at most one token behind it; say 0 or 1"
        raise refuse("max_tokens", request.max_tokens, remedy, f"is not valid with {FIELD}")
    if request.logprobs not in (0, 1):
        remedy = "a read tells of one token beside the text's own; say 0 or 1"
        raise refuse("logprobs", request.logprobs, remedy, f"is not valid with {FIELD}")


def reads_of(tokens: Sequence[int], num_more: int) -> list[Read]:
    """One for each token but the first, and one for each token behind the text."""
    num = len(tokens)
    reads = [Read(tokens[:k], [tokens[k]], num - k) for k in range(1, num)]
    return reads + [Read(tokens, [tokens[-1]])] * num_more


def check_work(texts: Sequence[Sequence[int]], num_more: int, longest: int) -> None:
    """Refuse more than one request may cost, before any of it is spent."""
    for text in texts:
        if not text:
            raise refused("prompt: it has no token, and nothing to score", "prompt")
        if len(text) + num_more > longest:
            raise refused(
                f"prompt: it has {len(text)} tokens, and with max_tokens more than the maximum "
                f"context length, which is {longest}; shorten it",
                "prompt",
            )
    num_reads = sum(len(text) - 1 + num_more for text in texts)
    num_tokens = sum(len(text) ** 2 for text in texts)
    if num_reads > MAX_READS or num_tokens > MAX_TOKENS:
        raise refused(
            f"prompt: {FIELD} would take {num_reads} reads of {num_tokens} tokens together, and a "
            f"request has at most {MAX_READS} and {MAX_TOKENS}; send fewer or shorter texts",
            "prompt",
        )


def estimating(answer: Handler, handler: Any, plan: DecodePlan, default: str | None) -> Handler:
    """A handler of completions that also estimates."""

    @functools.wraps(answer)
    async def answered(request: Any, *args: Any, **kwargs: Any) -> Any:
        if take_method(request, plan, default) is None:
            return await answer(request, *args, **kwargs)
        check_fields(request)
        return await estimate(request, handler, plan)

    return answered


async def estimate(request: Any, handler: Any, plan: DecodePlan) -> Any:
    """Score the texts of a completion."""
    rendered = await handler.render_completion_request(request)
    if isinstance(rendered, ErrorResponse):
        return rendered
    texts = [list(each.get("prompt_token_ids") or ()) for each in rendered]
    num_more = request.max_tokens
    check_work(texts, num_more, handler.model_config.max_model_len)
    name = f"cmpl-{uuid.uuid4().hex}"
    lora = handler.models.lora_requests.get(request.model)
    reader = Reader(handler.engine_client, plan, name, lora=lora, salt=request.cache_salt)
    reads = [read for text in texts for read in reads_of(text, num_more)]
    handler.engine_client.check_admission(max(1, len(reads)))
    # The longest first: the others find its pages.
    seen = (await reader.all(reads[::-1]))[::-1]
    left = iter(seen)
    tokenizer = handler.renderer.get_tokenizer()
    choices = [
        choice(tokenizer, i, text, [next(left) for _ in reads_of(text, num_more)], num_more)
        for i, text in enumerate(texts)
    ]
    return response(name, handler.models.model_name(lora), choices, texts, num_more)


def choice(
    tokenizer: Any, index: int, text: Sequence[int], seen: Sequence[Seen], num_more: int
) -> dict[str, Any]:
    """One text with the log-probability of each token but the first."""
    ids = [*text, *(each.top for each in seen[len(text) - 1 :])]
    tokens = [tokenizer.decode([token]) for token in ids]
    logs: list[float | None] = [None]
    tops: list[dict[str, float] | None] = [None]
    offsets, end = [], 0
    for token in tokens:
        offsets.append(end)
        end += len(token)
    for token, word, each in zip(ids[1:], tokens[1:], seen, strict=True):
        log = each.top_log if token == each.top else each.logs[token]
        logs.append(log)
        # A word of the same letters is another token: the more probable one stays.
        tops.append({word: log} | {tokenizer.decode([each.top]): each.top_log})
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
    name: str, model: str, choices: Sequence[Any], texts: Sequence[Sequence[int]], num_more: int
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
        id=name, model=model, choices=list(choices), usage=usage, **{FIELD: CHAIN}
    )
