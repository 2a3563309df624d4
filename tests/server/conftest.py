"""One server for the whole suite, with the bundled model in float32."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.server.limits import SERVER_ARGS
from tests.server.process import ServerProcess

if TYPE_CHECKING:
    from tests.server.client import Client

# Without vLLM or the client there is nothing to test.
collect_ignore_glob = [] if find_spec("vllm") and find_spec("openai") else ["test_*.py"]

MODELS = Path(__file__).resolve().parents[2] / "examples" / "models"


@pytest.fixture(scope="session")
def tiny_diffusion() -> Path:
    return MODELS / "tiny-diffusion"


@pytest.fixture(scope="session")
def tiny_ar() -> Path:
    return MODELS / "tiny-ar"


@pytest.fixture(scope="session")
def server(
    tiny_diffusion: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ServerProcess]:
    """The server that most tests share."""
    log = tmp_path_factory.mktemp("server") / "log"
    process = ServerProcess(tiny_diffusion, log, *SERVER_ARGS)
    try:
        process.wait_until_healthy()
        yield process
    finally:
        process.kill()


@pytest.fixture
def client(server: ServerProcess, tiny_diffusion: Path) -> Iterator[Client]:
    """A client of the shared server, which every test has to leave healthy."""
    from tests.server.client import Client

    assert server.is_alive, f"the server has ended; its log ends with\n{server.log_tail()}"
    yield Client(server.url, tiny_diffusion.name)
    assert server.is_healthy, f"the server is not healthy; its log ends with\n{server.log_tail()}"
