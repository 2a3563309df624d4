"""Other models in the same installation do exactly what they do without the package."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.server.process import environment

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def runs(tiny_ar: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """The same requests with vLLM's plugins as installed, and with none."""
    folder = tmp_path_factory.mktemp("autoregressive")
    environments: dict[str, dict[str, str]] = {"with": {}, "without": {"VLLM_PLUGINS": ""}}
    processes = {}
    for name, extra in environments.items():
        told = environment() | {"VLLM_ALLOW_INSECURE_SERIALIZATION": "1"} | extra
        with (folder / name).open("w") as log:
            processes[name] = subprocess.Popen(
                [sys.executable, "-m", "tests.server.autoregressive", str(tiny_ar)],
                cwd=ROOT,
                env=told,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
    try:
        for process in processes.values():
            process.wait(280)
    finally:
        for process in processes.values():
            process.kill()
    facts = {}
    for name in environments:
        lines = (folder / name).read_text(errors="replace").splitlines()
        found = [line for line in lines if line.startswith("FACTS ")]
        assert found, "\n".join(lines[-40:])
        facts[name] = json.loads(found[0].removeprefix("FACTS "))
    return facts


def test_the_plugin_is_what_differs(runs: dict[str, dict[str, Any]]) -> None:
    assert runs["with"]["plugin"]
    assert "vllm_diffusion.plugin" in runs["with"]["worker"]["package"]
    assert not runs["without"]["plugin"]
    assert runs["without"]["worker"]["package"] == []


def test_tokens_texts_and_logprobs_are_equal(runs: dict[str, dict[str, Any]]) -> None:
    assert len(runs["with"]["answers"]) == 8
    assert runs["with"]["answers"] == runs["without"]["answers"]


def test_embeddings_are_equal(runs: dict[str, dict[str, Any]]) -> None:
    found = runs["with"]["embeddings"]
    assert len(found) == 4
    assert all(abs(sum(value**2 for value in each) - 1) < 1e-3 for each in found)
    assert found[0] != found[1]
    assert found == runs["without"]["embeddings"]


@pytest.mark.parametrize(
    "fact", ["use_v2_model_runner", "async_scheduling", "scheduler", "block_size", "is_diffusion"]
)
def test_the_engine_is_vllms_choice(runs: dict[str, dict[str, Any]], fact: str) -> None:
    assert runs["with"][fact] == runs["without"][fact]


def test_the_first_runner_without_overrides(runs: dict[str, dict[str, Any]]) -> None:
    """So that its speed is vLLM's own: none of the package's code runs in a step."""
    for facts in runs.values():
        assert facts["use_v2_model_runner"] is False
        assert facts["worker"]["runner"] == "vllm.v1.worker.cpu_model_runner"
        assert facts["worker"]["model"] == "vllm.model_executor.models.qwen3"
        assert facts["worker"]["overrides"] == []
    loaded = runs["with"]["worker"]["package"]
    assert not [name for name in loaded if name.startswith("vllm_diffusion.engine")]
