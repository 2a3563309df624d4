"""Whole blocks under a regular constraint against brute force over the reference's distribution."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from vllm.sampling_params import StructuredOutputsParams

from tests.checkpoints import sdar
from tests.parity import reference
from tests.parity.engines import Engine, EnginePool

BLOCK = 4
CHOICES = [
    ["ab", "cde", "xyz", "q"],
    ["left", "up", "down"],
    ["a", "bb", "ccc", "dddd", "eeeee"],
    ["zq", "xj", "vk", "wz", "yq", "uj"],
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return sdar.write(tmp_path_factory.mktemp("constrained"), block_size=BLOCK, tokenizer=True)


@pytest.fixture(scope="module")
def engine(engines: EnginePool, folder: Path) -> Iterator[Engine]:
    engines.close()
    yield engines(folder, skip_tokenizer_init=False, max_model_len=256)
    engines.close()


def spellings(text: str, tokens: dict[str, int]) -> Iterator[list[int]]:
    """Every way to cut the text into tokens."""
    if not text:
        yield []
    for end in range(1, len(text) + 1):
        if text[:end] in tokens:
            for rest in spellings(text[end:], tokens):
                yield [tokens[text[:end]], *rest]


def best_canvas(
    log_p_LV: torch.Tensor, options: list[list[int]], trusted: float
) -> tuple[list[int], float]:
    """The most probable start of a text, and how far it is from being another.

    As far as the share of what the model expects that can follow is ``trusted``; the first position
    where it is not gets the best token that can follow. Any token may stand behind a text's end.
    """
    free_L = log_p_LV.amax(dim=-1)
    scored: dict[tuple[int, ...], float] = {}
    for option in options:
        start = option[:BLOCK]
        score = sum(log_p_LV[at, token].item() for at, token in enumerate(start))
        scored[tuple(start)] = score + free_L[len(start) :].sum().item()
    ranked = sorted(scored, key=lambda start: -scored[start])
    best, gap = list(ranked[0]), scored[ranked[0]] - scored[ranked[1]]
    for at in range(len(best)):
        following = sorted({option[at] for option in options if option[:at] == best[:at]})
        share = log_p_LV[at, following].exp().sum().item()
        gap = min(gap, abs(share - trusted)) if trusted else gap
        if share < trusted:
            top = log_p_LV[at, following].topk(min(2, len(following)))
            if len(following) > 1:
                gap = min(gap, (top.values[0] - top.values[1]).item())
            return [*best[:at], following[int(top.indices[0])]], gap
    return best, gap


@pytest.mark.parametrize("trusted", [0.0, 0.02, 0.5])
@pytest.mark.parametrize("choices", CHOICES, ids=" ".join)
def test_a_block_accepted_at_once_is_the_most_probable_one(
    engine: Engine,
    folder: Path,
    choices: list[str],
    trusted: float,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Random weights expect little of what can follow, so 0.5 cuts most texts off at once."""
    monkeypatch.setattr("vllm_diffusion.structured.block_text.TRUSTED", trusted)
    tokenizer = engine.llm.get_tokenizer()
    tokens = {text: token for text, token in tokenizer.get_vocab().items() if text.isascii()}
    eos = tokenizer.eos_token_id
    model = reference.Model(folder)
    mask = model.c["mask_token_id"]
    options = [[*cut, eos] for choice in choices for cut in spellings(choice, tokens)]
    num_clear = 0
    for seed in range(12):
        prompt = [(17 * seed + 5 * at) % 90 + 20 for at in range(2 * BLOCK)]
        logits = model.logits(prompt + [mask] * BLOCK, BLOCK, len(prompt))
        logits[:, mask] = -torch.inf
        expected, gap = best_canvas(logits.log_softmax(dim=-1), options, trusted)
        if gap < 1e-4:
            continue
        num_clear += 1
        engine.add(
            str(seed),
            prompt,
            temperature=0,
            max_tokens=16,
            structured_outputs=StructuredOutputsParams(choice=choices),
            extra_args={"diffusion_policy": "confidence", "diffusion_threshold": 0.0},
        )
        engine.drain()
        found = list(engine.finished[str(seed)].outputs[0].token_ids)
        assert found[: len(expected)] == expected, seed
    assert num_clear > 6
