"""Text that is well-formed whatever its grammar says: UTF-8, and no control characters in JSON.

xgrammar 0.2.8 lets control characters into strings whose length is bounded, and the bytes of
lone surrogates into any string; neither is JSON.
"""

from __future__ import annotations

import codecs
from collections.abc import Sequence

import numpy as np

from vllm_diffusion.structured.matcher import Bits, Matcher, is_allowed

_DECODER = codecs.getincrementaldecoder("utf-8")


def _follow(pending: bytes, text: bytes) -> bytes | None:
    """Bytes of a character that has only begun after ``text``; None where it is no UTF-8."""
    decoder = _DECODER()
    try:
        decoder.decode(pending + text)
    except UnicodeDecodeError:
        return None
    begun = decoder.getstate()[0]
    return begun if not begun or _can_be_completed(begun) else None


def _can_be_completed(begun: bytes) -> bool:
    """The decoder itself notices a surrogate with its last byte only."""
    for rest in (b"\x80", b"\xbf"):
        for count in range(1, 4):
            try:
                (begun + rest * count).decode("utf-8")
            except UnicodeDecodeError:
                continue
            return True
    return False


class Spelling:
    """The bytes of a vocabulary's tokens, and which of them may follow which beginnings.

    Args:
        spelled: V texts.
        num_words: W.
        never: tokens that are not text.
        controls: control characters that a text may hold.
    """

    def __init__(
        self,
        spelled: Sequence[bytes],
        num_words: int,
        *,
        never: Sequence[int],
        controls: bytes,
    ) -> None:
        self.spelled, self.num_words = spelled, num_words
        self.usable = [
            token
            for token, text in enumerate(spelled)
            if token not in never and all(byte >= 0x20 or byte in controls for byte in text)
        ]
        # Only these can go on with a character, and they are few.
        self.continuing = [
            token for token in self.usable if 0x80 <= (spelled[token][:1] or b"\0")[0] < 0xC0
        ]
        self._kept: dict[bytes, Bits] = {}

    def kept(self, pending: bytes) -> Bits:
        """The bits of the tokens that may follow the beginning of a character."""
        if pending not in self._kept:
            tokens = self.continuing if pending else self.usable
            ids = np.array(
                [token for token in tokens if _follow(pending, self.spelled[token]) is not None],
                dtype=np.int64,
            )
            bits_W = np.zeros(self.num_words, dtype=np.uint32)
            np.bitwise_or.at(bits_W, ids // 32, np.uint32(1) << (ids % 32).astype(np.uint32))
            self._kept[pending] = bits_W
        return self._kept[pending]

    def after(self, pending: bytes, token: int) -> bytes:
        """The beginning of a character that a token leaves behind."""
        return _follow(pending, self.spelled[token]) or b""


class WellformedMatcher:
    """``inner`` without the tokens that would make the text ill-formed."""

    def __init__(self, inner: Matcher, spelling: Spelling, pending: bytes = b"") -> None:
        self._inner, self._spelling, self._pending = inner, spelling, pending

    @property
    def is_done(self) -> bool:
        return self._inner.is_done

    def accept(self, token: int) -> bool:
        kept_W = self._spelling.kept(self._pending)
        if not is_allowed(kept_W, token) or not self._inner.accept(token):
            return False
        self._pending = self._spelling.after(self._pending, token)
        return True

    def fill(self, bits_W: Bits) -> None:
        self._inner.fill(bits_W)
        bits_W &= self._spelling.kept(self._pending)

    def forced_text(self) -> str:
        return self._inner.forced_text()

    def ending(self, limit: int) -> list[int] | None:
        return self._inner.ending(limit)

    def fork(self) -> WellformedMatcher:
        return WellformedMatcher(self._inner.fork(), self._spelling, self._pending)
