"""Where an engine step's time goes: wrapped methods, each charged what its own callees are not."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable
from typing import Any

CLOCKS: dict[str, Callable[[], float]] = {
    "wall": time.perf_counter,
    "cpu": time.thread_time,
}


class Spans:
    """Exclusive time by name, summed until ``take``."""

    def __init__(self, clock: str) -> None:
        self._now = CLOCKS[clock]
        self._seconds: dict[str, float] = defaultdict(float)
        self._inner: list[float] = []

    def wrap(self, owner: Any, method: str, name: str) -> None:
        """Charge calls of ``owner.method`` to ``name``."""
        original = getattr(owner, method)

        def timed(*args: Any, **kwargs: Any) -> Any:
            self._inner.append(0.0)
            start = self._now()
            try:
                return original(*args, **kwargs)
            finally:
                elapsed = self._now() - start
                self._seconds[name] += elapsed - self._inner.pop()
                if self._inner:
                    self._inner[-1] += elapsed

        setattr(owner, method, timed)

    def take(self) -> dict[str, float]:
        """Milliseconds since the last call, by name."""
        taken = {name: seconds * 1e3 for name, seconds in self._seconds.items()}
        self._seconds.clear()
        return taken
