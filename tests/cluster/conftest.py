"""One cluster for the suite: two hosts on this machine, a raylet in each."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

NEEDED = ("vllm", "ray", "pyroute2")
MISSING = [name for name in NEEDED if find_spec(name) is None]


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[object]:
    """Two raylets; skipped, by name, where this process may not make namespaces."""
    # Missing packages are an error where vLLM is installed: they are in requirements/cpu.lock.
    if "vllm" in MISSING:
        pytest.skip("vLLM is not installed")
    assert not MISSING, f"not installed: {', '.join(MISSING)}; run make setup"
    from tests.cluster.host import two_hosts
    from tests.cluster.raylets import Cluster

    folder: Path = tmp_path_factory.mktemp("cluster")
    hosts = two_hosts()
    try:
        head, other = hosts.__enter__()
    except OSError as error:
        pytest.skip(f"network namespaces cannot be made here: {error}")
    try:
        yield Cluster(head, other, folder)
    finally:
        hosts.__exit__(None, None, None)
