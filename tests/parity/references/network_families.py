"""How the families' networks differ, as data: tensor names, config fields, norms, routers."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tests.parity.references import network_routers as routers


@dataclass(frozen=True)
class Family:
    """A family's network, said in Llama's words."""

    names: tuple[tuple[str, str], ...] = ()
    """Patterns of released tensor names and the Llama names that they become, in order."""
    settings: Callable[[dict], dict[str, Any]] = dict
    """From config.json to Llama's (and Qwen3-MoE's) config fields."""
    qk_norm: bool = False
    router: Callable | None = None
    fused_qkv: bool = False

    def named(self, weights, s):
        """The released tensors under Llama's names."""
        named = {}
        for name, tensor in weights.items():
            for pattern, llama in self.names:
                name = re.sub(pattern, llama, name)
            named[name] = tensor
        if self.fused_qkv:
            named = _split(named, s)
        return named


def _split(weights, s):
    """Part ``query_key_value``, whose rows are [all queries | all keys | all values]."""
    queries, keys = (s["head_dim"] * s[f"num_{kind}_heads"] for kind in ("attention", "key_value"))
    parts = {}
    for name, tensor in weights.items():
        if "query_key_value" not in name:
            parts[name] = tensor
            continue
        for part, rows in zip("qkv", tensor.split((queries, keys, keys)), strict=True):
            parts[name.replace("query_key_value", f"{part}_proj")] = rows
    return parts


def _llada(config):
    return config | {
        "hidden_size": config["d_model"],
        "num_attention_heads": config["n_heads"],
        "num_hidden_layers": config["n_layers"],
        "tie_word_embeddings": config["weight_tying"],
    }


def _llada_moe(config):
    # Neither is in the file's power: the authors' class sets both.
    return config | {"norm_topk_prob": False, "rms_norm_eps": 1e-5}


def _coda(config):
    # Its class can be asked to tie the embeddings, but never does.
    return config | {"tie_word_embeddings": False}


LLADA_NAMES = (
    (r"^model\.transformer\.ff_out\.", "lm_head."),
    (r"^model\.transformer\.wte\.", "model.embed_tokens."),
    (r"^model\.transformer\.ln_f\.", "model.norm."),
    (r"^model\.transformer\.blocks\.", "model.layers."),
    (r"\.attn_norm\.", ".input_layernorm."),
    (r"\.ff_norm\.", ".post_attention_layernorm."),
    (r"\.([qkv]_proj)\.", r".self_attn.\1."),
    (r"\.attn_out\.", ".self_attn.o_proj."),
    (r"\.ff_proj\.", ".mlp.gate_proj."),
    (r"\.up_proj\.", ".mlp.up_proj."),
    (r"\.ff_out\.", ".mlp.down_proj."),
)
LLADA2_NAMES = (
    (r"\.word_embeddings\.", ".embed_tokens."),
    (r"\.attention\.dense\.", ".self_attn.o_proj."),
    (r"\.attention\.query_layernorm\.", ".self_attn.q_norm."),
    (r"\.attention\.key_layernorm\.", ".self_attn.k_norm."),
    (r"\.attention\.", ".self_attn."),
)
NEMOTRON_NAMES = ((r"^encoder\.", "model."), (r"^diffusion_head\.", "lm_head."))

LLAMA = QWEN2 = Family()  # Qwen2's biases are used because they are in the file
QWEN3 = Family(qk_norm=True)
QWEN3_MOE = Family(qk_norm=True, router=routers.softmax)

FAMILIES = {
    "SDARForCausalLM": QWEN3,
    "SDARMoeForCausalLM": QWEN3_MOE,
    "LLaDA2MoeModelLM": Family(
        names=LLADA2_NAMES, qk_norm=True, router=routers.sigmoid, fused_qkv=True
    ),
    "DreamForCausalLM": QWEN3,
    "StableDiffcoderForCausalLM": LLAMA,
    "Fast_dLLM_QwenForCausalLM": QWEN2,
    "NemotronLabsDiffusionModel": Family(names=NEMOTRON_NAMES),
    "LLaDAModelLM": Family(names=LLADA_NAMES, settings=_llada),
    "ILLaDAForCausalLM": LLAMA,
    "LLaDAMoEModelLM": Family(qk_norm=True, router=routers.softmax, settings=_llada_moe),
    "DreamModel": QWEN2,
    "RND1LM": QWEN3_MOE,
    "CoDALanguageModel": Family(qk_norm=True, settings=_coda),
}
