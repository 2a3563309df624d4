"""What is asked of a text's words, against plain string searches."""

from __future__ import annotations

import random
from itertools import product
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.structured_inputs import longest_first, vocabulary_of
from vllm_diffusion.request.lexical import LEXICAL_PARSERS, LexicalConstraints, read_lexical
from vllm_diffusion.request.params import InvalidFieldError, read_fields
from vllm_diffusion.request.parsed import parse
from vllm_diffusion.request.plan import make_plan
from vllm_diffusion.structured.frontier import ConstrainedCanvas
from vllm_diffusion.structured.lexical import LexicalMatcher, read_spec, spec_of
from vllm_diffusion.structured.lexical_dfa import phrases_of
from vllm_diffusion.structured.matcher import Bits, first_allowed, is_allowed

STOP, MASK = 0, 1
ALPHABET = "ab é"
SPELLED = [
    b"<stop>",
    b"<mask>",
    *(bytes([byte]) for byte in range(256)),
    *(text.encode() for text in ("ab", "ba", "aba", " a", "éb", "bé ")),
    "aé".encode()[:2],
    "éa".encode()[1:],
]
V = len(SPELLED)
WORDS = -(-V // 32)


VOCABULARY = vocabulary_of(SPELLED, [STOP, MASK], longest_first([b"", b"", *SPELLED[2:]]))


def matcher(lexical: LexicalConstraints) -> LexicalMatcher:
    return LexicalMatcher.of(lexical, VOCABULARY, (STOP,))


def holds(text: str, lexical: LexicalConstraints) -> bool:
    most = lexical.max_chars
    return (
        all(word in text for word in lexical.keywords)
        and not any(word in text for word in lexical.without)
        and lexical.min_chars <= len(text)
        and (most is None or len(text) <= most)
    )


TEXTS = st.lists(st.text(ALPHABET, min_size=1, max_size=3), max_size=3)


@st.composite
def wordings(draw: Any) -> LexicalConstraints:
    low = draw(st.integers(0, 8))
    high = draw(st.none() | st.integers(low or 1, 14))
    said = {"keywords": draw(TEXTS), "without": draw(TEXTS), "min_chars": low}
    if high is not None:
        said["max_chars"] = high
    try:
        return read_lexical({f"diffusion_{k}": v for k, v in said.items()}) or LexicalConstraints()
    except InvalidFieldError:
        return LexicalConstraints(min_chars=low, max_chars=high)


@settings(max_examples=200, deadline=None)
@given(wordings())
def test_fewest_characters_are_those_of_brute_force(lexical: LexicalConstraints) -> None:
    most = 6
    fits = LexicalConstraints(lexical.keywords, lexical.without)
    sizes = [
        len(text)
        for size in range(most + 1)
        for text in product(ALPHABET, repeat=size)
        if holds("".join(text), fits)
    ]
    need = phrases_of(lexical).need_MS[0, 0]
    # Another character than those of the alphabet may be needed between two keywords.
    assert need <= sizes[0] if sizes else need > 0
    if sizes and need < sizes[0]:
        assert lexical.without


@settings(max_examples=300, deadline=None)
@given(wordings(), st.integers(0, 2**32))
def test_any_walk_along_the_allowed_tokens_can_end(lexical: LexicalConstraints, seed: int) -> None:
    rng = random.Random(seed)
    at = matcher(lexical)
    if lexical.max_chars is not None and at.reading.phrases.need_MS[0, 0] > lexical.max_chars:
        return
    bits_W: Bits = np.zeros(WORDS, dtype=np.uint32)
    text = b""
    for _ in range(40):
        at.fill(bits_W)
        allowed = first_allowed(bits_W, V)
        assert allowed == [t for t in range(V) if at.fork().accept(t)]
        fits = _decodes(text) and holds(text.decode(), lexical)
        assert is_allowed(bits_W, STOP) == fits
        ending = at.ending(100)
        if ending:
            assert ending[-1] == STOP
            assert at.fork().follows(ending)
            whole = text + b"".join(SPELLED[token] for token in ending[:-1])
            assert holds(whole.decode(), lexical)
        allowed = [token for token in allowed if token != STOP]
        if not allowed:
            break
        token = rng.choice(allowed)
        assert at.accept(token)
        text += SPELLED[token]


def _decodes(text: bytes) -> bool:
    try:
        text.decode()
    except UnicodeDecodeError:
        return False
    return True


@settings(max_examples=300, deadline=None)
@given(wordings(), st.integers(0, 2**32), st.integers(0, 9))
def test_a_canvas_ends_in_time(lexical: LexicalConstraints, seed: int, spare: int) -> None:
    """Whatever is accepted in whatever order, as soon as the words fit."""
    rng = random.Random(seed)
    start = matcher(lexical)
    shortest = start.ending(10**6)
    if not shortest:
        return
    num_left = len(shortest) + spare
    canvas = ConstrainedCanvas(
        matcher=start,
        bits_W=np.zeros(WORDS, dtype=np.uint32),
        mask_id=MASK,
        block_length=4,
        num_left=num_left,
        known_end=shortest,
    )
    text: list[int] = []
    while text[-1:] != [STOP]:
        assert canvas.num_left > 0
        end = min(4, canvas.num_left)
        tokens, masked = [MASK] * 4, [True] * 4
        canvas.follow(tokens, masked, end)
        while any(masked[:end]) and STOP not in tokens[: canvas.frontier]:
            open_ = [i for i in range(end) if masked[i]]
            for position in rng.sample(open_, rng.randrange(1, len(open_) + 1)):
                exact = first_allowed(canvas.bits_W, V)
                options = exact if position == canvas.frontier else range(V)
                tokens[position], masked[position] = rng.choice(list(options)), False
            canvas.follow(tokens, masked, end)
        emitted = tokens[:end]
        if STOP in emitted[: canvas.frontier]:
            emitted = emitted[: emitted.index(STOP) + 1]
        text += emitted
        canvas.emitted(len(emitted))
    assert holds(b"".join(SPELLED[token] for token in text[:-1]).decode(), lexical)


@settings(max_examples=100, deadline=None)
@given(wordings(), st.lists(st.sampled_from(ALPHABET + "c"), max_size=8).map("".join))
def test_the_table_with_keywords_within(lexical: LexicalConstraints, text: str) -> None:
    lexical = LexicalConstraints(lexical.keywords, lexical.without)
    dfa = phrases_of(lexical).byte_dfa()
    assert dfa is not None
    assert dfa.accepts(text.encode()) == holds(text, lexical)
    assert not dfa.accepts(text.encode() + b"\xc3")


@given(wordings())
def test_a_spec_is_read_back(lexical: LexicalConstraints) -> None:
    assert read_spec(spec_of(lexical)) == lexical


def refused(**said: Any) -> InvalidFieldError:
    with pytest.raises(InvalidFieldError) as caught:
        read_lexical({f"diffusion_{key}": value for key, value in said.items()})
    return caught.value


@pytest.mark.parametrize(
    ("said", "field", "words"),
    [
        ({"keywords": "fox"}, "keywords", "a list of texts"),
        ({"keywords": ["fox", 3]}, "keywords", "a list of texts"),
        ({"without": [""]}, "without", "must have a character"),
        ({"without": ["\ud800"]}, "without", "no character"),
        ({"keywords": list("abcdefghi")}, "keywords", "9 texts; at most 8"),
        ({"without": [str(n) for n in range(65)]}, "without", "65 texts; at most 64"),
        ({"min_chars": -1}, "min_chars", "an integer from 0 to 65536"),
        ({"max_chars": 0}, "max_chars", "an integer from 1 to 65536"),
        ({"max_chars": 2.5}, "max_chars", "an integer"),
        ({"min_chars": True}, "min_chars", "an integer"),
        ({"min_chars": 5, "max_chars": 4}, "min_chars", "diffusion_max_chars is 4"),
        ({"keywords": ["foxes"], "max_chars": 4}, "keywords", "'foxes' has more than the 4"),
        ({"keywords": ["foxes"], "without": ["ox"]}, "keywords", "'foxes' holds 'ox'"),
        ({"keywords": ["a" * 9000]}, "keywords", "all texts together may have 8192 bytes"),
    ],
    ids=str,
)
def test_what_cannot_be_is_refused(said: dict[str, Any], field: str, words: str) -> None:
    error = refused(**said)
    assert error.field == f"diffusion_{field}"
    assert words in str(error)


def test_what_asks_for_nothing() -> None:
    assert read_lexical(None) is None
    assert read_lexical({"diffusion_keywords": [], "diffusion_min_chars": 0, "other": 1}) is None
    twice = read_lexical({"diffusion_keywords": ["a", "b", "a"]})
    assert twice is not None
    assert twice.keywords == ("a", "b")


def test_requests_alone_have_these_fields() -> None:
    """Neither a server nor a checkpoint does."""
    from vllm_diffusion.family.rows import SDAR

    def plan(**fields: Any) -> Any:
        shape: dict[str, Any] = {"generation": {}, "options": {}} | fields
        return make_plan(SDAR, mask_id=3, block_length=4, vocab_size=512, **shape)

    served = plan()
    assert parse({"diffusion_keywords": ["a"]}, served).decode == served.defaults
    with pytest.raises(InvalidFieldError, match="keywords"):
        plan(options={"keywords": ["a"]})
    with pytest.raises(InvalidFieldError, match="keywords"):
        plan(generation={"diffusion_keywords": ["a"]})
    with pytest.raises(InvalidFieldError, match="did you mean diffusion_keywords"):
        read_fields({"diffusion_keyword": 1}, prefix="diffusion_", beside=LEXICAL_PARSERS)
