"""Texts stay UTF-8, and JSON free of control characters, at every token."""

from __future__ import annotations

import random

import numpy as np
import pytest

from vllm_diffusion.structured.matcher import Bits, first_allowed
from vllm_diffusion.structured.utf8 import Spelling, WellformedMatcher

SPELLED = [bytes([byte]) for byte in range(256)] + [
    "é".encode(),
    b"\xc3",
    "数".encode()[:2],
    b"a\x01",
]
WORDS = -(-len(SPELLED) // 32)


class Anything:
    is_done = False

    def accept(self, token: int) -> bool:
        return True

    def fill(self, bits_W: Bits) -> None:
        bits_W.fill(0xFFFFFFFF)

    def ending(self, limit: int) -> list[int] | None:
        return None

    def forced_text(self) -> str:
        return ""

    def fork(self) -> Anything:
        return self


@pytest.mark.parametrize("allows_control", [True, False])
@pytest.mark.parametrize("seed", range(20))
def test_every_text_can_be_completed(seed: int, allows_control: bool) -> None:
    rng = random.Random(seed)
    spelling = Spelling(
        SPELLED, WORDS, never=[65], controls=bytes(range(32)) if allows_control else b""
    )
    matcher, bits, text = WellformedMatcher(Anything(), spelling), np.zeros(WORDS, np.uint32), b""
    refused = 0
    for _ in range(300):
        matcher.fill(bits)
        allowed = first_allowed(bits, 999)
        assert allowed
        token = rng.randrange(len(SPELLED))
        assert matcher.fork().accept(token) == (token in allowed)
        refused += token not in allowed
        token = rng.choice(allowed)
        assert matcher.accept(token)
        text += SPELLED[token]
    assert refused
    text.decode("utf-8", errors="strict") if not matcher._pending else text[
        : -len(matcher._pending)
    ].decode("utf-8")
    assert allows_control == any(byte < 0x20 for byte in text)
    assert b"A" not in text
    # All of Unicode but surrogates is within reach.
    for character in ("\u07ff", "\u0800", "\ud7ff", "\ue000", "\uffff", "\U00010000", "\U0010ffff"):
        fresh = WellformedMatcher(Anything(), spelling)
        assert all(fresh.accept(byte) for byte in character.encode())
