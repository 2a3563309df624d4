"""Text in front of a grammar: what a model thinks is free, what it answers is not."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from vllm_diffusion.structured.matcher import Bits, Matcher

TAIL = 64
"""Tokens behind which a parser is shown an end of thoughts."""


class ReasoningMatcher:
    """Anything until the thoughts end, ``inner`` behind that.

    Args:
        inner: of the answer.
        is_end: whether the thoughts end in the last of these tokens, which the token is added to.
        tokens: the last of prompt and output so far.
        is_thinking: the next token is a thought.
        is_answer: whether a token that ends the thoughts begins the answer, as a tool call's
            marker may.
    """

    def __init__(
        self,
        inner: Matcher,
        is_end: Callable[[Sequence[int], int], bool],
        tokens: Sequence[int],
        *,
        is_thinking: bool,
        is_answer: Callable[[int], bool] = lambda token: False,
    ) -> None:
        self._inner, self._is_end, self._is_answer = inner, is_end, is_answer
        self._tail = tuple(tokens[-TAIL:])
        self.is_thinking = is_thinking

    @property
    def is_done(self) -> bool:
        return not self.is_thinking and self._inner.is_done

    def accept(self, token: int) -> bool:
        if not self.is_thinking:
            return self._inner.accept(token)
        self._tail = (*self._tail, token)[-TAIL:]
        if self._is_end(self._tail, token):
            self.is_thinking = False
            if self._is_answer(token):
                # Where the grammar starts otherwise, its first token is missing in the text.
                self._inner.accept(token)
        return True

    def fill(self, bits_W: Bits) -> None:
        if self.is_thinking:
            bits_W.fill(0xFFFFFFFF)
        else:
            self._inner.fill(bits_W)

    def forced(self) -> list[int]:
        return [] if self.is_thinking else self._inner.forced()

    def ending(self, limit: int) -> list[int] | None:
        return None if self.is_thinking else self._inner.ending(limit)

    def fork(self) -> ReasoningMatcher:
        other = object.__new__(ReasoningMatcher)
        other._inner = self._inner.fork()
        other._is_end, other._is_answer = self._is_end, self._is_answer
        other._tail, other.is_thinking = self._tail, self.is_thinking
        return other
