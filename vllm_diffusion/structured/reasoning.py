"""Text in front of a grammar: what a model thinks is free, what it answers is not."""

from __future__ import annotations

from collections.abc import Callable

from vllm_diffusion.structured.matcher import Bits, Matcher


class ThinkingMatcher:
    """Anything until the thoughts end, ``inner`` behind that.

    Args:
        inner: of the answer.
        is_end: whether the thoughts end with the last of these tokens.
        tokens: prompt and output so far.
        is_answer: whether a token that ends the thoughts begins the answer, as a tool call's
            marker may.
    """

    def __init__(
        self,
        inner: Matcher,
        is_end: Callable[[list[int]], bool],
        tokens: list[int],
        is_answer: Callable[[int], bool] = lambda token: False,
    ) -> None:
        self._inner, self._is_end, self._is_answer = inner, is_end, is_answer
        self._tokens: list[int] | None = None if is_end(tokens) else tokens

    @property
    def thinks(self) -> bool:
        """The thoughts have not ended."""
        return self._tokens is not None

    @property
    def is_done(self) -> bool:
        return self._tokens is None and self._inner.is_done

    def accept(self, token: int) -> bool:
        if self._tokens is None:
            return self._inner.accept(token)
        self._tokens = [*self._tokens, token]
        if self._is_end(self._tokens):
            self._tokens = None
            if self._is_answer(token):
                # Where the grammar starts otherwise, the guard in the engine core ends the request.
                self._inner.accept(token)
        return True

    def fill(self, bits_W: Bits) -> None:
        if self._tokens is None:
            self._inner.fill(bits_W)
        else:
            bits_W.fill(0xFFFFFFFF)

    def forced_text(self) -> str:
        return self._inner.forced_text() if self._tokens is None else ""

    def ending(self, limit: int) -> list[int] | None:
        return self._inner.ending(limit) if self._tokens is None else None

    def fork(self) -> ThinkingMatcher:
        other = object.__new__(ThinkingMatcher)
        other._inner = self._inner.fork()
        other._is_end, other._is_answer = self._is_end, self._is_answer
        other._tokens = self._tokens
        return other
