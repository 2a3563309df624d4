"""The tables at a real tokenizer's vocabulary: compilation, steps, and what is dropped."""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from benchmarks.constraints import ours
from benchmarks.constraints.apart import apart
from benchmarks.constraints.beside import Beside
from benchmarks.constraints.schemas import PAIRS, TASKS, Task
from benchmarks.constraints.vocabularies import spec_of
from benchmarks.serving import markdown
from vllm_diffusion.structured.compiler import Compiler
from vllm_diffusion.structured.constraint import Constraint, RefusedError
from vllm_diffusion.structured.limits import Limits
from vllm_diffusion.structured.vocabulary import Vocabulary

Rows = list[list[str]]

COMPILED = (
    *("vocabulary", "schema", "mechanism", "ms", "peak MiB", "kept KiB"),
    *("xgrammar: ms", "peak MiB", "kept KiB"),
)
STEPS = (
    *("vocabulary", "schema", "steps", "ms", "longest", "MiB"),
    *("drawn: ms", "longest", "MiB", "xgrammar: tokens", "ms", "longest", "MiB"),
)
DROPPED = ("schema with", "xgrammar", "here")
REPEATS = 3


def _least(call: Callable[[], Any]) -> tuple[Any, float]:
    """A result and its CPU milliseconds, the least of some."""
    found, result = [], None
    for _ in range(REPEATS):
        began = time.process_time()
        result = call()
        found.append(1000 * (time.process_time() - began))
    return result, min(found)


class Bench:
    """One vocabulary, and both compilers for it."""

    def __init__(self, tokenizer: Path, size: int | None) -> None:
        spec = spec_of(tokenizer, size)
        began = time.process_time()
        self.words = Vocabulary.of(spec)
        _ = self.words.bytes_VB, self.words.longer, self.words.ll_tokenizer
        self.seconds = time.process_time() - began
        self.compiler = Compiler(self.words, Limits(seconds=60))
        self.beside = Beside(self.words)
        began = time.process_time()
        _ = self.beside.compiler
        self.seconds_beside = time.process_time() - began
        self.noise_LV = torch.randn(
            ours.LENGTH, self.words.size, generator=torch.Generator().manual_seed(0)
        )
        self._warm()

    def _warm(self) -> None:
        """Load what a first call loads, so that no process apart is charged with it."""
        for kind in ("integer", "array"):  # an automaton, and a parser
            spec = json.dumps({"type": kind})
            compiled = self.compiler.compile(Constraint("json", spec))
            for is_drawn in (False, True):
                text = json.dumps({"integer": 7, "array": []}[kind])
                ours.Answer(compiled, self.words, text, self.noise_LV).run(is_drawn=is_drawn)
            self.beside.follow(self.beside.compile(spec), text)

    def rows(self, name: str, task: Task) -> tuple[list[str], list[str]]:
        """Of compilation, and of an answer."""
        size, text = f"{self.words.size:,}", json.dumps(task.answer)
        spec = json.dumps(task.schema)
        constraint = Constraint("json", spec)

        def compiled_beside() -> tuple[float, int]:
            compiled, spent = _least(lambda: self.beside.compile(spec))
            return spent, compiled.memory_size_bytes

        (compiled, spent), mib = apart(lambda: _least(lambda: self.compiler.compile(constraint)))
        (spent_beside, size_beside), mib_beside = apart(compiled_beside)
        mechanism = ours.mechanism_of(compiled)
        left = [size, name, mechanism, f"{spent:.0f}", f"{mib:.0f}"]
        left += [f"{compiled.num_bytes >> 10:,}"]
        left += [f"{spent_beside:.0f}", f"{mib_beside:.0f}", f"{size_beside >> 10:,}"]

        def answer(is_drawn: bool) -> list[float]:
            made = ours.Answer(compiled, self.words, text, self.noise_LV)
            return made.run(is_drawn=is_drawn)

        greedy, greedy_mib = apart(lambda: answer(False))
        drawn, drawn_mib = apart(lambda: answer(True))
        grammar = self.beside.compile(spec)
        follow, follow_mib = apart(lambda: self.beside.follow(grammar, text))
        right = [size, name, str(len(greedy)), *_times(greedy, greedy_mib)]
        right += [*_times(drawn, drawn_mib), str(len(follow)), *_times(follow, follow_mib)]
        return left, right

    def dropped(self) -> Rows:
        """What each makes of texts that are no instances."""
        return [[name, self._beside(name), self._here(name)] for name in PAIRS]

    def _beside(self, name: str) -> str:
        pair = PAIRS[name]
        try:
            compiled = self.beside.compile(json.dumps(pair.schema))
        except RuntimeError:
            return "refused"
        return _said(
            *(self.beside.takes(compiled, json.dumps(v)) for v in (pair.right, pair.wrong))
        )

    def _here(self, name: str) -> str:
        pair = PAIRS[name]
        try:
            compiled = self.compiler.compile(Constraint("json", json.dumps(pair.schema)))
        except RefusedError:
            return "refused"
        return _said(
            *(ours.takes(compiled, self.words, json.dumps(v)) for v in (pair.right, pair.wrong))
        )


def _times(spent: list[float], mib: float) -> list[str]:
    return [f"{statistics.mean(spent):.2f}", f"{max(spent):.1f}", f"{mib:.0f}"]


def _said(takes_right: bool, takes_wrong: bool) -> str:
    if takes_wrong:
        return "**accepts a text that is none**"
    return "held" if takes_right else "held, and an instance is left out"


@dataclass(frozen=True, slots=True)
class Found:
    compiled: Rows
    steps: Rows
    dropped: Rows
    note: str
    """What the vocabularies themselves cost."""

    @property
    def tables(self) -> list[tuple[tuple[str, ...], Rows]]:
        return [(COMPILED, self.compiled), (STEPS, self.steps), (DROPPED, self.dropped)]


def tables(tokenizer: Path, sizes: list[int | None]) -> Found:
    """Everything that is measured; what is dropped does not depend on the vocabulary."""
    compiled: Rows = []
    steps: Rows = []
    dropped: Rows = []
    said = []
    for size in sizes:
        bench = Bench(tokenizer, size)
        for name, task in TASKS.items():
            left, right = bench.rows(name, task)
            print(*left, "|", *right[2:], flush=True)
            compiled.append(left)
            steps.append(right)
        dropped = dropped or bench.dropped()
        said.append(
            f"{bench.words.size:,} tokens are read in {bench.seconds:.2f} s here and in "
            f"{bench.seconds_beside:.2f} s by xgrammar"
        )
    return Found(compiled, steps, dropped, "; ".join(said) + "; once a process.")


def page(provenance: str, found: Found) -> str:
    """The section of docs/structured.md."""
    compiled, steps, dropped = (markdown.table(*one) for one in found.tables)
    return f"""{provenance} xgrammar {metadata.version("xgrammar")}.

SmolLM2's tokenizer has 49,152 tokens. The larger vocabulary is the same tokenizer with merges of
its own frequent tokens. All times are CPU time of one thread; memory is over that of a process
that has read the vocabulary. {found.note}

Compilation, the least of {REPEATS}; *kept* is what the compiled constraint counts for:

{compiled}

Steps of an answer by a model that means it, without its forward pass: a block of {ours.LENGTH}
positions, of which each step opens one. So there is a step for each token that is not forced, and
each step decides on all {ours.LENGTH} positions; xgrammar masks and takes one token at a time.
*Drawn* is at temperature 1. Mean and longest in milliseconds:

{steps}

What becomes of texts that are no instances. xgrammar compiles the schema without a word where it
accepts one:

{dropped}"""
