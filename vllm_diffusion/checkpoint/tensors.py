"""Which tensors a checkpoint must hold: a table for each network.

Shapes are spelled with a letter a dimension, which the config resolves:
V vocabulary, D hidden size, Q and K rows of all queries and keys, H one head,
C rows of queries, keys and values together, F inner size of the dense layers,
E number of experts, M an expert's inner size, S the shared expert's.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from vllm_diffusion.family.rows import FAMILIES

Table = Mapping[str, str]
Shape = tuple[int, ...]


def _swiglu(prefix: str, inner: str) -> dict[str, str]:
    return {
        f"{prefix}gate_proj.weight": inner + "D",
        f"{prefix}up_proj.weight": inner + "D",
        f"{prefix}down_proj.weight": "D" + inner,
    }


_ENDS = {"model.embed_tokens.weight": "VD", "model.norm.weight": "D"}
_NORMS = {"input_layernorm.weight": "D", "post_attention_layernorm.weight": "D"}
_ATTENTION = {
    "self_attn.q_proj.weight": "QD",
    "self_attn.k_proj.weight": "KD",
    "self_attn.v_proj.weight": "KD",
    "self_attn.o_proj.weight": "DQ",
}
_BIASES = {
    "self_attn.q_proj.bias": "Q",
    "self_attn.k_proj.bias": "K",
    "self_attn.v_proj.bias": "K",
}
_QK_NORMS = {"self_attn.q_norm.weight": "H", "self_attn.k_norm.weight": "H"}
_EXPERT = _swiglu("mlp.experts.{expert}.", "M")


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """Tensors of a network; names inside of a layer lack ``layers``."""

    ends: Table = field(default_factory=lambda: _ENDS)
    head: str = "lm_head.weight"
    """Absent where the embeddings are tied."""
    layers: str = "model.layers."
    layer: Table = field(default_factory=lambda: _NORMS | _ATTENTION)
    dense: Table = field(default_factory=lambda: _swiglu("mlp.", "F"))
    sparse: Table = field(default_factory=lambda: {"mlp.gate.weight": "ED"} | _EXPERT)


_LLAMA = Layout()
_QWEN2 = Layout(layer=_NORMS | _ATTENTION | _BIASES)
_QWEN3 = Layout(layer=_NORMS | _ATTENTION | _QK_NORMS)
_NEMOTRON = Layout(
    ends={"encoder.embed_tokens.weight": "VD", "encoder.norm.weight": "D"},
    head="diffusion_head.weight",
    layers="encoder.layers.",
)
_LLADA = Layout(
    ends={"model.transformer.wte.weight": "VD", "model.transformer.ln_f.weight": "D"},
    head="model.transformer.ff_out.weight",
    layers="model.transformer.blocks.",
    layer={
        "attn_norm.weight": "D",
        "ff_norm.weight": "D",
        "q_proj.weight": "QD",
        "k_proj.weight": "KD",
        "v_proj.weight": "KD",
        "attn_out.weight": "DQ",
    },
    dense={"ff_proj.weight": "FD", "up_proj.weight": "FD", "ff_out.weight": "DF"},
)
_LLADA2 = Layout(
    ends={"model.word_embeddings.weight": "VD", "model.norm.weight": "D"},
    layer=_NORMS
    | {
        "attention.query_key_value.weight": "CD",
        "attention.dense.weight": "DQ",
        "attention.query_layernorm.weight": "H",
        "attention.key_layernorm.weight": "H",
    },
    sparse={"mlp.gate.weight": "ED", "mlp.gate.expert_bias": "E"}
    | _EXPERT
    | _swiglu("mlp.shared_experts.", "S"),
)

LAYOUTS: dict[str, Layout] = {
    "llama": _LLAMA,
    "qwen2": _QWEN2,
    "qwen3": _QWEN3,
    "nemotron_labs": _NEMOTRON,
    "llada": _LLADA,
    "llada2": _LLADA2,
}
"""By the name that a family's record has for it (``tensors``)."""


def _is_sparse(config: Any, layer: int) -> bool:
    """Whether a layer has experts, by the rules of Bailing and of Qwen3-MoE."""
    if not getattr(config, "num_experts", None):
        return False
    if hasattr(config, "first_k_dense_replace"):
        return bool(layer >= config.first_k_dense_replace)
    return layer not in config.mlp_only_layers and (layer + 1) % config.decoder_sparse_step == 0


def _sizes(config: Any) -> dict[str, int]:
    heads, keys = config.num_attention_heads, config.num_key_value_heads
    head = getattr(config, "head_dim", None) or config.hidden_size // heads
    expert = getattr(config, "moe_intermediate_size", None) or 0
    return {
        "V": config.vocab_size,
        "D": config.hidden_size,
        "Q": heads * head,
        "K": keys * head,
        "H": head,
        "C": (heads + 2 * keys) * head,
        "F": config.intermediate_size,
        "E": getattr(config, "num_experts", None) or 0,
        "M": expert,
        "S": expert * (getattr(config, "num_shared_experts", None) or 0),
    }


def expected_tensors(architecture: str, config: Any) -> Iterator[tuple[str, Shape]]:
    """Names and shapes that ``config`` asks for, in the order of the network."""
    layout, sizes = LAYOUTS[FAMILIES[architecture].tensors], _sizes(config)

    def resolve(table: Table, prefix: str = "") -> Iterator[tuple[str, Shape]]:
        for name, letters in table.items():
            shape = tuple(sizes[letter] for letter in letters)
            if 0 in shape:
                continue  # no shared expert
            for expert in range(sizes["E"] if "{expert}" in name else 1):
                yield prefix + name.replace("{expert}", str(expert)), shape

    yield from resolve(layout.ends)
    if not config.tie_word_embeddings:
        yield layout.head, (sizes["V"], sizes["D"])
    for layer in range(config.num_hidden_layers):
        prefix = f"{layout.layers}{layer}."
        yield from resolve(layout.layer, prefix)
        yield from resolve(layout.sparse if _is_sparse(config, layer) else layout.dense, prefix)
