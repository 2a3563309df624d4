"""An engine in a process of its own, without a server: what `LLM()` makes of a batch.

The engine of every setting stays up, and rests while another one is measured, so that passes of
different models can take turns.
"""

from __future__ import annotations

import multiprocessing
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from ..tiny.prompts import check
from ..tiny.sample import Sample
from .client import Pass, Reply

START_SECONDS = 600.0
ENVIRONMENT = {
    # One process, so that nothing but the engine takes time.
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_LOGGING_LEVEL": "ERROR",
}


class EngineError(RuntimeError):
    """The engine's process has ended."""


class Engine:
    """The parent's end of an engine."""

    def __init__(self, name: str, pipe: Connection, process: Any) -> None:
        self.name, self._pipe, self._process = name, pipe, process

    def _answer(self, seconds: float) -> Any:
        if not self._pipe.poll(seconds):
            raise EngineError(f"{self.name}: no answer within {seconds:.0f} s")
        try:
            return self._pipe.recv()
        except EOFError:
            self._process.join(10)
            raise EngineError(
                f"{self.name}: its process ended with {self._process.exitcode}; see above"
            ) from None

    def run(
        self, samples: list[Sample], concurrency: int, max_tokens: int, extra_args: dict[str, Any]
    ) -> Pass:
        """Answer every prompt once, ``concurrency`` at a time, greedily."""
        self._pipe.send((samples, concurrency, max_tokens, extra_args))
        answer: Pass = self._answer(START_SECONDS)
        return answer


@contextmanager
def engine(
    name: str, model: Path, options: Mapping[str, Any], environment: Mapping[str, str]
) -> Iterator[Engine]:
    """An engine for the length of a ``with`` block.

    Args:
        name: for errors.
        model: the model's folder.
        options: of ``LLM()``.
        environment: variables on top of this process's own and `ENVIRONMENT`.

    Raises:
        EngineError: it does not start.
    """
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    arguments = (theirs, str(model), dict(options), ENVIRONMENT | dict(environment))
    process = context.Process(target=_serve, args=arguments, daemon=True)
    process.start()
    theirs.close()
    made = Engine(name, ours, process)
    try:
        made._answer(START_SECONDS)
        yield made
    finally:
        ours.close()
        process.join(20)
        if process.is_alive():
            process.kill()


def _serve(
    pipe: Connection, model: str, options: dict[str, Any], environment: dict[str, str]
) -> None:
    """The engine's process."""
    os.environ.update(environment)
    from vllm import LLM

    llm = LLM(model, **options)
    pipe.send("ready")
    while True:
        try:
            samples, concurrency, max_tokens, extra_args = pipe.recv()
        except EOFError:
            return
        pipe.send(_run(llm, samples, concurrency, max_tokens, extra_args))


def _run(
    llm: Any, samples: list[Sample], concurrency: int, max_tokens: int, extra_args: dict[str, Any]
) -> Pass:
    from vllm import SamplingParams

    params = SamplingParams(temperature=0.0, max_tokens=max_tokens, extra_args=extra_args or None)
    tokenizer = llm.get_tokenizer()
    texts = [
        tokenizer.apply_chat_template(
            sample.prompt_messages,
            tools=sample.tools or None,
            add_generation_prompt=True,
            tokenize=False,
        )
        for sample in samples
    ]
    inner = llm.llm_engine
    waiting = iter(enumerate(texts))
    began: dict[str, float] = {}
    forwards: dict[str, int] = {}
    replies: list[Reply] = []
    start = time.perf_counter()

    def add() -> bool:
        number, text = next(waiting, (-1, ""))
        if number < 0:
            return False
        began[str(number)] = time.perf_counter()
        forwards[str(number)] = 0
        inner.add_request(str(number), text, params.clone())
        return True

    for _ in range(concurrency):
        add()
    while inner.has_unfinished_requests():
        for output in inner.step():
            forwards[output.request_id] += 1
            if output.finished:
                seconds = time.perf_counter() - began[output.request_id]
                sample = samples[int(output.request_id)]
                replies.append(_reply(sample, output, forwards[output.request_id], seconds))
                add()
    return Pass(replies, time.perf_counter() - start)


def _reply(sample: Sample, output: Any, num_outputs: int, seconds: float) -> Reply:
    """``num_outputs``: steps that brought the request a token; for the twin, its forwards."""
    from vllm_diffusion.metrics import decode_metrics

    completion = output.outputs[0]
    try:
        metrics = decode_metrics(completion)
        num_forwards, num_steps = metrics.num_forwards, metrics.num_denoising_steps
    except ValueError:  # not a diffusion model
        num_forwards = num_steps = num_outputs
    return Reply(
        task=sample.task,
        is_right=check(sample, completion.text),
        num_tokens=len(completion.token_ids),
        num_forwards=num_forwards,
        num_steps=num_steps,
        engine_ms=seconds * 1e3,
        first_token_ms=None,
    )
