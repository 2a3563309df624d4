"""Fixtures that every suite may use: random checkpoints, written once a session."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.checkpoints import sdar

CheckpointFactory = Callable[[int], Path]


def pytest_configure(config: pytest.Config) -> None:
    """vLLM looks at every attribute of torch.distributed, and so at a deprecated one."""
    config.addinivalue_line("filterwarnings", "ignore:`torch.distributed.reduce_op`:FutureWarning")


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> CheckpointFactory:
    """A random two-layer SDAR checkpoint of the given block size."""
    written: dict[int, Path] = {}

    def write(block_size: int) -> Path:
        if block_size not in written:
            folder = tmp_path_factory.mktemp(f"sdar-{block_size}-")
            written[block_size] = sdar.write(folder, block_size=block_size)
        return written[block_size]

    return write
