"""A byte-level tokenizer in which every id has a text of its own, with a chat template."""

from __future__ import annotations

import json
from itertools import product
from pathlib import Path
from string import ascii_lowercase

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

END_OF_TEXT = "<|endoftext|>"
TURN_START, TURN_END = "<|im_start|>", "<|im_end|>"
TURN_IDS = {TURN_START: 6, TURN_END: 7}

CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n"
    "{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)

THINK_START, THINK_END = "<think>", "</think>"
THINK_IDS = {THINK_START: 8, THINK_END: 9}
THINKING_TEMPLATE = CHAT_TEMPLATE.replace(
    "assistant\n{% endif %}",
    "assistant\n<think>\n"
    "{% if enable_thinking is defined and not enable_thinking %}\n</think>\n\n{% endif %}"
    "{% endif %}",
)
"""Thinks unless it is told not to, as Qwen3's does."""


def vocabulary(specials: dict[str, int], size: int) -> tuple[dict[str, int], list[tuple[str, str]]]:
    """Ids of all texts, and the merges: the bytes, then pairs of letters, around ``specials``."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    pairs = [(a, b) for a, b in product(ascii_lowercase, repeat=2)]
    free = [i for i in range(size) if i not in specials.values()]
    merges = pairs[: len(free) - len(letters)]
    texts = letters + [a + b for a, b in merges]
    return dict(zip(texts, free, strict=True)) | specials, merges


def write(
    folder: Path, specials: dict[str, int], *, eos: int, size: int, thinks: bool = False
) -> None:
    """Write ``tokenizer.json`` and ``tokenizer_config.json`` for ``size`` ids into ``folder``.

    With ``thinks`` there are markers of thoughts, which are text like any other to the decoder.
    """
    specials = {END_OF_TEXT: eos} | TURN_IDS | specials
    markers = THINK_IDS if thinks else {}
    ids, merges = vocabulary(specials | markers, size)
    tokenizer = Tokenizer(models.BPE(vocab=ids, merges=merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(text, normalized=False) for text in specials])
    tokenizer.add_tokens([AddedToken(text, normalized=False) for text in markers])
    tokenizer.save(str(folder / "tokenizer.json"))
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "chat_template": THINKING_TEMPLATE if thinks else CHAT_TEMPLATE,
        "eos_token": END_OF_TEXT,
        "pad_token": END_OF_TEXT,
        "clean_up_tokenization_spaces": False,
        "model_max_length": 1024,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(settings, indent=2))


def teach_thinking(folder: Path) -> Path:
    """Write a checkpoint's tokenizer anew, with markers of thoughts; returns the folder."""
    saved = json.loads((folder / "tokenizer.json").read_text())
    specials = {token["content"]: token["id"] for token in saved["added_tokens"]}
    size = len(saved["model"]["vocab"])
    write(folder, specials, eos=specials.pop(END_OF_TEXT), size=size, thinks=True)
    return folder
