"""The tiny checkpoints are worth decoding: predictions differ by position, confidences spread."""

from __future__ import annotations

import random
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoTokenizer

from tests.checkpoints import tokenizer
from tests.parity.references import network

FAMILIES = (
    "sdar sdar_moe llada2 dream_reasoner stable_diffcoder fast_dllm_v2 nemotron_labs llada "
    "illada llada_moe dream rnd1 coda"
).split()
PROMPT, CANVAS = 45, 35


@pytest.fixture(params=FAMILIES)
def family(request: pytest.FixtureRequest) -> Any:
    return import_module(f"tests.checkpoints.{request.param}")


def _predictions(written: Path, mask_id: int) -> torch.Tensor:
    """Probabilities (canvas, V) of a canvas of masks that sees all, the mask token excluded."""
    prompt = random.Random(0).choices([i for i in range(512) if i != mask_id], k=PROMPT)
    length = PROMPT + CANVAS
    everything = torch.ones(length, length, dtype=torch.bool)
    logits = network.load(written).logits(prompt + [mask_id] * CANVAS, everything)[PROMPT:]
    return logits.index_fill(1, torch.tensor(mask_id), -torch.inf).softmax(-1)


def test_masks_are_not_all_alike(family: Any, tmp_path: Path) -> None:
    best, tokens = _predictions(family.write(tmp_path), family.MASK_ID).max(-1)
    assert len(tokens.unique()) >= 5
    assert best.min() < 0.35 and best.max() > 0.6
    assert best.sort().values.diff().median() > 1e-3


def test_seeds_make_different_weights(family: Any, tmp_path: Path) -> None:
    first, second = (
        _predictions(family.write(tmp_path / str(seed), seed=seed), family.MASK_ID)
        for seed in (0, 1)
    )
    assert (first.argmax(-1) != second.argmax(-1)).float().mean() > 0.9


def test_tokenizer_knows_the_mask(family: Any, tmp_path: Path) -> None:
    loaded = AutoTokenizer.from_pretrained(family.write(tmp_path, tokenizer=True))
    assert loaded.convert_tokens_to_ids(family.MASK_TOKEN) == family.MASK_ID
    assert loaded.encode(f"a{family.MASK_TOKEN}b")[1:-1] == [family.MASK_ID]
    text = "Größe: 3 km², isn't it?\n"
    assert loaded.decode(loaded.encode(text)) == text
    turn = loaded.apply_chat_template(
        [{"role": "user", "content": "hi"}], add_generation_prompt=True, tokenize=False
    )
    assert turn == f"{tokenizer.TURN_START}user\nhi<|im_end|>\n{tokenizer.TURN_START}assistant\n"
    assert len(set(loaded.convert_ids_to_tokens(range(512)))) == 512
