"""The bytes of a tokenizer's tokens, made again in another process."""

from __future__ import annotations

import pickle

import numpy as np
import pytest

pytest.importorskip("llguidance")

from tests.unit.structured_inputs import (
    TINY_SIZE,
    TinyTokenizer,
    tiny_spec,
    tiny_vocabulary,
    vocabulary_of,
)
from vllm_diffusion.structured.constraint import RefusedError
from vllm_diffusion.structured.vocabulary import TokenizerSpec, Vocabulary

TEXTS = ["", "hello world", '{"a": [1, -2.5e3]}', "é ß 数 \U0001f600\n\t", "<|im_end|>"]


def test_a_tokenizer_comes_back_from_its_text() -> None:
    spec = pickle.loads(pickle.dumps(tiny_spec()))
    assert spec == tiny_spec()
    assert spec.digest == tiny_spec().digest
    vocabulary = Vocabulary.of(spec)
    assert vocabulary.size == TINY_SIZE
    assert vocabulary.num_words * 32 >= TINY_SIZE
    tokenizer = TinyTokenizer().backend_tokenizer
    for text in TEXTS[:-1]:
        tokens = vocabulary.encode(text)
        assert tokens == tokenizer.encode(text, add_special_tokens=False).ids
        assert b"".join(vocabulary.spelled[token] for token in tokens) == text.encode()


def test_what_stands_for_no_text() -> None:
    vocabulary = tiny_vocabulary()
    tokenizer = TinyTokenizer()
    assert set(tokenizer.all_special_ids) <= set(vocabulary.never)
    assert all(vocabulary.spelled[token] == b"" for token in vocabulary.never)
    known = tokenizer.backend_tokenizer.get_vocab_size(with_added_tokens=True)
    assert all(vocabulary.spelled[token] == b"" for token in range(known, TINY_SIZE))
    # Every byte can be written, alone.
    assert {byte for byte in range(256) if bytes([byte]) in vocabulary.token_of} >= {
        *'é数\U0001f600 az{}"\\'.encode()
    }


def test_a_digest_tells_tokenizers_apart() -> None:
    spec = tiny_spec()
    others = [
        TokenizerSpec(spec.text + " ", spec.size, spec.never),
        TokenizerSpec(spec.text, spec.size + 1, spec.never),
        TokenizerSpec(spec.text, spec.size, spec.never[1:]),
    ]
    assert len({spec.digest, *(other.digest for other in others)}) == 4


def test_a_slow_tokenizer_is_refused() -> None:
    class SlowTokenizer:
        pass

    with pytest.raises(RefusedError, match="library `tokenizers`, and this is a SlowTokenizer"):
        TokenizerSpec.of(SlowTokenizer(), 9, 0)


def test_special_tokens_beyond_the_model_are_left_out() -> None:
    spec = TokenizerSpec.of(TinyTokenizer(), 10, 9)
    assert spec.never
    assert max(spec.never) <= 9


def test_tables_of_bytes() -> None:
    spelled = [b"a", "éb".encode(), b"\xa9c", b"<mask>", b""]
    vocabulary = vocabulary_of(spelled, [3])
    assert vocabulary.length_V.tolist() == [1, 3, 2, 0, 0]
    for token, row in enumerate(vocabulary.bytes_VB):
        assert row.tobytes().rstrip(b"\0") == vocabulary.spelled[token]
    assert vocabulary.chars_V.tolist() == [1, 2, 1, 0, 0]
    assert [longer.tolist() for longer in vocabulary.longer] == [[0, 1, 2], [1, 2], [1]]
    assert vocabulary.token_of == {b"a": 0}
    assert np.flatnonzero(vocabulary.length_V == 0).tolist() == [3, 4]


def test_bytes_are_cut_into_tokens() -> None:
    vocabulary = tiny_vocabulary()
    for text in TEXTS[:-1]:
        assert vocabulary.cut(text.encode()) == vocabulary.encode(text)
    cut = vocabulary.cut("é".encode()[1:] + b"a")
    assert b"".join(vocabulary.spelled[token] for token in cut) == "é".encode()[1:] + b"a"
    assert vocabulary_of([b"a"]).cut(b"\xffa") == [-1, 0]


def test_forced_bytes_keep_their_last_token_open() -> None:
    vocabulary = tiny_vocabulary()
    text = '{"name": "'
    tokens = vocabulary.encode(text)
    assert vocabulary.whole(text.encode()) == tokens[:-1]
    assert vocabulary.whole(text.encode() + "é".encode()[:1]) == tokens[:-1]
    assert vocabulary.whole(b"") == vocabulary.whole(b"\xc3") == []
