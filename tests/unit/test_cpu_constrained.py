"""Constrained requests in the CPU's step: C++ alone against the step in torch, on random logits."""

from __future__ import annotations

import functools
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from vllm.platforms import current_platform

from tests.unit.structured_inputs import LIMITS, dfa_of, vocabulary_of
from tests.unit.test_cpu_step import (  # noqa: F401 (a fixture)
    BLOCK,
    MASK_ID,
    MAX_LEN,
    VOCAB,
    Worker,
    _buffers_of_the_cpu_worker,
    of_policy,
)
from vllm_diffusion.isolation.failures import Failures
from vllm_diffusion.kernels import dispatch, library
from vllm_diffusion.request.parsed import PARSED, parse
from vllm_diffusion.structured.dfa_matcher import TokenDfaMatcher, TokenDfaTables
from vllm_diffusion.structured.frontier import ConstrainedCanvas
from vllm_diffusion.structured.token_dfa import automaton_of, over_tokens
from vllm_diffusion.worker.constrained import Constraints
from vllm_diffusion.worker.cpu_step import FastPath
from vllm_diffusion.worker.grammars import Grammars

pytestmark = [
    pytest.mark.skipif(library.library().functions is None, reason=library.library().reason),
    pytest.mark.skipif(not current_platform.is_cpu(), reason="vLLM is not the one for the CPU"),
]

STOP = 0
TEXTS = [
    *"abcdefgh",
    *"0123456789",
    *'{}:,"',
    "ab",
    "abc",
    "12",
    "123",
    '":',
    '",',
    "de",
    "gh",
    "a1",
]
SPELLED = [b"", *(text.encode() for text in TEXTS)]
SPELLED += [b""] * (VOCAB - len(SPELLED))
REGEXES = [
    r'\{"a":"[a-h]*","b":[0-9]+\}',
    r"(abc|abd|[0-9]{3,9})*",
    r"[a-h]{0,40}1",
    r'"[a-h0-9]{12}"',
    r"abc123abc123abc123abc123",
    r"[a-h]+",
]


@functools.cache
def tables() -> list[TokenDfaTables]:
    vocabulary = vocabulary_of(SPELLED, never=[MASK_ID, STOP])
    automata = [
        automaton_of(over_tokens(dfa_of(regex), vocabulary, LIMITS), (STOP,)) for regex in REGEXES
    ]
    return [TokenDfaTables(automaton, -(-VOCAB // 32)) for automaton in automata]


class ConstrainedWorker(Worker):
    """A worker some of whose requests follow a regular expression."""

    def __init__(self, architecture: str, requests: list[dict[str, Any]]) -> None:
        self.tables = tables()
        self.grammars = object.__new__(Grammars)
        self.grammars.constraints = Constraints(MASK_ID)
        self.grammars.constrained, self.grammars.on_cpu = {}, None
        self.grammars.failures = Failures()
        super().__init__(architecture, requests, self.grammars)

    def logits(self, num_rows: int, generator: Any) -> Tensor:
        rows: Tensor = generator.rows(num_rows)
        return rows

    def add(self, slot: int, fields: dict[str, Any]) -> None:
        fields = {"max_tokens": 30, "stop_token_ids": [STOP], **fields}
        regex = fields.pop("regex", None)
        self.grammars.remove(slot)
        if regex is None:
            super().add(slot, fields)
            return
        prompt_len, block = 5 + slot, BLOCK
        new = ConstrainedCanvas(
            matcher=TokenDfaMatcher(self.tables[regex]),
            bits_W=np.zeros(-(-VOCAB // 32), dtype=np.uint32),
            mask_id=MASK_ID,
            block_length=block,
            num_left=min(fields["max_tokens"], MAX_LEN - prompt_len),
            known_end=TokenDfaMatcher(self.tables[regex]).ending(LIMITS.end_tokens),
        )
        is_aligned = self.plan.record.mask_group.is_aligned
        width = block - prompt_len % block if is_aligned else block
        tokens, masked = [MASK_ID] * width, [True] * width
        new.follow(tokens, masked, width)
        self.grammars.constrained[slot] = new
        parsed = replace(parse(fields.get("extra_args"), self.plan), compiled={})
        fields["extra_args"] = {PARSED: parsed.pack(self.plan)}
        super().add(slot, fields)
        self.sampler.canvas.tokens_SL[slot, :width] = torch.tensor(tokens)
        self.sampler.canvas.masked_SL[slot, :width] = torch.tensor(masked)


def requests_of(seed: int) -> list[dict[str, Any]]:
    rng = np.random.default_rng(seed)
    policies = [
        of_policy("confidence", threshold=0.4),
        of_policy("static", max_steps=3),
        of_policy("entropy", threshold=0.7),
        of_policy("margin", threshold=0.2),
    ]
    return [
        {
            "temperature": 0,
            "max_tokens": int(rng.integers(26, 45)),
            **policies[rng.integers(len(policies))],
            **({"regex": int(regex)} if regex < len(REGEXES) else {}),
        }
        for regex in rng.permutation(len(REGEXES) + 2)
    ]


class Sharpened:
    """Random logits that often mean what some text says, and leave tokens out at times."""

    def __init__(self, seed: int) -> None:
        self.generator = torch.Generator().manual_seed(seed)

    def __call__(self, num_rows: int) -> Tensor:
        logits_NV = torch.randn(num_rows, VOCAB, generator=self.generator) * 3
        favoured_N = torch.randint(VOCAB, (num_rows, 1), generator=self.generator)
        logits_NV.scatter_add_(1, favoured_N, torch.full((num_rows, 1), 6.0))
        is_out_NV = torch.rand(num_rows, VOCAB, generator=self.generator) < 0.02
        return logits_NV.masked_fill(is_out_NV, -torch.inf)


Outcome = tuple[Tensor, Tensor, Tensor]


def run(worker: ConstrainedWorker, seed: int, steps: int, way: str) -> list[list[Tensor]]:
    """Steps whose outcomes and canvases are told."""
    logits, cpu_step, out = Sharpened(seed), worker.sampler.cpu_step, []
    for at in range(steps):
        is_torch = way in ("step in torch", "torch") or (way == "by turns" and at % 3 != 0)
        worker.sampler.cpu_step = None if is_torch else cpu_step
        outcome = worker.step(SimpleNamespace(rows=logits))  # type: ignore[arg-type]
        canvas = worker.sampler.canvas
        out.append([t.clone() for t in (*outcome, canvas.tokens_SL, canvas.masked_SL)])
    return out


@pytest.mark.parametrize("architecture", ["SDARForCausalLM", "LLaDAModelLM"])
@pytest.mark.parametrize("seed", range(6))
def test_texts_do_not_depend_on_the_way(architecture: str, seed: int) -> None:
    ways: dict[str, list[list[Tensor]]] = {}
    for way in ("cpp", "step in torch", "by turns", "torch"):
        worker = ConstrainedWorker(architecture, requests_of(seed))
        step = worker.sampler.cpu_step
        assert step is not None
        assert step.path(worker.slot_R) is FastPath.CONSTRAINED
        if way == "torch":
            with dispatch.forced("torch"):
                ways[way] = run(worker, seed, 30, way)
        else:
            ways[way] = run(worker, seed, 30, way)
    emitted = sum(int(step[1].sum()) for step in ways["cpp"])
    assert emitted > 60
    for way, steps in ways.items():
        for at, (found, expected) in enumerate(zip(steps, ways["torch"], strict=True)):
            for a, b in zip(found, expected, strict=True):
                assert torch.equal(a, b), f"{way}, step {at}"


def test_a_text_that_has_no_room_ends_in_time() -> None:
    """The model wants more letters; the end comes by force, in the row as in the canvas."""
    worker = ConstrainedWorker("SDARForCausalLM", [{"temperature": 0, "regex": 2, "max_tokens": 9}])
    emitted: list[int] = []
    letters = torch.full((1, VOCAB), -9.0)
    letters[:, 1:9] = 3.0
    for _ in range(20):
        tokens, num, _ = worker.step(SimpleNamespace(rows=lambda n: letters.repeat(n, 1)))
        emitted += tokens[0, : int(num[0])].tolist()
        if STOP in emitted:
            break
    text = b"".join(SPELLED[token] for token in emitted)
    assert emitted[-1] == STOP
    assert len(emitted) <= 9
    assert text.endswith(b"1")


def test_a_slot_is_forgotten_with_its_request() -> None:
    worker = ConstrainedWorker("SDARForCausalLM", [{"temperature": 0, "regex": 0}])
    worker.step(SimpleNamespace(rows=Sharpened(0)))
    slot = int(worker.slot_R[0])
    constraints = worker.grammars.on_cpu
    assert constraints is not None and constraints.follow_SF[slot].any()
    worker.grammars.remove(slot)
    assert not constraints.follow_SF[slot].any()
    worker.add(slot, {"temperature": 0})
    assert worker.sampler.cpu_step is not None
    assert worker.sampler.cpu_step.path(worker.slot_R) is FastPath.GREEDY


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, FastPath.CONSTRAINED),
        ({"temperature": 0.5}, FastPath.NONE),
        ({"temperature": 0.5, "regex": 0}, FastPath.NONE),
        ({"regex": 1}, FastPath.CONSTRAINED),
        (of_policy("maskgit_plus"), FastPath.NONE),
    ],
)
def test_what_a_batch_with_a_constraint_is(fields: dict[str, Any], expected: FastPath) -> None:
    requests = [{"temperature": 0, "regex": 0}, {"temperature": 0, **fields}]
    worker = ConstrainedWorker("SDARForCausalLM", requests)
    assert worker.sampler.cpu_step is not None
    assert worker.sampler.cpu_step.path(worker.slot_R) is expected
