"""Vocabularies to compile for: of words that are made up, and of a real tokenizer.

In each the first two tokens are special, and stand for the mask and for the end of a text.
"""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

from vllm_diffusion.structured.vocabulary import TokenizerSpec, Vocabulary

MASK, STOP = 0, 1
FIRST, SECOND = 10_000, 2_000
"""Merges that widen a tokenizer join one of its first tokens with one of its very first."""


def made_up(size: int) -> Vocabulary:
    """Every byte, and words of random letters."""
    rng = random.Random(size)
    spelled = [b"<mask>", b"<stop>", *(bytes([byte]) for byte in range(256))]
    seen = set(spelled)
    while len(spelled) < size:
        word = "".join(
            rng.choices("etaoinshrdlucmfwypvbgk", k=rng.choice((2, 3, 4, 4, 5, 6, 7, 9)))
        )
        word = rng.choice(("", " ", " ", '"', '": "')) + word
        if (text := word.encode()) not in seen:
            seen.add(text)
            spelled.append(text)
    number = {text: token for token, text in enumerate(spelled)}

    def encode(text: str) -> list[int]:
        rest, tokens = text.encode(), []
        while rest:
            size = next(n for n in range(min(14, len(rest)), 0, -1) if rest[:n] in number)
            tokens.append(number[rest[:size]])
            rest = rest[size:]
        return tokens

    return Vocabulary(spelled, [MASK, STOP], encode)


def widened(data: dict[str, Any], size: int) -> dict[str, Any]:
    """A tokenizer with merges of its own frequent tokens, up to ``size``."""
    vocab, merges = dict(data["model"]["vocab"]), list(data["model"]["merges"])
    special = {token["id"] for token in data["added_tokens"]}
    by_id = [text for text, token in sorted(vocab.items(), key=lambda item: item[1])]
    texts = [text for token, text in enumerate(by_id) if token not in special]
    rng = random.Random(size)
    while len(vocab) < size:
        pair = [rng.choice(texts[:FIRST]), rng.choice(texts[:SECOND])]
        if (text := "".join(pair)) not in vocab:
            vocab[text] = len(vocab)
            merges.append(pair)
    return data | {"model": data["model"] | {"vocab": vocab, "merges": merges}}


def spec_of(path: Path, size: int | None) -> TokenizerSpec:
    """A tokenizer.json, widened to ``size`` tokens; None for as many as it has.

    Raises:
        ValueError: it has more, or its first two tokens are no special ones.
    """
    data = json.loads(path.read_text(encoding="utf-8"))
    known = len(data["model"]["vocab"])
    size = known if size is None else size
    special = tuple(sorted(token["id"] for token in data["added_tokens"] if token["special"]))
    if special[:2] != (MASK, STOP):
        raise ValueError(f"{path.name}: tokens {MASK} and {STOP} must be special ones")
    if size < known:
        raise ValueError(f"{path.name} has {known} tokens, and {size} were asked for")
    return TokenizerSpec(json.dumps(widened(data, size)), size, special)
