"""One server for most tests: a random checkpoint with the bundled models' tokenizer.

Random weights are as unsure as tests need them to be: drawn answers differ, and
blocks take many steps. What needs a trained model is in ``test_bundled_model.py``.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.checkpoints import sdar
from tests.server import limits
from tests.server.process import ServerProcess

if TYPE_CHECKING:
    from tests.server.client import Client

# Without vLLM or the client there is nothing to test.
collect_ignore_glob = [] if find_spec("vllm") and find_spec("openai") else ["test_*.py"]

MODELS = Path(__file__).resolve().parents[2] / "examples" / "models"
TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json")


@pytest.fixture(scope="session")
def tiny_diffusion() -> Path:
    return MODELS / "tiny-diffusion"


@pytest.fixture(scope="session")
def tiny_ar() -> Path:
    return MODELS / "tiny-ar"


@pytest.fixture(scope="session")
def random_model(tiny_diffusion: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The checkpoint of the shared server."""
    folder = sdar.write(
        tmp_path_factory.mktemp("models") / "random",
        block_size=limits.CHECKPOINT_BLOCK_LENGTH,
        vocab_size=limits.VOCAB_SIZE,
        mask_token_id=limits.MASK_ID,
        eos_token_id=limits.EOS_ID,
    )
    for name in TOKENIZER_FILES:
        shutil.copy(tiny_diffusion / name, folder)
    shipped = {
        "eos_token_id": [limits.EOS_ID],
        "diffusion_policy": "margin",
        "diffusion_threshold": 0.3,
    }
    (folder / "generation_config.json").write_text(json.dumps(shipped))
    return folder


# Both end with the last test of this folder: what follows needs the memory.
@pytest.fixture(scope="package")
def server(random_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """The server that most tests share."""
    log = tmp_path_factory.mktemp("server") / "log"
    process = ServerProcess(random_model, log, *limits.SERVER_ARGS)
    try:
        process.wait_until_healthy()
        yield process
    finally:
        process.stop()


@pytest.fixture(scope="package")
def bundled_server(
    tiny_diffusion: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ServerProcess]:
    """The bundled model with this package's routes; needs the trained weights."""
    process = ServerProcess(
        tiny_diffusion,
        tmp_path_factory.mktemp("bundled") / "log",
        *("--kv-cache-memory-bytes", str(256 << 20)),
        *("--max-model-len", "1024"),
        *("--shutdown-timeout", "20"),
        # What the scripts of real clients ask for besides.
        *("--enable-auto-tool-choice", "--tool-call-parser", "hermes"),
        "--enable-prompt-tokens-details",
        is_forked=False,
        program="vllm-diffusion",
    )
    try:
        process.wait_until_healthy()
        yield process
    finally:
        process.stop()


@pytest.fixture
def client(server: ServerProcess) -> Iterator[Client]:
    """A client of the shared server, which every test has to leave healthy."""
    yield from healthy(server)


def healthy(server: ServerProcess) -> Iterator[Client]:
    """A client for one test; the test fails with the log if the server is not well after it."""
    from tests.server.client import Client

    assert server.is_alive, f"the server has ended; its log ends with\n{server.log_tail()}"
    yield Client(server.url, server.model)
    assert server.is_healthy, f"the server is not healthy; its log ends with\n{server.log_tail()}"
