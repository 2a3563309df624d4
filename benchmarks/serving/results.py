"""Passes to numbers: plain dicts, as they stand in the JSON file."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from typing import Any

from .client import Pass, Reply
from .measure import Measured

Row = dict[str, Any]


def tokens_per_second(timed: Pass) -> float:
    return sum(reply.num_tokens for reply in timed.replies) / timed.seconds


def ms_per_step(timed: Pass) -> float:
    """Mean time of an engine step that served these requests.

    A request is in every step from its scheduling to its last token, so its time in the engine
    over its forwards is the mean time of a step, whatever else is in the batch.
    """
    forwards = sum(reply.num_forwards for reply in timed.replies)
    return sum(reply.engine_ms for reply in timed.replies) / forwards


def spread(values: Iterable[float]) -> dict[str, Any]:
    """Median and range over repeats."""
    found = list(values)
    return {
        "median": statistics.median(found),
        "min": min(found),
        "max": max(found),
        "passes": found,
    }


def quantile(values: Sequence[float], share: float) -> float:
    """The smallest value that ``share`` of the values do not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def accuracy(replies: Sequence[Reply]) -> dict[str, Any]:
    """Share of right answers, by task and over all."""
    by_task: dict[str, list[bool]] = {}
    for reply in replies:
        by_task.setdefault(reply.task, []).append(reply.is_right)
    return {
        "mean": statistics.mean(reply.is_right for reply in replies),
        "by_task": {task: statistics.mean(found) for task, found in sorted(by_task.items())},
        "num_prompts": len(replies),
    }


def _at(one: Measured, concurrency: int) -> Row:
    passes = one.whole[concurrency]
    return {
        "tokens_per_second": spread(map(tokens_per_second, passes)),
        "ms_per_step": spread(map(ms_per_step, passes)),
    }


def _streamed_at(one: Measured, concurrency: int) -> Row:
    timed = one.streamed[concurrency]
    firsts = [r.first_token_ms for r in timed.replies if r.first_token_ms is not None]
    return {
        "streamed_tokens_per_second": tokens_per_second(timed),
        "first_token_ms": {
            "median": statistics.median(firsts) if firsts else None,
            "p95": quantile(firsts, 0.95) if firsts else None,
        },
    }


def engine_row(one: Measured) -> Row:
    """One setting's row, without a server."""
    assert one.accuracy is not None
    replies = one.accuracy.replies
    tokens = sum(reply.num_tokens for reply in replies)
    return {
        "name": one.setting.name,
        "model": one.setting.model.name,
        "threshold": one.setting.threshold,
        "is_default_threshold": one.setting.is_default,
        "accuracy": accuracy(replies),
        "tokens_per_forward": tokens / sum(reply.num_forwards for reply in replies),
        "tokens_per_step": tokens / sum(reply.num_steps for reply in replies),
        "tokens_per_answer": tokens / len(replies),
        "by_concurrency": {str(c): _at(one, c) for c in one.whole},
    }


def server_row(one: Measured) -> Row:
    """One model and executor, behind a server."""
    return {
        "name": f"{one.setting.name}, {one.executor}",
        "model": one.setting.model.name,
        "threshold": one.setting.threshold,
        "executor": one.executor,
        "by_concurrency": {str(c): _at(one, c) | _streamed_at(one, c) for c in one.whole},
    }


def _rate(row: Row, concurrency: str) -> float:
    rate: float = row["by_concurrency"][concurrency]["tokens_per_second"]["median"]
    return rate


def add_speed_ups(rows: Sequence[Row]) -> None:
    """Write each row's speed over that of the fastest autoregressive row, at the concurrency."""
    twins = [row for row in rows if row["threshold"] is None]
    for row in rows:
        for concurrency, at in row["by_concurrency"].items():
            best = max(_rate(twin, concurrency) for twin in twins)
            at["speed_up"] = _rate(row, concurrency) / best
