"""What vLLM's handlers of chats and completions lack for our models.

Fields are refused that vLLM would ignore (``admission``), before a stream begins as without one
(``acceptance``).
A response whose request chose an approximate cache gets a top-level
``warning``. Mercury's API has the field, nullable; here it is there only when
there is a warning, so that all other responses stay as vLLM makes them. A
full-attention model's output gets a length where nobody says one.
"""

from __future__ import annotations

import functools
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

from vllm_diffusion.request.field_errors import PREFIX
from vllm_diffusion.server.acceptance import CURRENT, Acceptance, begin, num_prompts
from vllm_diffusion.server.account import account, accounted
from vllm_diffusion.server.frame_events import channel_of, with_frames
from vllm_diffusion.server.sse import DONE, chunk_of, event_of
from vllm_diffusion.server.watching import WATCHING, close

if TYPE_CHECKING:
    from vllm_diffusion.request.parsed import ParsedRequest
    from vllm_diffusion.request.plan import DecodePlan

Handler = Callable[..., Awaitable[Any]]
FIELD = "warning"
DEFAULT_MAX_TOKENS = 512
"""Of full attention, whose every step computes all of the output; Dream's authors' own.

vLLM's is the rest of the context, which may be 100,000 tokens, a step for each.
"""


def expected(parsed: ParsedRequest | None) -> str | None:
    """The warning that a request calls for; None where it has not come to be taken."""
    kv_cache = "exact" if parsed is None else parsed.decode.kv_cache
    if kv_cache == "exact":
        return None
    return (
        f"{PREFIX}kv_cache={kv_cache!r}: forwards may have reused approximate K and V, so the "
        "text may differ from the exact one"
    )


def _said(response: Any, fallback: str | None, remarks: Sequence[str]) -> str | None:
    """All that a response warns of."""
    counted = None if fallback is None else _counted(response, fallback)
    return "; ".join([*([counted] if counted else []), *remarks]) or None


def _counted(response: Any, fallback: str) -> str | None:
    """The warning of the response's own metrics, with numbers; they may say that none is due."""
    metrics = response.get("metrics") or {}
    account = (metrics.get("speculative_decoding") or {}).get("diffusion")
    return account.get(FIELD) if account else fallback


def _may_be_last(chunk: dict[str, Any]) -> bool:
    """Usage comes without choices; else the last one says why it ends."""
    choices = chunk.get("choices")
    if choices is None:
        return False  # An error: nothing of it is text.
    return all(choice.get("finish_reason") is not None for choice in choices)


async def _warned(
    events: AsyncGenerator[Any, None], warning: str | None, remarks: Sequence[str]
) -> AsyncGenerator[Any, None]:
    """The same stream with what is said in its last chunk; only that one is held back."""
    held: str | None = None
    async with aclosing(events):
        async for event in events:
            if held is not None:
                yield _amended(held, warning, remarks) if event.startswith(DONE) else held
                held = None
            if not isinstance(event, str):
                yield event  # of a response, whose events are objects and have no place for it
                continue
            chunk = chunk_of(event)
            if chunk is not None and _may_be_last(chunk):
                held = event
            else:
                yield event
    if held is not None:
        yield held


def _amended(event: str, warning: str | None, remarks: Sequence[str]) -> str:
    chunk = chunk_of(event)
    assert chunk is not None
    said = _said(chunk, warning, remarks)
    if said is None:
        return event
    chunk[FIELD] = said
    return event_of(chunk)


def limit_output(defaults: dict[str, Any], plan: DecodePlan) -> None:
    """Complete a server's default sampling fields; a checkpoint's ``max_new_tokens`` wins."""
    if plan.record.mask_group.recomputes:
        defaults.setdefault("max_tokens", DEFAULT_MAX_TOKENS)


def wrap(
    handler: Handler,
    admit: Callable[[Any], None],
    on_error: Callable[[Exception, int], Any] | None = None,
    tokenizer: Callable[[], Any] | None = None,
    *,
    counts: bool = False,
    remarked: Callable[[Any], list[str]] | None = None,
    has_reasoning_parser: bool = False,
) -> Handler:
    """A handler of vLLM's server that also does the above; ``admit`` raises what it refuses.

    Args:
        handler: vLLM's.
        admit: sees a request first.
        on_error: see ``acceptance.begin``.
        tokenizer: returns the server's; None where streams have no place for frames.
        counts: whether responses say what they have cost (``account``).
        remarked: takes from a request what is of another dialect; returns what is said of it.
        has_reasoning_parser: whether thoughts are told apart.
    """

    @functools.wraps(handler)
    async def answer(request: Any, *args: Any, **kwargs: Any) -> Any:
        remarks = remarked(request) if remarked is not None else []
        admit(request)
        acceptance = Acceptance(num_prompts(request))
        CURRENT.set(acceptance)
        channel = None
        if tokenizer is not None:
            channel = channel_of(request, has_reasoning_parser=has_reasoning_parser)
        WATCHING.set(channel)
        try:
            response = await handler(request, *args, **kwargs)
            if isinstance(response, AsyncGenerator):
                response = await begin(response, acceptance, on_error)
        except BaseException:
            close(channel)
            raise
        if channel is None or tokenizer is None or not isinstance(response, AsyncGenerator):
            close(channel)
        else:
            response = with_frames(
                response, channel, request, tokenizer(), lambda: acceptance.parsed
            )
        if counts:
            response = _counting(response)
        warning = expected(acceptance.parsed)
        is_due = warning is not None or bool(remarks)
        if is_due and isinstance(response, AsyncGenerator):
            return _warned(response, warning, remarks)
        if hasattr(response, "choices"):
            _mend_reasons(response)
        if is_due and (hasattr(response, "choices") or hasattr(response, "output")):
            said = _said(response.model_dump(include={"metrics"}), warning, remarks)
            if said is not None:
                setattr(response, FIELD, said)
        return response

    return answer


def _counting(response: Any) -> Any:
    """A response, or a stream, that says what it has cost."""
    if isinstance(response, AsyncGenerator):
        return accounted(response)
    if hasattr(response, "choices"):
        account(response)
    return response


def _mend_reasons(response: Any) -> None:
    """A required call that a stop string cut off is none; vLLM says that there were calls."""
    for choice in response.choices:
        message = getattr(choice, "message", None)
        if message is not None and choice.finish_reason == "tool_calls" and not message.tool_calls:
            choice.finish_reason = "stop"
