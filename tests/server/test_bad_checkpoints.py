"""A checkpoint that cannot be served ends ``vllm serve`` with the reason, before weights are read.

The rules have their own tests in ``tests/unit``; here it is that a user gets to see them. Two
cases through the command, at the same time; all through what it makes its engine's config with.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from vllm.engine.arg_utils import EngineArgs

from tests.checkpoints import fast_dllm_v2, llada, llada2, sdar
from tests.server.process import START_SECONDS, ServerProcess
from vllm_diffusion import plugin
from vllm_diffusion.family.registry import SERVED

MISSING = "model.layers.1.self_attn.q_norm.weight"
MISSHAPEN = "model.transformer.blocks.1.ff_proj.weight"


def without_a_tensor(folder: Path) -> Path:
    file = sdar.write(folder) / "model.safetensors"
    tensors = load_file(file)
    del tensors[MISSING]
    save_file(tensors, file)
    return folder


def with_another_shape(folder: Path) -> Path:
    file = llada.write(folder) / "model.safetensors"
    save_file(load_file(file) | {MISSHAPEN: torch.zeros(200, 128)}, file)
    return folder


def truncated(folder: Path) -> Path:
    file = sdar.write(folder) / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])
    return folder


def of_unknown_architecture(folder: Path) -> Path:
    config = {
        "architectures": ["WeDLMForCausalLM"],
        "auto_map": {"AutoConfig": "configuration_wedlm.WeDLMConfig"},
        "model_type": "wedlm",
        "mask_token_id": 151669,
    }
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(config))
    return folder


CASES: dict[str, tuple[Callable[[Path], Path], list[str]]] = {
    "missing tensor": (
        without_a_tensor,
        [f"lacks 1 of the 25 tensors of a SDARForCausalLM with this config.json: {MISSING}"],
    ),
    "shape": (
        with_another_shape,
        [f"{MISSHAPEN} in ", "has the shape [200, 128], but config.json asks for [256, 128]"],
    ),
    "truncated": (
        truncated,
        ["model.safetensors has ", "it was not copied to the end; download the checkpoint again"],
    ),
    "no mask id": (
        fast_dllm_v2.write,
        ["Fast_dLLM_QwenForCausalLM has no mask_token_id", "have no '|<MASK>|'", "--hf-overrides"],
    ),
    "unknown architecture": (
        of_unknown_architecture,
        ["trust_remote_code=True", "diffusion language model (mask_token_id)", *SERVED],
    ),
    "LLaDA2.2": (
        lambda folder: llada2.write(folder, release="2.2"),
        ["LLaDA2MoeModelLM is not supported, because of ", "expert_capacity=4 (must be None)"],
    ),
}
BY_COMMAND = ("truncated", "unknown architecture")


@pytest.mark.parametrize("name", CASES)
def test_the_reason_is_said(name: str, tmp_path: Path) -> None:
    plugin.register()
    write, words = CASES[name]
    folder = write(tmp_path / "model")
    with pytest.raises((ValueError, RuntimeError)) as caught:
        EngineArgs(model=str(folder), skip_tokenizer_init=True).create_engine_config()
    assert [part for part in words if part not in str(caught.value)] == []


@pytest.fixture(scope="module")
def commands(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, ServerProcess]]:
    """``vllm serve`` on some of them, all started at once."""
    started = {}
    for name in BY_COMMAND:
        write, _ = CASES[name]
        folder = write(tmp_path_factory.mktemp("bad") / "model")
        started[name] = ServerProcess(folder, folder / "log", "--skip-tokenizer-init")
    yield started
    for process in started.values():
        process.kill()


@pytest.mark.parametrize("name", BY_COMMAND)
def test_the_command_ends_with_the_reason(name: str, commands: dict[str, ServerProcess]) -> None:
    process = commands[name]
    assert process.process.wait(START_SECONDS) > 0
    said = process.log_tail()
    _, words = CASES[name]
    assert [part for part in words if part not in said] == []
    assert "EngineCore" not in process.log.read_text(), "it came as far as starting the engine"
    assert not process.group_is_alive
