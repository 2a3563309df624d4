"""Every pass of every setting, first on engines without a server, then behind servers.

All engines, and later all servers, are up at once and take turns, the repeats around the settings:
a slow minute of the machine falls on all of them. Whoever does not have its turn is stopped
(SIGSTOP), since vLLM's processes spin while they wait for each other.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..tiny.sample import Sample
from .client import Pass, Question, run_pass
from .engine import Engine, engine
from .server import Server, serve
from .settings import Setting

EXECUTORS = ("mp", "uni")
"""vLLM's default for one worker, and the worker inside the engine core's process."""
OnPass = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Protocol:
    """What is asked, how often, and how many prompts at a time."""

    speed_samples: list[Sample]
    accuracy_samples: list[Sample]
    concurrencies: list[int]
    repeats: int
    max_tokens: int
    engine_options: dict[str, Any]
    server_flags: list[str]
    environment: dict[str, str]

    def num_engine_passes(self, num_settings: int) -> int:
        """For the progress bar."""
        return num_settings * (1 + (1 + self.repeats) * len(self.concurrencies))

    def num_server_passes(self, num_models: int) -> int:
        return num_models * len(EXECUTORS) * (2 + self.repeats) * len(self.concurrencies)


@dataclass(slots=True)
class Measured:
    """The passes of one setting, by the number of prompts at a time."""

    setting: Setting
    executor: str | None = None
    """Behind a server: which."""
    whole: dict[int, list[Pass]] = field(default_factory=dict)
    """Answers that come as one: the measure of speed."""
    streamed: dict[int, Pass] = field(default_factory=dict)
    """Answers that come as events: the measure of the time to the first token."""
    accuracy: Pass | None = None


def measure_engines(
    settings: Sequence[Setting], protocol: Protocol, on_pass: OnPass
) -> list[Measured]:
    """Speed and accuracy of each setting in ``LLM()``.

    Raises:
        EngineError: an engine does not start, or ends.
    """
    measured = [Measured(setting) for setting in settings]
    with ExitStack() as stack:
        engines: dict[tuple[Path, bool], Engine] = {}
        for setting in settings:  # settings of one model share its engine
            key = (setting.model, setting.has_drafts)
            if key not in engines:
                options = protocol.engine_options | setting.options
                context = engine(setting.name, setting.model, options, protocol.environment)
                engines[key] = stack.enter_context(context)

        def run(one: Measured, samples: list[Sample], concurrency: int, kind: str) -> Pass:
            on_pass(f"engine, {one.setting.name}: {kind}, {concurrency} at a time")
            chosen = engines[one.setting.model, one.setting.has_drafts]
            return chosen.run(samples, concurrency, protocol.max_tokens, one.setting.xargs)

        for repeat in range(protocol.repeats + 1):
            for concurrency in protocol.concurrencies:
                for one in measured:
                    kind = "speed" if repeat else "warm-up"
                    timed = run(one, protocol.speed_samples, concurrency, kind)
                    if repeat:
                        one.whole.setdefault(concurrency, []).append(timed)
        for one in measured:
            most = max(protocol.concurrencies)
            one.accuracy = run(one, protocol.accuracy_samples, most, "accuracy")
    return measured


def measure_servers(
    settings: Sequence[Setting],
    protocol: Protocol,
    on_pass: OnPass,
    log_folder: Path,
    start_seconds: float,
) -> list[Measured]:
    """Speed and time to the first token behind ``vllm serve``, with each executor.

    Raises:
        ServerError: a server does not start.
    """
    measured = [Measured(setting, name) for setting in settings for name in EXECUTORS]
    with ExitStack() as stack:
        servers: list[Server] = []
        for one in measured:
            on_pass(f"{one.setting.model.name}, {one.executor}: starting")
            flags = [*protocol.server_flags, "--distributed-executor-backend", str(one.executor)]
            server = stack.enter_context(
                serve(
                    one.setting.model,
                    flags=flags,
                    environment=protocol.environment,
                    port=0,
                    log_folder=log_folder / str(one.executor),
                    start_seconds=start_seconds,
                )
            )
            servers.append(server)
            server.pause()

        def run(index: int, concurrency: int, kind: str, is_streamed: bool = False) -> Pass:
            one, server = measured[index], servers[index]
            name = f"{one.setting.model.name}, {one.executor}"
            on_pass(f"server, {name}: {kind}, {concurrency} at a time")
            question = Question(server.name, protocol.max_tokens, one.setting.xargs, is_streamed)
            with server.awake():
                return run_pass(server.url, question, protocol.speed_samples, concurrency)

        for repeat in range(protocol.repeats + 2):
            is_streamed = repeat == protocol.repeats + 1
            kind = "warm-up" if repeat == 0 else "first token" if is_streamed else "speed"
            for concurrency in protocol.concurrencies:
                for index, one in enumerate(measured):
                    timed = run(index, concurrency, kind, is_streamed)
                    if is_streamed:
                        one.streamed[concurrency] = timed
                    elif repeat:
                        one.whole.setdefault(concurrency, []).append(timed)
    return measured
