"""Requests for both sides, and the reference's answers to them.

Invariant: a case that is compared is clear, that is, no decision in it is so close that
float32 rounding could turn it. So equality is always demanded in full. Random prompts
are drawn until they are clear; given ones that are not are left out, with a warning.
"""

from __future__ import annotations

import random
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from tests.parity import reference

MASK = 509
MAX_LEN = 512
MIN_SLACK = 5e-5

# What a request without a threshold is decoded with, said here a second time on purpose.
DEFAULT_THRESHOLD = {"confidence": 0.9, "static": 0.0, "entropy": 0.35, "margin": 0.8}


@dataclass(frozen=True)
class Rule:
    """Decode fields of a request; what is None is not said."""

    policy: str | None = None
    threshold: float | None = None
    max_steps: int | None = None

    def __str__(self) -> str:
        said = (self.policy, self.threshold, self.max_steps and f"{self.max_steps}steps")
        return "-".join(str(value) for value in said if value is not None) or "default"


RULES = (
    Rule(),
    Rule(threshold=0.5),
    Rule("confidence", 0.2),
    Rule("confidence", 0.0),
    Rule("confidence", 1.0),
    Rule("confidence", 0.7, max_steps=3),
    Rule("static"),
    Rule("static", max_steps=1),
    Rule("static", max_steps=3),
    Rule("entropy"),
    Rule("entropy", 4.0),
    Rule("margin"),
    Rule("margin", 0.1),
)


@dataclass(frozen=True, kw_only=True)
class Case:
    """One greedy request."""

    prompt: tuple[int, ...]
    max_tokens: int
    block: int
    """Block length that it is decoded with."""
    served: int | None = None
    """The engine's block length, where the request asks for another."""
    rule: Rule = Rule()
    stop_ids: tuple[int, ...] = ()
    """Besides the end of sequence."""
    ignore_eos: bool = False
    max_len: int = MAX_LEN

    def arguments(self) -> dict[str, Any]:
        """For ``SamplingParams``."""
        fields = {
            "diffusion_policy": self.rule.policy,
            "diffusion_threshold": self.rule.threshold,
            "diffusion_max_steps": self.rule.max_steps,
            "diffusion_block_length": self.block if self.served else None,
        }
        said = {key: value for key, value in fields.items() if value is not None}
        return {
            "temperature": 0.0,
            "max_tokens": self.max_tokens,
            "stop_token_ids": list(self.stop_ids),
            "ignore_eos": self.ignore_eos,
            "extra_args": said or None,
        }


@dataclass(frozen=True)
class Expected:
    """The reference's answer."""

    tokens: list[int]
    steps: int
    slack: float


class Yardstick:
    """The reference on one checkpoint; every case is decoded once."""

    def __init__(self, folder: Path) -> None:
        self.model = reference.Model(folder)
        self.known: dict[Case, Expected] = {}

    def __call__(self, case: Case) -> Expected:
        if case not in self.known:
            policy = case.rule.policy or "confidence"
            threshold = case.rule.threshold
            answer = reference.generate(
                self.model,
                case.prompt,
                case.max_tokens,
                case.block,
                policy=policy,
                threshold=DEFAULT_THRESHOLD[policy] if threshold is None else threshold,
                steps=case.rule.max_steps,
                stop_ids=self._stop_ids(case),
                max_len=case.max_len,
            )
            self.known[case] = Expected(*answer)
        return self.known[case]

    def _stop_ids(self, case: Case) -> tuple[int, ...]:
        if case.ignore_eos:
            return case.stop_ids
        return (*case.stop_ids, self.model.c["eos_token_id"])

    def is_clear(self, case: Case) -> bool:
        """No decision in it is a near-tie."""
        return self(case).slack >= MIN_SLACK

    def clear(self, make: Callable[[int], Case]) -> Case:
        """The first of ``make(0), make(1), ...`` without a near-tie in it."""
        return next(case for case in map(make, count()) if self.is_clear(case))

    def draw(self, length: int, max_tokens: int, block: int, **fields: Any) -> Case:
        """A clear case with a random prompt of ``length``."""
        return self.clear(
            lambda seed: Case(
                prompt=random_tokens(length, seed), max_tokens=max_tokens, block=block, **fields
            )
        )

    def only_clear(self, cases: Sequence[Case]) -> list[Case]:
        """Those of ``cases`` that are clear; a warning says how many were not."""
        kept = [case for case in cases if self.is_clear(case)]
        if len(kept) < len(cases):
            warnings.warn(f"{len(cases) - len(kept)} near-ties of {len(cases)} cases", stacklevel=2)
        assert 2 * len(kept) > len(cases)
        return kept

    def compare(self, cases: Sequence[Case], outcomes: Sequence[Any]) -> None:
        """Fail with one line a request that an engine answered otherwise."""
        assert len(cases) == len(outcomes)
        lines = []
        for case, got in zip(cases, outcomes, strict=True):
            want = self(case)
            if (got.tokens, got.steps) != (want.tokens, want.steps):
                lines.append(
                    f"prompt of {len(case.prompt)}, block {case.block}, {case.rule}: "
                    f"{got.steps} steps for {got.tokens}, reference {want.steps} steps for "
                    f"{want.tokens} (its closest decision: {want.slack:.1e})"
                )
        if lines:
            pytest.fail(f"{len(lines)} of {len(cases)} requests differ\n" + "\n".join(lines))


def random_tokens(length: int, seed: int) -> tuple[int, ...]:
    """Ids that are neither special nor the mask's."""
    generator = random.Random(f"{length} {seed}")
    return tuple(generator.randrange(3, 500) for _ in range(length))
