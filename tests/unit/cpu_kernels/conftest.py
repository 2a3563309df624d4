from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from .oracle import Oracle, missing_package


@pytest.fixture(scope="session")
def oracle() -> Iterator[Oracle]:
    """Triton's interpreter over vLLM's kernels."""
    if package := missing_package():
        pytest.skip(f"{package} is not installed, the replaced kernels cannot run: see oracle.py")
    client = Oracle()
    yield client
    client.close()


@pytest.fixture
def rng(request: pytest.FixtureRequest) -> np.random.Generator:
    """Random numbers that differ per test and parameter and repeat from run to run."""
    return np.random.default_rng(list(request.node.name.encode()))
