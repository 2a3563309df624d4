"""Every family with its checkpoint writer and its reference decoder."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import count
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tests.checkpoints import (
    coda,
    dream,
    dream_reasoner,
    fast_dllm_v2,
    illada,
    llada,
    llada2,
    llada_moe,
    nemotron_labs,
    rnd1,
    sdar,
    sdar_moe,
    stable_diffcoder,
)
from tests.parity.cases import MIN_SLACK, random_tokens
from tests.parity.references import block_causal, causal_context, full, network_cache
from tests.parity.references.choose import Answer

Fields = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Mode:
    """One way of decoding: what a request says, and what the reference has to be told."""

    fields: Fields = field(default_factory=dict)
    """``diffusion_*`` fields, without the prefix."""
    generate: Callable[..., Answer] | None = None
    """In the place of the family's own decoder."""
    reference: Fields = field(default_factory=dict)
    """Arguments of the decoder."""
    counts_steps: bool = True
    """The reference makes exactly the server's forwards."""

    def __str__(self) -> str:
        return "-".join(f"{key}={value}" for key, value in self.fields.items()) or "default"


@dataclass(frozen=True, kw_only=True)
class Family:
    """A row of ``families.FAMILIES`` as its authors say it decodes."""

    module: ModuleType
    generate: Callable[..., Answer]
    block: int
    modes: tuple[Mode, ...]
    checkpoint: Fields = field(default_factory=dict)
    """Changes to the config that is written."""

    @property
    def architecture(self) -> str:
        name: str = self.module.CONFIG["architectures"][0]
        return name

    @property
    def mask_id(self) -> int:
        return int(getattr(self.module, "MASK_ID", self.module.CONFIG.get("mask_token_id", 0)))

    @property
    def eos_id(self) -> int:
        return int(self.module.CONFIG.get("eos_token_id") or getattr(self.module, "EOS_ID", 2))

    @property
    def engine_options(self) -> dict[str, Any]:
        """The block length is said, so that a short one does for the tests."""
        return {"diffusion_config": {"canvas_length": self.block}}

    def write(self, folder: Path) -> Path:
        """A random checkpoint, with a tokenizer where the mask's id is only there."""
        has_id = "mask_token_id" in self.module.CONFIG
        extra = {} if self.module is sdar else {"tokenizer": not has_id}
        written: Path = self.module.write(folder, **extra | dict(self.checkpoint))
        return written


@dataclass(frozen=True, kw_only=True)
class FamilyCase:
    """One greedy request."""

    prompt: tuple[int, ...]
    max_tokens: int
    mode: Mode

    def arguments(self) -> dict[str, Any]:
        """For ``SamplingParams``."""
        extra = {f"diffusion_{key}": value for key, value in self.mode.fields.items()}
        return {
            "temperature": 0.0,
            "max_tokens": self.max_tokens,
            "extra_args": extra or None,
        }


class FamilyYardstick:
    """A family's reference on one checkpoint; every case is decoded once."""

    def __init__(self, family: Family, folder: Path, max_len: int = 512) -> None:
        self.family, self.max_len = family, max_len
        self.network = network_cache.PlacedNetwork(folder)
        self.known: dict[tuple[tuple[int, ...], int, str], Answer] = {}

    def __call__(self, case: FamilyCase) -> Answer:
        key = (case.prompt, case.max_tokens, str(case.mode))
        if key not in self.known:
            generate = case.mode.generate or self.family.generate
            arguments = {
                "mask_id": self.family.mask_id,
                "block": self.family.block,
                "stop_ids": (self.family.eos_id,),
                "max_len": self.max_len,
            }
            self.known[key] = generate(
                self.network,
                list(case.prompt),
                case.max_tokens,
                **arguments | dict(case.mode.reference),
            )
        return self.known[key]

    def draw(self, length: int, max_tokens: int, mode: Mode) -> FamilyCase:
        """A case with a random prompt in which no decision is a near-tie."""
        cases = (
            FamilyCase(prompt=random_tokens(length, seed), max_tokens=max_tokens, mode=mode)
            for seed in count()
        )
        return next(case for case in cases if self(case).slack >= MIN_SLACK)

    def compare(self, cases: Sequence[FamilyCase], outcomes: Sequence[Any]) -> None:
        """Fail with one line a request that an engine answered otherwise."""
        lines = []
        for case, got in zip(cases, outcomes, strict=True):
            want = self(case)
            steps = want.steps if case.mode.counts_steps else got.steps
            if (got.tokens, got.steps) != (want.tokens, steps):
                lines.append(
                    f"prompt of {len(case.prompt)}, {case.mode}: {got.steps} steps for "
                    f"{got.tokens}, reference {want.steps} steps for {want.tokens} "
                    f"(its closest decision: {want.slack:.1e})"
                )
        if lines:
            pytest.fail(f"{len(lines)} of {len(cases)} requests differ\n" + "\n".join(lines))


def confidence(threshold: float, **fields: Any) -> Mode:
    """Threshold decoding, said in full."""
    said = {"policy": "confidence", "threshold": threshold, **fields}
    return Mode(fields=said, reference=said)


DEFAULT_CONFIDENCE = {0.9: Mode(reference={"policy": "confidence", "threshold": 0.9})}
STATIC = Mode(reference={"policy": "static"})
FEW_STEPS = Mode(
    fields={"policy": "static", "max_steps": 3}, reference={"policy": "static", "steps": 3}
)
BASE = (DEFAULT_CONFIDENCE[0.9], confidence(0.5))


def edits(threshold: float, edit_threshold: float, max_post_steps: int = 16) -> Mode:
    """LLaDA2.1's joint decoding."""
    said = {
        "policy": "confidence",
        "threshold": threshold,
        "edit_threshold": edit_threshold,
        "max_post_steps": max_post_steps,
    }
    return Mode(fields=said, reference=said)


def preset(name: str, threshold: float, edit_threshold: float) -> Mode:
    """The same, by name."""
    return Mode(
        fields={"preset": name},
        reference={"threshold": threshold, "edit_threshold": edit_threshold},
    )


def cached(policy: str, kv_cache: str) -> Mode:
    """Fast-dLLM v1's approximate caches, against the same approximation."""
    return Mode(
        fields={"policy": policy, "kv_cache": kv_cache},
        reference={"policy": policy, "kv_cache": kv_cache},
    )


def clocked(policy: str, max_steps: int | None = None) -> Mode:
    """Dream's rules."""
    steps = {} if max_steps is None else {"max_steps": max_steps}
    return Mode(
        fields={"policy": policy, **steps}, reference={"policy": policy, "steps": max_steps}
    )


GUIDED = Mode(fields={"guidance_scale": 1.5}, reference={"policy": "static", "guidance": 1.5})
FULL_MODES = (STATIC, FEW_STEPS, confidence(0.5), cached("static", "prefix"))
SHIFTED = partial(full.generate, shift=True)
DREAM_MODES = (
    Mode(reference={"policy": "topk_entropy"}),
    clocked("maskgit_plus", 5),
    clocked("topk_margin", 7),
    confidence(0.5),
    cached("topk_entropy", "prefix"),
    cached("topk_entropy", "dual"),
)
SPECULATION = Mode(fields={"policy": "self_speculation"}, generate=causal_context.self_speculate)

FAMILIES = (
    Family(module=sdar, generate=block_causal.generate, block=8, modes=BASE),
    Family(module=sdar_moe, generate=block_causal.generate, block=8, modes=BASE),
    Family(
        module=llada2,
        generate=block_causal.generate,
        block=8,
        modes=(
            confidence(0.95),
            confidence(0.5),
            edits(0.7, 0.5),
            edits(0.5, 0.0),
            edits(0.5, 0.3, 0),
            edits(0.3, 0.1, 2),
            preset("quality", 0.7, 0.5),
            preset("speed", 0.5, 0.0),
        ),
    ),
    Family(module=dream_reasoner, generate=block_causal.generate, block=8, modes=BASE),
    Family(
        module=stable_diffcoder,
        generate=block_causal.generate,
        block=4,
        modes=(STATIC, confidence(0.5)),
    ),
    Family(
        module=fast_dllm_v2,
        generate=partial(block_causal.generate, shift=True, seed=True),
        block=16,
        modes=(
            Mode(reference={"threshold": 0.9, "sub_block": 8}),
            Mode(
                fields={"threshold": 0.4, "sub_block_length": 4},
                reference={"threshold": 0.4, "sub_block": 4},
            ),
            Mode(
                fields={"threshold": 1.0, "sub_block_length": 16},
                reference={"threshold": 1.0},
            ),
        ),
    ),
    Family(
        module=nemotron_labs,
        generate=causal_context.generate,
        block=8,
        modes=(*BASE, SPECULATION),
    ),
    Family(
        module=llada,
        generate=full.generate,
        block=8,
        modes=(*FULL_MODES, cached("static", "dual"), GUIDED),
    ),
    Family(module=illada, generate=full.generate, block=8, modes=FULL_MODES[:2]),
    Family(module=llada_moe, generate=full.generate, block=8, modes=FULL_MODES[:2]),
    Family(module=dream, generate=SHIFTED, block=64, modes=DREAM_MODES),
    Family(module=rnd1, generate=SHIFTED, block=64, modes=DREAM_MODES[:2]),
    Family(module=coda, generate=SHIFTED, block=64, modes=DREAM_MODES[:2]),
)

VARIANTS = tuple(
    replace(family, modes=family.modes[:1], checkpoint=fields)
    for family in FAMILIES
    for module, fields in (
        (fast_dllm_v2, {"tie_word_embeddings": True}),
        (llada, {"n_kv_heads": 2}),
        (llada2, {"release": "2.0"}),
    )
    if family.module is module
)
"""Checkpoints of the same families that differ in what they hold."""
