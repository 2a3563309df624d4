"""Random weights under Llama's names, which the families share or rename.

The gains are chosen so that decoding is worth testing: attention is sharp enough
that rows of nothing but mask tokens differ by position, and the logits' spread puts
the best token's probability anywhere in (0, 1).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

Config = dict[str, Any]
Weights = dict[str, Tensor]


class Draw:
    """Random tensors, all from one stream."""

    def __init__(self, seed: int) -> None:
        self.generator = torch.Generator().manual_seed(seed)

    def normal(self, *shape: int, spread: float = 1.0) -> Tensor:
        return torch.randn(*shape, generator=self.generator) * spread

    def matrix(self, rows: int, columns: int, gain: float = 1.0) -> Tensor:
        """A projection (rows, columns) of unit inputs to outputs of spread ``gain``."""
        return self.normal(rows, columns) * gain / columns**0.5

    def norm(self, size: int) -> Tensor:
        return 1 + self.normal(size, spread=0.1)


Feedforward = Callable[[Draw, Config, int], Weights]


def dense(draw: Draw, config: Config, layer: int) -> Weights:
    """SwiGLU of ``intermediate_size``."""
    return _swiglu(draw, config["hidden_size"], config["intermediate_size"])


def experts(draw: Draw, config: Config, layer: int) -> Weights:
    """A router and its experts, under Qwen3-MoE's names."""
    hidden, inner = config["hidden_size"], config["moe_intermediate_size"]
    weights = {"gate.weight": draw.matrix(config["num_experts"], hidden, gain=2.0)}
    for expert in range(config["num_experts"]):
        weights |= prefixed(f"experts.{expert}.", _swiglu(draw, hidden, inner))
    return weights


def shared_expert(draw: Draw, config: Config) -> Weights:
    """The expert that every token passes through (LLaDA2)."""
    inner = config["moe_intermediate_size"] * config["num_shared_experts"]
    return prefixed("shared_experts.", _swiglu(draw, config["hidden_size"], inner))


def prefixed(prefix: str, weights: Weights) -> Weights:
    return {prefix + name: tensor for name, tensor in weights.items()}


def renamed(weights: Weights, names: dict[str, str]) -> Weights:
    """The same tensors with each of ``names`` replaced, in that order."""
    result = {}
    for name, tensor in weights.items():
        for ours, theirs in names.items():
            name = name.replace(ours, theirs)
        result[name] = tensor
    return result


def llama(
    config: Config,
    seed: int,
    *,
    qk_norm: bool = False,
    qkv_bias: bool = False,
    feedforward: Feedforward = dense,
) -> Weights:
    """Weights of a whole decoder; without ``lm_head`` where the embeddings are tied."""
    draw = Draw(seed)
    hidden, vocab = config["hidden_size"], config["vocab_size"]
    head = config.get("head_dim") or hidden // config["num_attention_heads"]
    queries = config["num_attention_heads"] * head
    keys = config["num_key_value_heads"] * head
    tied = config["tie_word_embeddings"]
    sharpness = 1.0 if qk_norm else 2.0  # a norm would undo it

    weights = {
        # Tied embeddings are the head as well, so they have the head's scale.
        "model.embed_tokens.weight": draw.normal(
            vocab, hidden, spread=4.0 / hidden**0.5 if tied else 1.0
        ),
        "model.norm.weight": draw.norm(hidden),
    }
    if not tied:
        weights["lm_head.weight"] = draw.matrix(vocab, hidden, gain=4.0)
    for layer in range(config["num_hidden_layers"]):
        block = {
            "input_layernorm.weight": draw.norm(hidden),
            "post_attention_layernorm.weight": draw.norm(hidden),
            "self_attn.q_proj.weight": draw.matrix(queries, hidden, sharpness),
            "self_attn.k_proj.weight": draw.matrix(keys, hidden, sharpness),
            "self_attn.v_proj.weight": draw.matrix(keys, hidden),
            "self_attn.o_proj.weight": draw.matrix(hidden, queries, gain=2.0),
        }
        if qk_norm:
            block["self_attn.q_norm.weight"] = draw.norm(head) * 2
            block["self_attn.k_norm.weight"] = draw.norm(head) * 2
        if qkv_bias:
            for name, size in (("q", queries), ("k", keys), ("v", keys)):
                block[f"self_attn.{name}_proj.bias"] = draw.normal(size, spread=0.2)
        block |= prefixed("mlp.", feedforward(draw, config, layer))
        weights |= prefixed(f"model.layers.{layer}.", block)
    return weights


def _swiglu(draw: Draw, hidden: int, inner: int) -> Weights:
    return {
        "gate_proj.weight": draw.matrix(inner, hidden),
        "up_proj.weight": draw.matrix(inner, hidden),
        "down_proj.weight": draw.matrix(hidden, inner, gain=2.0),
    }
