"""Every pass of one model's settings against its running server.

Timing passes ask the same prompts in the same order for every setting; the repeats go around the
settings, so that a slow minute of the machine does not fall on one of them alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from ..tiny.sample import Sample
from .client import Pass, Question, run_pass
from .server import Server
from .settings import Setting


@dataclass(frozen=True, slots=True, kw_only=True)
class Protocol:
    """What is asked, how often, and how many prompts at a time."""

    speed_samples: list[Sample]
    accuracy_samples: list[Sample]
    concurrencies: list[int]
    repeats: int
    max_tokens: int

    def warm_up_samples(self, concurrency: int) -> list[Sample]:
        return self.speed_samples[: max(4, 2 * concurrency)]

    def num_requests(self, num_settings: int) -> int:
        """Requests of all passes, for the progress bar."""
        warm_up = sum(len(self.warm_up_samples(c)) for c in self.concurrencies)
        # Whole answers `repeats` times, streamed once.
        timing = len(self.speed_samples) * len(self.concurrencies) * (self.repeats + 1)
        return num_settings * (warm_up + timing + len(self.accuracy_samples))


@dataclass(slots=True)
class Measured:
    """The passes of one setting, by the number of prompts at a time."""

    setting: Setting
    whole: dict[int, list[Pass]] = field(default_factory=dict)
    """Answers that come as one response: the measure of speed."""
    streamed: dict[int, Pass] = field(default_factory=dict)
    """Answers that come as events: the measure of the time to the first token."""
    accuracy: Pass | None = None


def measure(
    server: Server,
    settings: Sequence[Setting],
    protocol: Protocol,
    on_pass: Callable[[str], None],
    on_reply: Callable[[], None],
) -> list[Measured]:
    """Run every pass of ``settings``, which share the server's model."""
    measured = [Measured(setting) for setting in settings]

    def run(
        one: Measured, samples: list[Sample], concurrency: int, kind: str, is_streamed: bool = False
    ) -> Pass:
        on_pass(f"{one.setting.name}: {kind}, {concurrency} at a time")
        question = Question(server.name, protocol.max_tokens, one.setting.xargs, is_streamed)
        return run_pass(server.url, question, samples, concurrency, on_reply)

    for concurrency in protocol.concurrencies:
        for one in measured:
            run(one, protocol.warm_up_samples(concurrency), concurrency, "warm-up")
    for _ in range(protocol.repeats):
        for concurrency in protocol.concurrencies:
            for one in measured:
                timed = run(one, protocol.speed_samples, concurrency, "speed")
                one.whole.setdefault(concurrency, []).append(timed)
    for concurrency in protocol.concurrencies:
        for one in measured:
            one.streamed[concurrency] = run(
                one, protocol.speed_samples, concurrency, "first token", is_streamed=True
            )
    for one in measured:
        most = max(protocol.concurrencies)
        one.accuracy = run(one, protocol.accuracy_samples, most, "accuracy")
    return measured
