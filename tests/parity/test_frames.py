"""Frames are what the reference decoder did, step by step; nobody else is changed by a watcher."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch

from tests.parity.families import Family, Mode
from tests.parity.family_bench import (
    DREAM,
    EDITS,
    FAST,
    LLADA,
    LLADA2,
    NEMOTRON,
    STATIC,
    FamilyBench,
    make_bench,
)
from vllm_diffusion.frames import Frame, State
from vllm_diffusion.server.watching import WATCHING, Channel

bench = pytest.fixture(scope="module")(make_bench)
CASES = (
    (FAST, FAST.modes[0]),
    (LLADA2, EDITS[0]),
    (NEMOTRON, NEMOTRON.modes[0]),
    (LLADA, STATIC),
    (LLADA, LLADA.modes[0]),
    (DREAM, DREAM.modes[0]),
)


@dataclass
class Recorder:
    """A network that remembers what it was asked."""

    network: Any
    reads: list[list[int]] = field(default_factory=list)
    answers: list[torch.Tensor] = field(default_factory=list)

    def logits(self, tokens: list[int], *args: Any, **kwargs: Any) -> torch.Tensor:
        self.reads.append(list(tokens))
        self.answers.append(self.network.logits(tokens, *args, **kwargs))
        return self.answers[-1]


@contextmanager
def watching(engine: Any, **options: Any) -> Iterator[Channel]:
    engine.engine.output_processor.isolates = True
    channel = Channel(**options)
    token = WATCHING.set(channel)
    try:
        yield channel
    finally:
        WATCHING.reset(token)
        channel.close()
        engine.engine.output_processor.isolates = False


def stripped(tokens: list[int], mask_id: int) -> list[int]:
    while tokens and tokens[-1] == mask_id:
        tokens = tokens[:-1]
    return tokens


def replayed(frames: list[Frame], mask_id: int) -> list[list[int]]:
    """The output after each step, masks at its end left out."""
    output: list[int] = []
    found = []
    for frame in frames:
        assert frame.start == len(output)
        states = [State(state) for state in frame.states]
        canvas = [
            mask_id if state is State.MASKED else token
            for token, state in zip(frame.tokens, states, strict=True)
        ]
        found.append(stripped(output + canvas, mask_id))
        if frame.is_final:
            assert State.MASKED not in states
            output = output + canvas
    return found


@pytest.mark.parametrize(("family", "mode"), CASES)
@pytest.mark.parametrize("length", [21, 32])
def test_frames_are_the_steps_of_the_reference(
    family: Family, mode: Mode, length: int, bench: FamilyBench
) -> None:
    yardstick, engine = bench.yardstick(family), bench.engine(family)
    case = yardstick.draw(length, 29, mode)
    # Decoded once more, looked over the shoulder.
    recorder, network = Recorder(yardstick.network), yardstick.network
    yardstick.known.clear()
    yardstick.network = recorder
    want = yardstick(case)
    yardstick.network = network
    other = yardstick.draw(17, 40, mode)
    with watching(engine) as channel:
        engine.add("watched", case.prompt, **case.arguments())
        WATCHING.set(None)
        engine.add("other", other.prompt, **other.arguments())
        engine.drain()
    assert engine.outcomes("watched")[0].tokens == want.tokens
    assert engine.outcomes("other")[0].tokens == yardstick(other).tokens
    taken = channel.take()
    frames = [frame for frame, num_dropped in taken]
    assert not any(num_dropped for _, num_dropped in taken)
    assert len(frames) == len(recorder.reads) == engine.outcomes("watched")[0].steps
    after = replayed(frames, family.mask_id)
    reads = [stripped(read[length:], family.mask_id) for read in recorder.reads]
    assert after[:-1] == reads[1:]
    assert after[-1][: len(want.tokens)] == want.tokens
    steps = [(frame.block, frame.step) for frame in frames]
    assert steps == sorted(set(steps)) and steps[0] == (0, 0)
    for block, step in steps[1:]:
        assert step == 0 or (block, step - 1) in steps


def test_probabilities_are_those_of_the_model(bench: FamilyBench) -> None:
    yardstick, engine = bench.yardstick(LLADA), bench.engine(LLADA)
    case = yardstick.draw(20, 12, STATIC)
    with watching(engine) as channel:
        engine.add("watched", case.prompt, **case.arguments())
        engine.drain()
    frame = channel.take()[0][0]
    tokens = [*case.prompt, *[LLADA.mask_id] * 12]
    logits = yardstick.network.logits(tokens, torch.ones(32, 32, dtype=torch.bool))[20:].clone()
    logits[:, LLADA.mask_id] = -torch.inf
    probs = logits.softmax(-1)
    for i, (token, other) in enumerate(zip(frame.tokens, frame.others, strict=True)):
        best = probs[i].topk(2)
        assert {token, other} == set(best.indices.tolist())
        assert frame.probs[i] == pytest.approx(float(probs[i, token]), abs=2e-4)
        assert frame.other_probs[i] == pytest.approx(float(probs[i, other]), abs=2e-4)


def test_a_watcher_that_does_not_read_holds_nothing_up(bench: FamilyBench) -> None:
    yardstick, engine = bench.yardstick(FAST), bench.engine(FAST)
    case = yardstick.draw(16, 60, FAST.modes[0])
    with watching(engine, most=3) as channel:
        engine.add("watched", case.prompt, **case.arguments())
        engine.drain()
    want = yardstick(case)
    assert engine.outcomes("watched")[0].tokens == want.tokens
    taken = channel.take()
    assert len(taken) == 3
    assert sum(num_dropped for _, num_dropped in taken) + 3 == want.steps
