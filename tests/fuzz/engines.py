"""Engines in this process for schedules; the first one makes the group that experts need."""

from __future__ import annotations

import atexit
import gc
from pathlib import Path
from typing import Any

import torch

from tests.checkpoints import llada2
from tests.parity.engines import Engine, EnginePool


class Engines:
    """Engines by checkpoint and options; all are closed at the end."""

    def __init__(self, folder: Path) -> None:
        torch.set_num_threads(1)
        self.folder = folder / "experts"
        self.pool = EnginePool(lambda _: self.folder)
        self.num_preempted = 0

    def __enter__(self) -> Engines:
        # vLLM makes the group that experts need with the first engine of a process, if at all.
        if not self.folder.exists():
            llada2.write(self.folder, tokenizer=True)
        self.pool(self.folder, diffusion_config={"canvas_length": 8})
        return self

    def __exit__(self, *_: object) -> None:
        self.pool.close()
        atexit.register(_collect_no_more)

    def __call__(self, folder: Path, **options: Any) -> Engine:
        self.num_preempted += sum(len(one.preempted) for one in self.pool.open.values())
        for one in self.pool.open.values():
            one.preempted.clear()
        return self.pool(folder, **options)


def _collect_no_more() -> None:
    """At exit vLLM would collect garbage once for every engine there was, which takes minutes."""
    gc.collect = lambda *_: 0  # type: ignore[assignment]
