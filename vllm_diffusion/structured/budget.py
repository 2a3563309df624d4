"""Thoughts that end when their tokens are used up.

Thoughts begin with a marker of the model's, in the prompt or in the output, and end with another.
A budget counts the tokens between the two over the whole output, and says what must come once
there are none left. It is followed like a grammar: where nothing else is asked for, everything is
allowed until then and again behind it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from vllm_diffusion.structured.frontier import ConstrainedCanvas
from vllm_diffusion.structured.matcher import Bits, Matcher
from vllm_diffusion.structured.reasoning import ReasoningMatcher

Ids = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Markers:
    """Tokens around thoughts."""

    start: Ids
    end: Ids
    """What the model itself ends them with."""
    forced: Ids
    """What ends them by force: ``end``, or a phrase with it."""

    def thinks(self, tokens: Sequence[int]) -> bool:
        """Do the tokens end within thoughts?"""
        text = list(tokens)
        return _last(text, self.start) > _last(text, self.end)

    def has_reasoned(self, tokens: Sequence[int]) -> bool:
        """Have thoughts ended in the tokens, and not begun again?"""
        text = list(tokens)
        return _last(text, self.end) > _last(text, self.start)


def markers_of(vllm_config: Any) -> Markers | None:
    """What stands around thoughts, if vLLM's reasoning config says it."""
    config = vllm_config.reasoning_config
    if config is None or not config.enabled:
        return None
    return Markers(
        start=tuple(config.reasoning_start_token_ids or ()),
        end=tuple(config.natural_reasoning_end_token_ids or ()),
        forced=tuple(config.reasoning_end_token_ids or ()),
    )


def _last(tokens: list[int], marker: Ids) -> int:
    """Where the marker stands last; -1 where it does not."""
    size = len(marker)
    starts = range(len(tokens) - size, -1, -1)
    return next((at for at in starts if tuple(tokens[at : at + size]) == marker), -1)


@dataclass(slots=True)
class Budget:
    """What is left of the tokens for thoughts.

    Args:
        markers: of the model.
        left: tokens that may still be thoughts.
        is_thinking: the next token is a thought.
        is_once: nothing begins again behind the first end, because a grammar follows.
    """

    markers: Markers
    left: int
    is_thinking: bool
    is_once: bool = False
    is_over: bool = False
    num_forced: int = 0
    """Tokens of the forced end that are there, once it has begun."""
    tail: Ids = field(default=())
    """The last tokens, as many as a marker is long."""

    @property
    def must_come(self) -> int | None:
        """The only token that may come next, where there is one."""
        if not self.is_thinking or self.left > 0:
            return None
        return self.markers.forced[self.num_forced]

    def accept(self, token: int) -> None:
        """Count a token."""
        if self.is_over:
            return
        markers = self.markers
        size = max(map(len, (markers.start, markers.end, markers.forced)))
        is_forced = self.must_come is not None
        self.tail = (*self.tail, token)[-size:]
        if self.is_thinking and self._has_just(markers.end):
            self.end()
            return
        if not self.is_thinking and self._has_just(markers.start) and not self.is_once:
            self.is_thinking = True
            self._begin_end()
            return
        if is_forced:
            self.num_forced += 1
            if self.num_forced == len(markers.forced):
                self.end()
        elif self.is_thinking:
            self.left -= 1
            self._begin_end()

    def end(self) -> None:
        """The thoughts are at their end."""
        self.is_thinking, self.is_over = False, self.is_once

    def _has_just(self, marker: Ids) -> bool:
        return self.tail[-len(marker) :] == marker

    def _begin_end(self) -> None:
        """Once nothing is left: an end that the model has begun by itself is gone on with."""
        if self.left <= 0:
            forced = self.markers.forced
            sizes = range(len(forced) - 1, 0, -1)
            self.num_forced = next((n for n in sizes if self._has_just(forced[:n])), 0)

    def copy(self) -> Budget:
        return replace(self)


class FreeMatcher:
    """Of a text that nothing is asked of."""

    is_done = False

    def accept(self, token: int) -> bool:
        return True

    def fill(self, bits_W: Bits) -> None:
        bits_W.fill(0xFFFFFFFF)

    def forced(self) -> list[int]:
        return []

    def ending(self, limit: int) -> list[int] | None:
        return None

    def fork(self) -> FreeMatcher:
        return self


class BudgetMatcher:
    """``inner``, whose thoughts end within a budget.

    Args:
        inner: free text, or thoughts and a grammar behind them.
        budget: of the thoughts.
    """

    def __init__(self, inner: Matcher, budget: Budget) -> None:
        self._inner, self.budget = inner, budget

    @property
    def is_done(self) -> bool:
        return self._inner.is_done

    def accept(self, token: int) -> bool:
        must_come = self.budget.must_come
        if must_come not in (None, token) or not self._inner.accept(token):
            return False
        self.budget.accept(token)
        if isinstance(self._inner, ReasoningMatcher) and not self._inner.is_thinking:
            self.budget.end()  # parsers may know of other ends than the marker
        return True

    def fill(self, bits_W: Bits) -> None:
        must_come = self.budget.must_come
        if must_come is None:
            self._inner.fill(bits_W)
        else:
            bits_W.fill(0)
            bits_W[must_come // 32] = 1 << must_come % 32

    def forced(self) -> list[int]:
        return [] if self.budget.must_come is not None else self._inner.forced()

    def ending(self, limit: int) -> list[int] | None:
        return self._inner.ending(limit)

    def fork(self) -> BudgetMatcher:
        return BudgetMatcher(self._inner.fork(), self.budget.copy())


class ThinkingCanvas(ConstrainedCanvas):
    """A canvas whose matcher is a ``BudgetMatcher``."""

    __slots__ = ()

    def follow(self, tokens: list[int], masked: list[bool], end: int) -> None:
        assert isinstance(self.matcher, BudgetMatcher)
        self._cut(self.matcher.budget.copy(), tokens, masked, min(end, self.num_left))
        if self.matcher.budget.is_once:
            super().follow(tokens, masked, end)
        else:
            self.advance(tokens, masked, min(end, self.num_left))  # free text needs no end

    def _cut(self, budget: Budget, tokens: list[int], masked: list[bool], end: int) -> None:
        """Mask again what was accepted behind a forced end: it was guessed as a thought."""
        for at in range(self.frontier, end):
            must_come = budget.must_come
            if must_come is not None and (masked[at] or tokens[at] != must_come):
                num_left = end - at
                tokens[at:end] = [self.mask_id] * num_left
                masked[at:end] = [True] * num_left
                return
            if masked[at]:
                return
            budget.accept(tokens[at])
