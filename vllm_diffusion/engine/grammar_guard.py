"""A grammar in the engine core, that checks what the worker has emitted."""

from __future__ import annotations

from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vllm.v1.request import Request

    from vllm_diffusion.engine.grammar_backends import Backends
    from vllm_diffusion.structured.matcher import Matcher


class Guard:
    """What vLLM's scheduler asks of a grammar, with a matcher of ours behind it."""

    def __init__(self, matcher: Matcher) -> None:
        self._matcher = matcher

    def accept_tokens(self, request_id: str, tokens: list[int]) -> bool:
        """Follow the text; False where it leaves the grammar. Anything may follow its end."""
        return all(self._matcher.is_done or self._matcher.accept(token) for token in tokens)


def guard_of(request: Request, backends: Backends) -> Future[Any]:
    """A guard for the request, or the reason why its grammar cannot be compiled."""
    guard: Future[Any] = Future()
    assert request.sampling_params is not None
    try:
        guard.set_result(Guard(backends.answer_matcher(request.sampling_params)))
    except Exception as error:  # whatever the libraries raise ends this request alone
        guard.set_exception(error)
    return guard
