"""Checks of a checkpoint at start-up, before any weights are read.

Each error names what was found, what was expected, and the remedy.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vllm_diffusion.checkpoint.headers import TensorHeader, has_safetensors, read_headers
from vllm_diffusion.checkpoint.tensors import Shape, expected_tensors
from vllm_diffusion.family.record import FamilyRecord

Tensors = Mapping[str, TensorHeader]

_MARKUP = re.compile(r"[<\[|].*\w.*[>\]|]")
"""How tokens are spelled that are no text, where a vocabulary has them among its own."""
FLOATS = ("F32", "F16", "BF16")
STORED = ("fp8", "fbgemm_fp8", "gptq", "compressed-tensors", "modelopt", "quark")
"""Methods whose weights vLLM takes as they are in the files; others quantise what they read."""
NUM_NAMED = 3
"""How many of the missing tensors an error names."""


def check_tensors(model_dir: str | Path, architecture: str, config: Any) -> None:
    """Compare the checkpoint's tensors with what its config asks for.

    Nothing is checked where there is nothing to compare: names of remote
    checkpoints and other file formats. Of quantised weights, whose tensors depend on
    the method, only that they are.

    Raises:
        ValueError: tensors or files are missing, a file is one too many, a tensor has another
            shape, or the weights are not quantised as the config says.
    """
    if not has_safetensors(model_dir):
        return
    found = read_headers(model_dir)
    # Training code may stack the experts of a layer into one tensor, which vLLM can split.
    is_stacked = any(".experts.gate_up_proj" in name for name in found)
    expected = {
        name: shape
        for name, shape in expected_tensors(architecture, config)
        if not (is_stacked and ".experts." in name)
    }
    if method := _quantised_by(config):
        is_plain = all(name in found and found[name].dtype in FLOATS for name in expected)
        if method in STORED and is_plain:
            raise ValueError(
                f"quantization_config in config.json of {model_dir} says quant_method {method!r}, "
                "but its weights are not quantised. Remove quantization_config, or use the "
                "config.json that belongs to these weights"
            )
        return
    _check_files(model_dir, found, expected)
    missing = [name for name in expected if name not in found]
    if missing:
        names = ", ".join(missing[:NUM_NAMED]) + (", ..." if len(missing) > NUM_NAMED else "")
        raise ValueError(
            f"{model_dir} lacks {len(missing)} of the {len(expected)} tensors of a "
            f"{architecture} with this config.json: {names}. Download the checkpoint again, or "
            "use the config.json that belongs to these weights"
        )
    for name, shape in expected.items():
        if found[name].shape != shape:
            raise ValueError(
                f"{name} in {Path(model_dir) / found[name].file} has the shape "
                f"{list(found[name].shape)}, but config.json asks for {list(shape)}. Use the "
                "config.json that belongs to these weights"
            )


def _quantised_by(config: Any) -> str | None:
    said = getattr(config, "quantization_config", None) or {}
    settings = said if isinstance(said, dict) else said.to_dict()
    # vLLM does not look at a config that names no method.
    return settings.get("quant_method")


def _check_files(model_dir: str | Path, found: Tensors, expected: Mapping[str, Shape]) -> None:
    """Without an index vLLM reads every file of the folder into the network."""
    needed = {tensor.file for name, tensor in found.items() if name in expected}
    for name, tensor in found.items():
        if needed and tensor.file not in needed and ".experts." not in name:
            raise ValueError(
                f"{Path(model_dir) / tensor.file} holds no tensor of this checkpoint but others, "
                f"as {name}; move the file to another folder"
            )


def mask_token_id(record: FamilyRecord, config: Any, model_dir: str | Path) -> int:
    """The id of the mask token.

    From the config, else from the tokenizer's files by the family's spellings, else
    the one of the family's released checkpoints.

    Raises:
        ValueError: nothing says it.
    """
    said = getattr(config, "mask_token_id", None)
    if said is not None:
        return int(said)
    ids = _tokenizer_ids(Path(model_dir))
    for spelling in record.mask_tokens:
        if spelling in ids:
            return ids[spelling]
    released = record.mask_token_id
    if released is not None and released < config.vocab_size:
        return released
    looked_for = " or ".join(map(repr, record.mask_tokens))
    tokenizer = f" (the tokenizer's files in {model_dir} have no {looked_for})"
    raise ValueError(
        f"config.json of this {record.architecture} has no mask_token_id, without which nothing "
        f"can be denoised; add the id of the tokenizer's mask token{tokenizer * bool(looked_for)}, "
        "or say it with --hf-overrides '{\"mask_token_id\": N}'"
    )


def check_mask_token(mask_id: int, config: Any, generation: Any, model_dir: str | Path) -> None:
    """The mask must not be a token that texts consist of or end with.

    Masked positions could not be told from that token, and no text could have it. Ids that the
    tokenizer does not name are sound: networks are wider than their tokenizers.

    Args:
        mask_id: The mask token's.
        config: The checkpoint's ``config.json``.
        generation: Its ``generation_config.json``, as a dictionary.
        model_dir: Where its tokenizer's files are.

    Raises:
        ValueError: it is one; with the token and the remedy.
    """
    texts, added = _tokens(Path(model_dir))
    text = texts.get(mask_id)
    named = f"mask_token_id={mask_id}" + (f" is {text!r}, " if text is not None else " is ")
    remedy = (
        "; name the tokenizer's mask token in config.json, "
        "or with --hf-overrides '{\"mask_token_id\": N}'"
    )
    settings = _read(Path(model_dir) / "tokenizer_config.json")
    end = settings.get("eos_token")
    end_text = end.get("content") if isinstance(end, dict) else end
    for source, said in (
        ("eos_token_id in config.json", getattr(config, "eos_token_id", None)),
        ("eos_token_id in generation_config.json", generation.get("eos_token_id")),
        ("eos_token in tokenizer_config.json", [mask_id] if text and text == end_text else None),
    ):
        if mask_id in (said if isinstance(said, list) else [said]):
            raise ValueError(f"{named}which is also the end token ({source}){remedy}")
    if text is not None and mask_id not in added and not _MARKUP.fullmatch(text):
        raise ValueError(f"{named}an ordinary token of the tokenizer in {model_dir}{remedy}")


def _tokens(folder: Path) -> tuple[dict[int, str], set[int]]:
    """Texts by id, and the ids of tokens that were added to the vocabulary of a tokenizer."""
    full = _read(folder / "tokenizer.json")
    settings = _read(folder / "tokenizer_config.json")
    added = {token["id"] for token in full.get("added_tokens", [])}
    added |= {int(number) for number in settings.get("added_tokens_decoder", {})}
    added |= set(_read(folder / "added_tokens.json").values())
    return {number: text for text, number in _tokenizer_ids(folder).items()}, added


def _tokenizer_ids(folder: Path) -> dict[str, int]:
    """Ids by the tokens' texts, out of whichever tokenizer files there are."""
    ids: dict[str, int] = {}
    # Later files win; the first ones are the vocabulary, the others added tokens.
    full = _read(folder / "tokenizer.json")
    vocabulary = full.get("model", {}).get("vocab", {})
    for vocab in (vocabulary, _read(folder / "vocab.json"), _read(folder / "added_tokens.json")):
        if isinstance(vocab, dict):  # a list of (text, score) has no mask token
            ids |= vocab
    ids |= {token["content"]: token["id"] for token in full.get("added_tokens", [])}
    added = _read(folder / "tokenizer_config.json").get("added_tokens_decoder", {})
    ids |= {token["content"]: int(number) for number, token in added.items()}
    return ids


def _read(file: Path) -> dict[str, Any]:
    if not file.is_file():
        return {}
    content = json.loads(file.read_text(encoding="utf-8"))
    return content if isinstance(content, dict) else {}
