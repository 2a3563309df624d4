"""Automata over bytes with vocabularies that lack the tokens of single bytes."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest

from tests.unit.structured_inputs import LIMITS, dfa_of, longest_first
from vllm_diffusion.structured.compiled import Compiled
from vllm_diffusion.structured.compiler import Compiler
from vllm_diffusion.structured.constraint import Constraint, RefusedError
from vllm_diffusion.structured.dfa_matcher import ByteDfaMatcher, ByteDfaTables
from vllm_diffusion.structured.matcher import is_allowed
from vllm_diffusion.structured.token_ends import tokens_to_end
from vllm_diffusion.structured.vocabulary import Vocabulary

SPELLED = [b"", b"a", b"ab", b"bc", b"cab", b"\xc3\xa9", b"dd", b"d\xc3"]
STOP = 0


def encode(text: str) -> list[int]:
    """As BPE without an unknown token does: what it cannot write is dropped."""
    try:
        return longest_first(SPELLED)(text)
    except ValueError:
        return encode(text[:-1]) if text else []


VOCABULARY = Vocabulary(SPELLED, (STOP,), encode)
BYTES_ONLY = replace(LIMITS, cells=1)
"""No automaton over tokens is small enough."""
REGEXES = ["a(b|c)*", "(ab|bc|b)+", "(dd|d)*a", "a(d|b)c?", "é|b", "(a|dé)(bc|c)"]
LONGEST = 5


def matcher_of(regex: str) -> ByteDfaMatcher:
    dfa = dfa_of(regex)
    dfa = replace(dfa, to_end=tokens_to_end(dfa, VOCABULARY))
    return ByteDfaMatcher(ByteDfaTables(dfa, VOCABULARY), (STOP,))


def texts(regex: str) -> set[tuple[int, ...]]:
    """All sequences of few tokens that spell a text of the expression, tried one by one."""
    dfa = dfa_of(regex)
    sizes = range(LONGEST + 1)
    return {
        tokens
        for size in sizes
        for tokens in itertools.product(range(1, len(SPELLED)), repeat=size)
        if dfa.accepts(b"".join(SPELLED[token] for token in tokens))
    }


@pytest.mark.parametrize("regex", REGEXES)
def test_only_tokens_that_lead_to_an_end_may_come(regex: str) -> None:
    """Tried against every sequence: what is allowed can be ended, and the other way round."""
    good = texts(regex)
    assert good
    begins = {text[:size] for text in good for size in range(len(text) + 1)}
    longest = max(map(len, begins))
    left: list[tuple[tuple[int, ...], ByteDfaMatcher]] = [((), matcher_of(regex))]
    while left:
        tokens, matcher = left.pop()
        bits = np.zeros(VOCABULARY.num_words, dtype=np.uint32)
        matcher.fill(bits)
        assert is_allowed(bits, STOP) == (tokens in good)
        ending = matcher.ending(100)
        assert ending is not None
        other = matcher.fork()
        assert all(other.accept(token) for token in ending)
        assert other.is_done
        if len(tokens) >= min(longest, 3):
            continue
        for token in range(1, len(SPELLED)):
            behind = matcher.fork()
            may = behind.accept(token)
            assert may == is_allowed(bits, token) == ((*tokens, token) in begins)
            if may:
                left.append(((*tokens, token), behind))


def test_all_bytes_need_no_table() -> None:
    spelled = [b"", *(bytes([byte]) for byte in range(256)), b"ab"]
    assert (
        tokens_to_end(dfa_of("a(b|c)*"), Vocabulary(spelled, (0,), longest_first(spelled))) is None
    )


def test_what_no_tokens_can_write_is_refused() -> None:
    compiler = Compiler(VOCABULARY, BYTES_ONLY)
    for regex in ("bca?bb", "c+", "(a|d)d"):
        if not texts(regex):
            with pytest.raises(RefusedError, match="no token of the model can write it"):
                compiler.compile(Constraint("regex", regex))
    assert not texts("bca?bb")


@pytest.mark.parametrize("regex", [*REGEXES, "abc", "cabcab"])
def test_automata_over_tokens_lose_no_text(regex: str) -> None:
    """The tokenizer's own cut of a forced text may be no way to write it."""
    compiled = Compiler(VOCABULARY, LIMITS).compile(Constraint("regex", regex))
    assert tuple(compiled.ending) in texts(regex)


def test_what_is_compiled_says_it_to_other_processes() -> None:
    compiled = Compiler(VOCABULARY, BYTES_ONLY).compile(Constraint("regex", "(ab|bc|b)+"))
    assert compiled.dfa is not None
    other = Compiled.unpack(compiled.pack()).dfa
    assert other is not None
    assert np.array_equal(other.to_end, compiled.dfa.to_end)  # type: ignore[arg-type]
