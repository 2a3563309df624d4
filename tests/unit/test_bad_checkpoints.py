"""Checkpoints that cannot be served are refused at start-up, with the remedy."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

pytest.importorskip("vllm", reason="the checks hang on vLLM's start-up")

from vllm.config import ModelConfig
from vllm.engine.arg_utils import EngineArgs

from tests.checkpoints import (
    coda,
    dream,
    dream_reasoner,
    fast_dllm_v2,
    illada,
    llada,
    llada2,
    llada_moe,
    nemotron_labs,
    rnd1,
    sdar,
    sdar_moe,
    stable_diffcoder,
)
from vllm_diffusion import plugin
from vllm_diffusion.checkpoint.headers import read_headers
from vllm_diffusion.checkpoint.llada2 import is_edit_trained
from vllm_diffusion.checkpoint.tensors import expected_tensors

MODULES = [
    coda, dream, dream_reasoner, fast_dllm_v2, illada, llada, llada2, llada_moe, nemotron_labs,
    rnd1, sdar, sdar_moe, stable_diffcoder,
]  # fmt: skip
WEIGHTS = "model.safetensors"


@pytest.fixture(autouse=True, scope="module")
def _registered() -> None:
    plugin.register()


def start(folder: Path, **args: Any) -> ModelConfig:
    return EngineArgs(model=str(folder), skip_tokenizer_init=True, **args).create_model_config()


def refusal(folder: Path, **args: Any) -> str:
    with pytest.raises((ValueError, RuntimeError)) as caught:
        start(folder, **args)
    return str(caught.value)


def rewrite(folder: Path, **changes: torch.Tensor | None) -> Path:
    """Replace tensors of the checkpoint, or remove them where None."""
    tensors = load_file(folder / WEIGHTS) | changes
    kept = {name: tensor for name, tensor in tensors.items() if tensor is not None}
    save_file(kept, folder / WEIGHTS)
    return folder


@pytest.mark.parametrize("module", MODULES, ids=lambda m: m.__name__.rpartition(".")[2])
def test_exactly_the_tensors_of_a_sound_checkpoint_are_expected(
    module: Any, tmp_path: Path
) -> None:
    folder = module.write(tmp_path, tokenizer=True)
    config = start(folder)
    expected = dict(expected_tensors(config.architecture, config.hf_config))
    assert expected == {name: tensor.shape for name, tensor in read_headers(folder).items()}


@pytest.mark.parametrize("module", MODULES, ids=lambda m: m.__name__.rpartition(".")[2])
def test_a_window_that_is_switched_off(module: Any, tmp_path: Path) -> None:
    """LLaDA2 is released with one; vLLM does not look at the switch."""
    folder = module.write(tmp_path, tokenizer=True)
    off = {"sliding_window": 4096, "use_sliding_window": False}
    fields = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(fields | off))
    assert start(folder).get_sliding_window() is None
    (folder / "config.json").write_text(json.dumps(fields | off | {"use_sliding_window": True}))
    assert "sliding_window=4096 (must be None)" in refusal(folder)


def test_missing_tensors(tmp_path: Path) -> None:
    folder = rewrite(
        coda.write(tmp_path),
        **{f"model.layers.1.self_attn.{part}_proj.weight": None for part in "qkvo"},
    )
    assert (
        f"{folder} lacks 4 of the 25 tensors of a CoDALanguageModel with this config.json: "
        "model.layers.1.self_attn.q_proj.weight, model.layers.1.self_attn.k_proj.weight, "
        "model.layers.1.self_attn.v_proj.weight, .... Download the checkpoint again, or use"
    ) in refusal(folder)


def test_a_tensor_of_another_shape(tmp_path: Path) -> None:
    name = "model.transformer.blocks.1.ff_proj.weight"
    folder = rewrite(llada.write(tmp_path), **{name: torch.zeros(200, 128)})
    assert (
        f"{name} in {folder / WEIGHTS} has the shape [200, 128], but config.json asks for "
        "[256, 128]. Use the config.json that belongs to these weights"
    ) in refusal(folder)


def test_a_config_of_a_larger_model(tmp_path: Path) -> None:
    folder = sdar.write(tmp_path)
    fields = json.loads((folder / "config.json").read_text()) | {"num_hidden_layers": 3}
    (folder / "config.json").write_text(json.dumps(fields))
    assert "lacks 11 of the 36 tensors of a SDARForCausalLM" in refusal(folder)


def test_files_that_were_not_copied_to_the_end(tmp_path: Path) -> None:
    folder = sdar.write(tmp_path)
    whole = (folder / WEIGHTS).read_bytes()
    (folder / WEIGHTS).write_bytes(whole[:-4])
    assert f"has {len(whole) - 4} bytes where its header says {len(whole)}" in refusal(folder)
    (folder / WEIGHTS).write_bytes(b"version https://git-lfs.github.com/spec/v1\n")
    assert f"{folder / WEIGHTS} is not a safetensors file (its header is longer" in refusal(folder)
    index = {"weight_map": {"lm_head.weight": "model-00002-of-00002.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    assert "are missing, first model-00002-of-00002.safetensors" in refusal(folder)


@pytest.mark.parametrize("change", ["quantised", "no weights", "pickled"])
def test_what_cannot_be_compared_is_not(tmp_path: Path, change: str) -> None:
    if change == "quantised":
        settings = {"quant_method": "awq", "bits": 4, "group_size": 32, "zero_point": True}
        folder = sdar.write(tmp_path, quantization_config=settings)
    else:
        folder = sdar.write(tmp_path)
        (folder / WEIGHTS).unlink()
        if change == "pickled":
            (folder / "pytorch_model.bin").write_bytes(b"")
    start(folder)


@pytest.mark.parametrize("method", ["fp8", "gptq", "compressed-tensors"])
def test_weights_that_are_not_quantised(tmp_path: Path, method: str) -> None:
    """vLLM would compute with them as if they were, or find parameters without a tensor."""
    said = refusal(sdar.write(tmp_path, quantization_config={"quant_method": method}))
    assert f"quantization_config in config.json of {tmp_path} says quant_method {method!r}" in said
    assert "but its weights are not quantised. Remove quantization_config, or use" in said


def test_quantised_weights_are_left_to_vllm(tmp_path: Path) -> None:
    folder = sdar.write(tmp_path, quantization_config={"quant_method": "fp8"})
    name = "model.layers.1.mlp.up_proj.weight"
    start(rewrite(folder, **{name: torch.zeros(256, 128, dtype=torch.float8_e4m3fn)}))


def test_files_of_something_else(tmp_path: Path) -> None:
    """vLLM reads every file of a folder without an index; with one, those that it lists."""
    folder = sdar.write(tmp_path)
    stray = folder / "adapter_model.safetensors"
    save_file({"layers.0.lora_A.weight": torch.zeros(4, 8)}, stray)
    assert (
        f"{stray} holds no tensor of this checkpoint but others, as layers.0.lora_A.weight; "
        "move the file to another folder"
    ) in refusal(folder)
    save_file({"model.norm.weight": torch.zeros(128)}, stray)
    assert (
        f"{folder} has model.norm.weight twice, in adapter_model.safetensors and in {WEIGHTS}"
    ) in refusal(folder)
    index = {"weight_map": dict.fromkeys(load_file(folder / WEIGHTS), WEIGHTS)}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    start(folder)


def with_mask(folder: Path, mask_id: int) -> Path:
    folder = sdar.write(folder, tokenizer=True, mask_token_id=mask_id)
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": [2, 6]}))
    return folder


@pytest.mark.parametrize(
    ("mask_id", "words"),
    [
        (2, "is '<|endoftext|>', which is also the end token (eos_token_id in config.json)"),
        (6, "is '<|im_start|>', which is also the end token (eos_token_id in generation_config"),
        (100, "an ordinary token of the tokenizer in "),
    ],
)
def test_a_mask_that_is_another_token(tmp_path: Path, mask_id: int, words: str) -> None:
    said = refusal(with_mask(tmp_path, mask_id))
    assert f"mask_token_id={mask_id} is " in said and words in said
    assert "--hf-overrides '{\"mask_token_id\": N}'" in said
    assert start(tmp_path, hf_overrides={"mask_token_id": sdar.MASK_ID})


def test_the_tokenizers_own_end_is_no_mask(tmp_path: Path) -> None:
    folder = with_mask(tmp_path, 7)
    start(folder)
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    for end in ("<|im_end|>", {"content": "<|im_end|>"}):
        (folder / "tokenizer_config.json").write_text(json.dumps(settings | {"eos_token": end}))
        assert "the end token (eos_token in tokenizer_config.json)" in refusal(folder)


@pytest.mark.parametrize("mask_id", [3, 510])
def test_a_mask_that_the_tokenizer_has_no_word_for(tmp_path: Path, mask_id: int) -> None:
    """Spelled like one among the vocabulary's own tokens, or behind them."""
    folder = with_mask(tmp_path, mask_id)
    content = json.loads((folder / "tokenizer.json").read_text())
    vocab = {text: number for text, number in content["model"]["vocab"].items() if number < 500}
    spelled = {"<[MASK]>": 3} | {text: number for text, number in vocab.items() if number != 3}
    content["model"]["vocab"] = spelled
    (folder / "tokenizer.json").write_text(json.dumps(content | {"added_tokens": []}))
    (folder / "tokenizer_config.json").write_text("{}")
    start(folder)


def test_the_mask_token(tmp_path: Path) -> None:
    """In the config, in one of the tokenizer's files, released with the family, or nowhere."""
    folder = fast_dllm_v2.write(tmp_path)
    assert (
        "config.json of this Fast_dLLM_QwenForCausalLM has no mask_token_id, without which "
        f"nothing can be denoised; add the id of the tokenizer's mask token (the tokenizer's "
        f"files in {folder} have no '|<MASK>|'), or say it with --hf-overrides "
        "'{\"mask_token_id\": N}'"
    ) in refusal(folder)
    assert start(folder, hf_overrides={"mask_token_id": 7}).hf_config.mask_token_id == 7
    spelled = {"content": "|<MASK>|", "special": True}
    for file, content in (
        ("vocab.json", {"|<MASK>|": 11}),
        ("added_tokens.json", {"|<MASK>|": 12}),
        ("tokenizer.json", {"added_tokens": [spelled | {"id": 13}]}),
        ("tokenizer_config.json", {"added_tokens_decoder": {"14": spelled}}),
    ):
        (folder / file).write_text(json.dumps(content))
        want = next(int(word) for word in json.dumps(content).replace('"', " ").replace("}", " ")
                    .replace(",", " ").replace(":", " ").split() if word.isdigit())  # fmt: skip
        assert start(folder).hf_config.mask_token_id == want
    assert start(illada.write(tmp_path / "illada")).hf_config.mask_token_id == 5


@pytest.mark.parametrize(
    ("module", "fields", "words"),
    [
        (llada2, {"release": "2.2"}, "expert_capacity=4 (must be None)"),
        (llada, {"block_type": "sequential"}, "block_type='sequential' (must be 'llama')"),
        (llada, {"alibi": True}, "alibi=True (must be False or None)"),
        (llada_moe, {"qk_layernorm": False}, "qk_layernorm=False (must be True)"),
        (illada, {"layer_norm_eps": 1e-5}, "layer_norm_eps=1e-05 (must be None)"),
    ],
    ids=str,
)
def test_networks_that_are_not_implemented(
    tmp_path: Path, module: Any, fields: dict[str, Any], words: str
) -> None:
    said = refusal(module.write(tmp_path, **fields))
    assert "is not supported, because of " in said and words in said


UNKNOWN = {
    "architectures": ["WeDLMForCausalLM"],
    "model_type": "wedlm",
    "auto_map": {
        "AutoConfig": "configuration_wedlm.WeDLMConfig",
        "AutoModelForCausalLM": "modeling_wedlm.WeDLMForCausalLM",
    },
    "mask_token_id": 151669,
}


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"auto_map": None},
        {"model_type": "llama"},
        {"model_type": "llama", "auto_map": None, "hidden_size": 64, "num_attention_heads": 2},
    ],
    ids=["remote code", "unknown type", "known type", "known type alone"],
)
def test_an_unknown_diffusion_architecture(tmp_path: Path, fields: dict[str, Any]) -> None:
    config = {name: value for name, value in (UNKNOWN | fields).items() if value is not None}
    (tmp_path / "config.json").write_text(json.dumps(config))
    said = refusal(tmp_path)
    assert "diffusion language model (mask_token_id)" in said
    assert "mask_token_id), of which it serves these architectures:" in said
    assert "  SDARForCausalLM: SDAR and TraDo (dense)\n" in said
    assert said.rstrip().count("""--hf-overrides '{"architectures": ["..."]}'""") == 1


def test_other_unknown_models_get_vllms_own_error(tmp_path: Path) -> None:
    fields = {"architectures": ["OtherForCausalLM"], "model_type": "other"}
    (tmp_path / "config.json").write_text(json.dumps(fields))
    assert "model type `other`" in refusal(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(fields | {"model_type": "llama"}))
    assert "Model architectures ['OtherForCausalLM'] are not supported" in refusal(tmp_path)


def test_which_release_of_llada2(tmp_path: Path) -> None:
    def cast(folder: Path) -> Path:
        """The released types: bfloat16, but for 2.1's biases."""
        tensors = load_file(folder / WEIGHTS)
        return rewrite(
            folder,
            **{n: t if "expert_bias" in n else t.bfloat16() for n, t in tensors.items()},
        )

    old = cast(llada2.write(tmp_path / "2.0", release="2.0"))
    new = cast(llada2.write(tmp_path / "2.1", release="2.1"))
    assert is_edit_trained(old) is False
    assert is_edit_trained(new) is True
    assert is_edit_trained(llada2.write(tmp_path / "float32", release="2.1")) is None
    assert is_edit_trained("inclusionAI/LLaDA2.1-mini") is None
