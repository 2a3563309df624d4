"""Every family has a class, a layout and a config, and models of others keep theirs."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("vllm", reason="the registries are vLLM's")

from transformers import AutoConfig, LlamaConfig, Qwen2Config
from vllm import ModelRegistry
from vllm.engine.arg_utils import EngineArgs
from vllm.transformers_utils.config import get_config

from tests.checkpoints import dream, dream_reasoner, llada, llada_moe, rnd1, stable_diffcoder
from vllm_diffusion.checkpoint.tensors import LAYOUTS
from vllm_diffusion.compat import registries
from vllm_diffusion.configs.llama import LLaDAConfig
from vllm_diffusion.configs.qwen import DreamConfig, DreamReasonerConfig, LLaDAMoeConfig
from vllm_diffusion.family import registry
from vllm_diffusion.family.rows import FAMILIES, SDAR


@pytest.fixture(autouse=True, scope="module")
def _registered() -> None:
    registries.register()


def folder_with(tmp_path: Path, config: dict[str, Any]) -> str:
    (tmp_path / "config.json").write_text(json.dumps(config))
    return str(tmp_path)


def read(tmp_path: Path, config: dict[str, Any]) -> Any:
    return get_config(folder_with(tmp_path, config), trust_remote_code=False)


def test_the_tables_have_the_same_architectures() -> None:
    assert registry.MODEL_CLASSES.keys() == registry.MODEL_TYPES.keys() == FAMILIES.keys()
    assert LAYOUTS.keys() == {record.tensors for record in FAMILIES.values()}


def test_a_model_type_has_one_shim() -> None:
    record = replace(SDAR, architecture="Other", config="vllm_diffusion.configs.qwen:CoDAConfig")
    with pytest.raises(ValueError, match=r"Other: .* 'sdar' are read by .*SDARConfig"):
        registry.add(record)
    assert "Other" not in FAMILIES


@pytest.mark.parametrize("architecture", FAMILIES)
def test_classes_can_be_imported(architecture: str) -> None:
    """They are this package's, whatever vLLM may bring under the same name one day."""
    model = ModelRegistry._try_load_model_cls(architecture)
    assert model.__module__.startswith("vllm_diffusion.models.")
    assert model.__name__ == registry.MODEL_CLASSES[architecture].partition(":")[2]


@pytest.mark.parametrize("model_type", registry.CONFIG_SHIMS)
def test_configs_need_no_arguments(model_type: str) -> None:
    """Transformers makes such objects to compare with."""
    shim = registry.config_shim(model_type)
    assert shim.model_type == model_type
    assert shim().to_dict()["model_type"] == model_type


@pytest.mark.parametrize(
    ("config", "shim"),
    [
        (llada.CONFIG, LLaDAConfig),
        (llada_moe.CONFIG, LLaDAMoeConfig),
        (dream.CONFIG, DreamConfig),
        (dream_reasoner.CONFIG, DreamReasonerConfig),
        (stable_diffcoder.CONFIG, LlamaConfig),
    ],
    ids=lambda value: "" if isinstance(value, dict) else value.__name__,
)
def test_the_architecture_decides_where_the_model_type_does_not(
    tmp_path: Path, config: dict[str, Any], shim: type
) -> None:
    made = read(tmp_path, config)
    assert type(made) is shim
    assert made.model_type == config["model_type"]
    assert made.rope_parameters["rope_theta"] == config["rope_theta"]


@pytest.mark.parametrize(
    ("model_type", "architecture", "shim"),
    [("llama", "LlamaForCausalLM", LlamaConfig), ("qwen2", "Qwen2ForCausalLM", Qwen2Config)],
)
def test_models_of_others_keep_their_config(
    tmp_path: Path, model_type: str, architecture: str, shim: type
) -> None:
    assert model_type not in registry.CONFIG_SHIMS
    fields = {**stable_diffcoder.CONFIG, "architectures": [architecture], "model_type": model_type}
    del fields["auto_map"]
    folder = folder_with(tmp_path, fields)
    made = EngineArgs(model=folder, skip_tokenizer_init=True).create_model_config()
    assert type(made.hf_config) is shim is type(AutoConfig.from_pretrained(folder))
    assert not made.is_diffusion and not hasattr(made.hf_config, "mask_token_id")


@pytest.mark.parametrize("module", [stable_diffcoder, rnd1, dream], ids=lambda m: m.__name__)
def test_the_model_is_causal_and_generates(tmp_path: Path, module: Any) -> None:
    """Neither an encoder (is_causal) nor a pooling model (named ...Model), but diffusion."""
    folder = folder_with(tmp_path, module.CONFIG)
    made = EngineArgs(model=folder, skip_tokenizer_init=True).create_model_config()
    assert made.is_diffusion and made.runner_type == "generate" and made.convert_type == "none"
    assert made.hf_config.is_causal
    assert made.hf_config.mask_token_id == module.MASK_ID


def test_fields_of_llada(tmp_path: Path) -> None:
    made = read(tmp_path, {**llada.CONFIG, "embedding_size": 640, "mlp_hidden_size": None})
    assert (made.hidden_size, made.intermediate_size, made.vocab_size) == (128, 512, 640)
    assert (made.num_hidden_layers, made.num_attention_heads, made.head_dim) == (2, 4, 32)
    assert (made.max_position_embeddings, made.tie_word_embeddings) == (1024, False)


def test_fields_of_llada_moe(tmp_path: Path) -> None:
    made = read(tmp_path, {**llada_moe.CONFIG, "moe_layer_freq": [0, 1]})
    assert (made.moe_intermediate_size, made.intermediate_size) == (64, 256)
    assert (made.norm_topk_prob, made.rms_norm_eps) == (False, 1e-5)
    assert (made.shared_expert_intermediate_size, made.mlp_only_layers) == (0, [0])
