"""The benchmark's real tokenizer: made from a GGUF file's fields, and widened."""

import json
from pathlib import Path

import pytest
from tokenizers import Tokenizer, pre_tokenizers

from benchmarks.constraints.vocabularies import spec_of, widened
from scripts.gguf_tokenizer import CONTROL, NORMAL, as_json
from vllm_diffusion.structured.vocabulary import Vocabulary

LETTERS = sorted(pre_tokenizers.ByteLevel.alphabet())
TOKENS = ["<|endoftext|>", "<|im_start|>", *LETTERS, "he", "Ġhe", "11"]
KINDS = [CONTROL, CONTROL, *[NORMAL] * (len(TOKENS) - 2)]
MERGES = ["h e", "Ġ he", "1 1"]


def tokenizer_json() -> dict:
    return as_json(TOKENS, KINDS, MERGES, "smollm")


def spelled(tokenizer: Tokenizer, text: str) -> list[str]:
    return tokenizer.encode(text).tokens


def test_texts_are_merged_and_digits_stay_apart() -> None:
    tokenizer = Tokenizer.from_str(json.dumps(tokenizer_json()))
    assert spelled(tokenizer, "he he11") == ["he", "Ġhe", "1", "1"]
    assert spelled(tokenizer, "<|im_start|>h") == ["<|im_start|>", "h"]
    assert tokenizer.decode(tokenizer.encode("é he 11").ids) == "é he 11"


def test_an_unknown_cut_is_refused() -> None:
    with pytest.raises(ValueError, match="'llama-bpe'; known are smollm"):
        as_json(TOKENS, KINDS, MERGES, "llama-bpe")


def test_an_unknown_type_of_token_is_refused() -> None:
    with pytest.raises(ValueError, match=r"has \[6\]"):
        as_json(TOKENS, [*KINDS[:-1], 6], MERGES, "smollm")


def test_a_wider_tokenizer_writes_its_new_tokens() -> None:
    data = tokenizer_json()
    wide = widened(data, len(TOKENS) + 40)
    new = wide["model"]["merges"][len(MERGES) :]
    assert len(new) == 40
    assert wide["model"]["vocab"]["".join(new[-1])] == len(TOKENS) + 39
    assert data == tokenizer_json()
    assert widened(data, len(TOKENS) + 40) == wide


def test_a_vocabulary_of_it_has_the_bytes_of_its_tokens(tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.json"
    path.write_text(json.dumps(tokenizer_json()))
    words = Vocabulary.of(spec_of(path, None))
    assert words.size == len(TOKENS)
    assert words.spelled[:2] == [b"", b""]
    assert words.spelled[TOKENS.index("Ġhe")] == b" he"
    assert words.spelled[TOKENS.index("Ã")] == b"\xc3"


def test_a_smaller_size_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.json"
    path.write_text(json.dumps(tokenizer_json()))
    with pytest.raises(ValueError, match="100 were asked for"):
        spec_of(path, 100)
