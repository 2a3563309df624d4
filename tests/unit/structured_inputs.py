"""Expressions, vocabularies and automata that the tests of structured output share."""

from __future__ import annotations

import functools
import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from vllm_diffusion.structured.limits import Limits
from vllm_diffusion.structured.regex_ast import Node, anchored, parse
from vllm_diffusion.structured.regex_dfa import ByteDfa, byte_dfa
from vllm_diffusion.structured.token_dfa import Automaton
from vllm_diffusion.structured.vocabulary import TokenizerSpec, Vocabulary

LIMITS = Limits()
TINY = Path(__file__).resolve().parents[2] / "examples/models/tiny-diffusion"


def node_of(regex: str, *, is_search: bool = False) -> Node:
    """The tree of a whole text."""
    return anchored(parse(regex, LIMITS.nesting), is_search=is_search)


def dfa_of(regex: str, limits: Limits = LIMITS, *, is_search: bool = False) -> ByteDfa:
    """The automaton of an expression that some text matches."""
    dfa = byte_dfa(node_of(regex, is_search=is_search), limits)
    assert dfa is not None
    return dfa


def longest_first(spelled: Sequence[bytes]) -> Callable[[str], list[int]]:
    """A tokenizer that takes the longest token of what is left."""

    def encode(text: str) -> list[int]:
        rest, tokens = text.encode(), []
        while rest:
            fitting = [t for t, one in enumerate(spelled) if one and rest.startswith(one)]
            token = max(fitting, key=lambda t: len(spelled[t]))
            tokens.append(token)
            rest = rest[len(spelled[token]) :]
        return tokens

    return encode


def vocabulary_of(
    spelled: Sequence[bytes],
    never: Sequence[int] = (),
    encode: Callable[[str], list[int]] | None = None,
) -> Vocabulary:
    """Without a tokenizer of a library."""
    texts = [b"" if token in never else text for token, text in enumerate(spelled)]
    return Vocabulary(spelled, never, encode or longest_first(texts))


class TinyTokenizer:
    """The bundled model's, with what is read of a Hugging Face tokenizer."""

    def __init__(self) -> None:
        from tokenizers import Tokenizer

        self.backend_tokenizer = Tokenizer.from_file(str(TINY / "tokenizer.json"))
        self.added_tokens_decoder = self.backend_tokenizer.get_added_tokens_decoder()

    @property
    def all_special_ids(self) -> list[int]:
        return [token for token, text in self.added_tokens_decoder.items() if text.special]


TINY_SIZE = 640
"""More than the tokenizer has, as a model's padded embedding is."""


@functools.cache
def tiny_spec() -> TokenizerSpec:
    tokenizer = TinyTokenizer()
    mask_id = tokenizer.backend_tokenizer.token_to_id("<|MASK|>")
    return TokenizerSpec.of(tokenizer, TINY_SIZE, mask_id)


@functools.cache
def tiny_vocabulary() -> Vocabulary:
    return Vocabulary.of(tiny_spec())


def random_path(automaton: Automaton, rng: random.Random, most: int = 30) -> list[int]:
    """Tokens of a text that heads for its end after a while; without the stop token."""
    state, path = automaton.start, []
    while True:
        edges = list(range(*automaton.edges_of(state).indices(len(automaton.src_E))))
        if len(path) >= most:
            ahead = [int(automaton.distance_N[automaton.dst_E[edge]]) for edge in edges]
            edges = [edge for edge, left in zip(edges, ahead, strict=True) if left == min(ahead)]
        edge = rng.choice(edges)
        state = int(automaton.dst_E[edge])
        if state == automaton.done:
            return path
        path.append(int(rng.choice((automaton.class_V == automaton.class_E[edge]).nonzero()[0])))


def spelled_by(vocabulary: Any, path: Sequence[int]) -> bytes:
    return b"".join(vocabulary.spelled[token] for token in path)
