"""Checkpoints and options that are refused at start-up, before weights are read."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from vllm.engine.arg_utils import EngineArgs
from vllm.platforms import current_platform

from tests import foreign
from tests.checkpoints import fast_dllm_v2, illada, int8, llada, llada2, llada_moe, sdar, sdar_moe
from tests.refusals.record import Case
from vllm_diffusion import plugin

FOLDERS = (
    "startup/checkpoint_hook.py",
    "startup/serving.py",
    "startup/composition.py",
    "startup/connectors.py",
    "checkpoint/check.py",
    "checkpoint/headers.py",
)
WEIGHTS = "model.safetensors"

OPTIONS: list[dict[str, Any]] = [
    *({"additional_config": {"diffusion": value}}
      for value in (["threshold", 0.5], {"tau": 0.5}, {"threshold": 2}, {"policy": "greedy"})),
    {"diffusion_config": {"canvas_length": 3}},
    {"diffusion_config": {"canvas_length": 8},
     "additional_config": {"diffusion": {"block_length": 4}}},
    {"block_size": 18},
    {"max_num_batched_tokens": 7, "max_num_seqs": 4, "max_model_len": 4},
    {"long_prefill_token_threshold": 3},
    {"max_model_len": 3},
    {"pipeline_parallel_size": 2, "distributed_executor_backend": "external_launcher"},
    {"enable_batch_sharded_sampling": True},
    {"logits_processors": ["a.module:Processor"]},
    {"scheduler_cls": "a.module.OtherScheduler"},
    {"speculative_config": {"method": "ngram", "num_speculative_tokens": 2,
                            "prompt_lookup_max": 2}},
]  # fmt: skip

_WHOLE_PROMPTS = {"enable_chunked_prefill": False}
CONNECTOR: dict[str, Any] = {
    "kv_transfer_config": {"kv_connector": "ExampleConnector", "kv_role": "kv_both"}
}
COMPOSITION: list[dict[str, Any]] = [
    {"runner": "pooling"},
    {"convert": "embed"},
    {"prefill_context_parallel_size": 2},
    {"decode_context_parallel_size": 2, "tensor_parallel_size": 4},
    {"enable_dbo": True},
    {"ubatch_size": 2},
    {"enable_trace_replay": True},
    {"enable_prompt_embeds": True},
    {"kv_sharing_fast_prefill": True},
    *({"kv_cache_dtype": name} for name in (
        "int8_per_token_head", "fp8_per_token_head", "int4_per_token_head", "turboquant_k8v4",
        "nvfp4", "fp8_inc", "float16")),
    *({"quantization": name, "dtype": "bfloat16"} for name in ("fp8", "fp8_per_block", "mxfp4")),
    CONNECTOR,
    {"kv_transfer_config": {"kv_connector": "MultiConnector", "kv_role": "kv_both"}},
    {"kv_offloading_size": 1},
    CONNECTOR | _WHOLE_PROMPTS | {"enable_lora": True},
]  # fmt: skip
"""Options of vLLM's, of a block-causal model without experts."""
OF_EXPERTS: list[dict[str, Any]] = [
    {"enable_expert_parallel": True, "tensor_parallel_size": 2},
    {"data_parallel_size": 2},
    {"enable_return_routed_experts": True},
    {"enable_lora": True},
]
OF_FULL_ATTENTION: list[dict[str, Any]] = [CONNECTOR | _WHOLE_PROMPTS, {"kv_offloading_size": 1}]


def _changed(folder: Path, **changes: torch.Tensor | None) -> Path:
    tensors = load_file(folder / WEIGHTS) | changes
    save_file({name: t for name, t in tensors.items() if t is not None}, folder / WEIGHTS)
    return folder


def _cut(folder: Path, keep: int | None) -> Path:
    file = sdar.write(folder) / WEIGHTS
    file.write_bytes(
        file.read_bytes()[:keep] if keep else b"version https://git-lfs.github.com/v1\n"
    )
    return folder


def _listed(folder: Path) -> Path:
    sdar.write(folder)
    index = {"weight_map": {"lm_head.weight": "model-00002-of-00002.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    return folder


def _stray(folder: Path, name: str) -> Path:
    sdar.write(folder)
    save_file({name: torch.zeros(128)}, folder / "adapter_model.safetensors")
    return folder


def _mask(folder: Path, mask_id: int) -> Path:
    sdar.write(folder, tokenizer=True, mask_token_id=mask_id)
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": [2, 6]}))
    return folder


def _unknown(folder: Path, **changes: Any) -> Path:
    path = foreign.write(folder) / "config.json"
    config = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({name: v for name, v in config.items() if v is not None}))
    return folder


CHECKPOINTS: dict[str, Callable[[Path], Path]] = {
    "a tensor is missing": lambda f: _changed(
        sdar.write(f), **{"model.layers.1.self_attn.q_norm.weight": None}
    ),
    "a tensor's shape": lambda f: _changed(
        llada.write(f), **{"model.transformer.blocks.1.ff_proj.weight": torch.zeros(200, 128)}
    ),
    "a file that was cut": lambda f: _cut(f, -100),
    "a file that is no safetensors file": lambda f: _cut(f, None),
    "a file that is missing": _listed,
    "a file of something else": lambda f: _stray(f, "layers.0.lora_A.weight"),
    "a tensor that is there twice": lambda f: _stray(f, "model.norm.weight"),
    "weights that are not quantised": lambda f: sdar.write(
        f, quantization_config={"quant_method": "fp8"}
    ),
    "no mask token": fast_dllm_v2.write,
    "a mask that is the end": lambda f: _mask(f, 2),
    "a mask that is the other end": lambda f: _mask(f, 6),
    "a mask that is a word": lambda f: _mask(f, 100),
    "LLaDA2.2": lambda f: llada2.write(f, release="2.2"),
    "LLaDA with other blocks": lambda f: llada.write(f, block_type="sequential"),
    "LLaDA-MoE without norms": lambda f: llada_moe.write(f, qk_layernorm=False),
    "iLLaDA with another norm": lambda f: illada.write(f, layer_norm_eps=1e-5),
}
UNKNOWN: dict[str, dict[str, Any]] = {
    "vLLM does not know it": {"auto_map": None, "model_type": "qwen3"},
    "vLLM wants remote code": {},
}
"""vLLM's own words, of which only ours are written down."""


def _start(folder: Path, **args: Any) -> None:
    EngineArgs(model=str(folder), skip_tokenizer_init=True, **args).create_model_config()


def _serve(folder: Path, **args: Any) -> None:
    settings: dict[str, Any] = {"max_model_len": 512, "skip_tokenizer_init": True} | args
    EngineArgs(model=str(folder), **settings).create_engine_config()


def _hint(folder: Path) -> None:
    try:
        _start(folder)
    except (ValueError, RuntimeError) as error:
        hint = str(error).partition("A hint of ")[2]
        raise ValueError(hint.partition(" [type=")[0]) from error  # as pydantic has it


def cases(folder: Path) -> Iterator[Case]:
    """Args: folder: an empty one, in which checkpoints are written."""
    plugin.register()
    for number, (name, write) in enumerate(CHECKPOINTS.items()):
        yield Case(f"checkpoint: {name}", partial(_made, write, folder / f"{number}"))
    for name, changes in UNKNOWN.items():
        call = partial(_hint, _unknown(folder / f"unknown-{len(changes)}", **changes))
        yield Case(f"checkpoint, our hint: {name}", call)
    sound = sdar.write(folder / "sound", block_size=4)
    for options in (*OPTIONS, *COMPOSITION):
        yield Case(f"options: {json.dumps(options)}", partial(_serve, sound, **options))
    others = {"experts": sdar_moe.write(folder / "experts"), "full": llada.write(folder / "full")}
    for name, options in (
        *(("experts", options) for options in OF_EXPERTS),
        *(("full", options) for options in OF_FULL_ATTENTION),
    ):
        call = partial(_serve, others[name], dtype="float32", **options)
        yield Case(f"options, {name}: {json.dumps(options)}", call)
    yield Case("environment: VLLM_USE_V2_MODEL_RUNNER=0", partial(_first_runner, sound))
    yield Case("options, where vLLM has sleep mode", partial(_asleep, sound))
    quantised, _ = int8.write(folder / "of-eight-bits", sound)
    yield Case("options, int8 W8A8: --dtype float32", partial(_float32_with_amx, quantised))


def _first_runner(folder: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VLLM_USE_V2_MODEL_RUNNER", "0")
        _serve(folder)


def _asleep(folder: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(current_platform, "is_sleep_mode_available", lambda: True)
        _serve(folder, enable_sleep_mode=True)


def _float32_with_amx(folder: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.cpu, "get_capabilities", lambda: {"amx_tile": True})
        _serve(folder, dtype="float32")


def _made(write: Callable[[Path], Path], folder: Path) -> None:
    _start(write(folder))
