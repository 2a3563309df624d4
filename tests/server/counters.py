"""The server's ``/metrics``, as numbers."""

from __future__ import annotations

import time
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass

from prometheus_client.parser import text_string_to_metric_families


@dataclass(frozen=True)
class Counters:
    """One reading: values by sample name and the labels that tell samples apart."""

    values: dict[tuple[str, frozenset[tuple[str, str]]], float]

    @classmethod
    def read(cls, url: str) -> Counters:
        with urllib.request.urlopen(f"{url}/metrics", timeout=30) as response:
            text = response.read().decode()
        values = {}
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                labels = {
                    key: value
                    for key, value in sample.labels.items()
                    if key not in ("engine", "model_name")
                }
                values[sample.name, frozenset(labels.items())] = sample.value
        return cls(values)

    def __call__(self, name: str, **labels: str) -> float:
        """The value of ``vllm:<name>``; 0 before its first event."""
        return self.values.get((f"vllm:{name}", frozenset(labels.items())), 0.0)

    def has(self, name: str) -> bool:
        return any(sample == f"vllm:{name}" for sample, _ in self.values)


def eventually(is_so: Callable[[], bool], seconds: float = 30) -> bool:
    """Whether ``is_so`` comes true in time; the front end counts after it has answered."""
    deadline = time.monotonic() + seconds
    while not is_so():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.1)
    return True
