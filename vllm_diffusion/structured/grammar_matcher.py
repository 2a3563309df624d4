"""A text's place in a context-free grammar, by llguidance.

A second parser of the same grammar reads bytes instead of tokens: a step of it costs
microseconds whatever the vocabulary, and the end of a text is looked for with it
(``shortest_end``).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from vllm_diffusion.structured.constraint import RefusedError
from vllm_diffusion.structured.limits import Limits
from vllm_diffusion.structured.markers import completing, search_table, walk
from vllm_diffusion.structured.matcher import (
    Bits,
    DeadEndError,
    is_allowed,
    leads_to_end,
    set_bit,
)
from vllm_diffusion.structured.shortest_end import shortest_end
from vllm_diffusion.structured.vocabulary import Vocabulary

STEP_FUEL = 200_000
"""llguidance's measure of one step in its lexer, some 15 ms at the most."""


class _ByteTokens:
    """A tokenizer whose tokens are the 256 bytes, as llguidance wants one."""

    eos_token_id = 256
    bos_token_id = None
    unk_token_id = None
    all_special_ids = (256,)
    tokens = (*(bytes([byte]) for byte in range(256)), b"<end>")
    special_token_ids = (256,)

    def __call__(self, text: bytes | str) -> list[int]:
        return list(text.encode() if isinstance(text, str) else text)


_BYTES: list[Any] = []


def byte_tokenizer() -> Any:
    """llguidance's tokenizer of single bytes, made once."""
    if not _BYTES:
        import llguidance

        _BYTES.append(llguidance.LLTokenizer(llguidance.TokenizerWrapper(_ByteTokens())))
    return _BYTES[0]


def parser_limits(limits: Limits) -> Any:
    """The library's own bounds, by ours."""
    import llguidance

    return llguidance.LLParserLimits(
        max_grammar_size=limits.grammar_symbols,
        max_lexer_states=limits.lexer_states,
        step_lexer_fuel=STEP_FUEL,
    )


class GrammarMatcher:
    """Around an ``LLMatcher``, whose grammar may end before the stop token is there.

    Args:
        vocabulary: of the server.
        grammar: as llguidance writes one.
        stop_ids: what may end the text; not text themselves.
        limits: of one constraint.
        hints: see ``shortest_end``.
        markers: see ``markers``.

    Raises:
        RefusedError: the library refuses it; its message says why.
    """

    def __init__(
        self,
        vocabulary: Vocabulary,
        grammar: str,
        stop_ids: tuple[int, ...],
        limits: Limits,
        hints: tuple[bytes, ...] = (),
        markers: tuple[bytes, ...] = (),
    ) -> None:
        import llguidance

        self._hints = hints
        self._markers, self._places = markers, [0] * len(markers)
        self._completing: dict[tuple[bytes, int], list[int]] = {}
        bounds = parser_limits(limits)
        self._vocabulary, self._stop_ids, self.is_done = vocabulary, stop_ids, False
        self._matcher = llguidance.LLMatcher(
            vocabulary.ll_tokenizer, grammar, log_level=0, limits=bounds
        )
        self._bytes = llguidance.LLMatcher(byte_tokenizer(), grammar, log_level=0, limits=bounds)
        for matcher in (self._matcher, self._bytes):
            if matcher.is_error():
                raise RefusedError(" ".join(matcher.get_error().split())[:400])

    def _check(self) -> None:
        if self._matcher.is_error():
            raise DeadEndError(self._matcher.get_error()[:400])

    def accept(self, token: int) -> bool:
        if self.is_done:
            return True
        if token in self._stop_ids:
            self.is_done = bool(self._matcher.is_stopped() or self._matcher.is_accepting())
            self._check()
            return self.is_done
        spelled = self._vocabulary.spelled
        text = spelled[token] if 0 <= token < len(spelled) else b""
        if not text or self._matcher.is_stopped() or not self._matcher.validate_tokens([token]):
            self._check()
            return False
        places = self._places_behind(text)
        if places is None:
            return False
        # Both, or neither: a step that is beyond a bound leaves a parser in error.
        if not self._matcher.consume_token(token) or not self._bytes.consume_tokens(list(text)):
            error = self._matcher.get_error() or self._bytes.get_error()
            raise DeadEndError(error[:400])
        self._places = places
        return True

    def _places_behind(self, text: bytes) -> list[int] | None:
        """How much of each marker has been read behind a text; None where one may not be there."""
        places = []
        for marker, place in zip(self._markers, self._places, strict=True):
            place, whole = walk(search_table(marker), place, text)
            for size in whole:
                other = self._bytes.deep_copy()
                if not other.consume_tokens(list(text[:size])) or not other.is_accepting():
                    return None
            places.append(place)
        return places

    def fill(self, bits_W: Bits) -> None:
        bits_W.fill(0)
        if self.is_done:
            bits_W.fill(0xFFFFFFFF)
            return
        is_stopped = self._matcher.is_stopped()
        if not is_stopped:
            allowed = np.frombuffer(self._matcher.compute_bitmask(), dtype=np.uint32)
            width = min(len(allowed), len(bits_W))
            bits_W[:width] = allowed[:width]
        self._check()
        may_stop = is_stopped or self._matcher.is_accepting()
        for token in self._tokens_with_markers():
            if is_allowed(bits_W, token):
                text = self._vocabulary.spelled[token]
                set_bit(bits_W, token, self._places_behind(text) is not None)
        bits_W &= self._vocabulary.text_bits_W
        for token in self._stop_ids:
            set_bit(bits_W, token, bool(may_stop))

    def _tokens_with_markers(self) -> list[int]:
        found: list[int] = []
        for key in zip(self._markers, self._places, strict=True):
            if key not in self._completing:
                self._completing[key] = completing(*key, self._vocabulary)
            found += self._completing[key]
        return found

    def forced(self) -> list[int]:
        if self.is_done or self._matcher.is_stopped():
            return []
        return self._vocabulary.whole(self._matcher.compute_ff_bytes())

    def ending(self, limit: int, num_nodes: int | None = None) -> list[int] | None:
        if self.is_done:
            return []
        text = shortest_end(self._bytes, 4 * limit + 16, num_nodes, self._hints)
        if text is None:
            return None
        vocabulary = self._vocabulary
        for path in (vocabulary.cut(text), [vocabulary.token_of.get(bytes([b]), -1) for b in text]):
            path = [*path, self._stop_ids[0]]
            if len(path) <= limit and self._leads_to_end(path):
                return path
        return None

    def _leads_to_end(self, path: list[int]) -> bool:
        try:
            return leads_to_end(self.fork(), path)
        except DeadEndError:
            return False

    def fork(self) -> GrammarMatcher:
        other = object.__new__(GrammarMatcher)
        other._vocabulary, other._stop_ids = self._vocabulary, self._stop_ids
        other.is_done, other._hints = self.is_done, self._hints
        other._markers, other._places = self._markers, self._places
        other._completing = self._completing
        other._matcher, other._bytes = self._matcher.deep_copy(), self._bytes.deep_copy()
        return other
