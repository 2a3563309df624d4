"""Servers for the table: on this host, or on the two of a cluster; each ends with its block."""

from __future__ import annotations

import contextlib
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from tests.cluster.asker import ask
from tests.cluster.served import OPTIONS, Served
from tests.scale.grid import Row
from tests.scale.groups import Group
from tests.server.process import ServerProcess

Ask = Callable[[Sequence[dict[str, Any]]], list[dict[str, Any]]]
REFUSAL = re.compile(
    r"(--[a-z-]+ (?:\S+ )?is refused for diffusion models: .*?)(?= \[type=|$)", re.M
)


class RefusedError(Exception):
    """The server does not start, and says which option is to blame."""


def options_of(group: Group) -> tuple[str, ...]:
    """The block length is the tests' own, which is short."""
    return ("--diffusion-config", f'{{"canvas_length": {group.family.block}}}')


@contextlib.contextmanager
def on_one_host(
    folder: Path, log: Path, group: Group, options: Sequence[str] = ()
) -> Iterator[Ask]:
    """A server in processes of this host.

    Raises:
        RefusedError: with the refusal.
        RuntimeError: it does not start, without one.
    """
    server = ServerProcess(folder, log, *OPTIONS, *options_of(group), *options)
    try:
        try:
            server.wait_until_healthy()
        except RuntimeError:
            if refused := REFUSAL.search(log.read_text(errors="replace")):
                raise RefusedError(refused[1]) from None
            raise
        yield partial(ask_together, server.url)
    finally:
        server.stop()


def ask_together(url: str, requests: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    with ThreadPoolExecutor(len(requests)) as pool:
        return list(pool.map(partial(ask, url), requests))


@contextlib.contextmanager
def on_two_hosts(cluster: Any, name: str, folder: Path, group: Group, row: Row) -> Iterator[Ask]:
    """A server on the head of a cluster, with a rank on each host."""
    served = Served(cluster, name, folder, *options_of(group), *row.options)
    try:
        served.wait()
        yield served.ask
    finally:
        served.end()


def served_by_engine(metrics: str) -> Counter[str]:
    """How many requests each engine has answered, of the text of /metrics."""
    counts: Counter[str] = Counter()
    for family in text_string_to_metric_families(metrics):
        for sample in family.samples:
            if sample.name == "vllm:request_success_total":
                counts[sample.labels["engine"]] += int(sample.value)
    return counts
