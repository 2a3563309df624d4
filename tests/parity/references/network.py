"""One decoder for all families, in plain torch and float32: the yardstick of their networks.

Pre-norm residual layers of attention and SwiGLU under any mask. What differs between
families stands in ``network_families``. No batch, no KV cache: every call computes all.
"""

import json
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file

from tests.parity.references import network_rope as rope
from tests.parity.references.network_families import FAMILIES


def load(folder):
    """The network of a checkpoint's folder."""
    return Network(Path(folder))


class Network:
    """A checkpoint's network. ``chosen`` are the last call's experts: (T, k) a layer of experts."""

    def __init__(self, folder):
        self.config = json.loads((folder / "config.json").read_text())
        self.family = FAMILIES[self.config["architectures"][0]]
        self.s = self.family.settings(self.config)
        self.head = self.s.get("head_dim") or self.s["hidden_size"] // self.s["num_attention_heads"]
        weights = load_file(folder / "model.safetensors")
        self.w = self.family.named({name: w.float() for name, w in weights.items()}, self.s)
        self.chosen = []

    @torch.inference_mode()
    def logits(self, tokens, mask, blocks=None):
        """Logits (T, V) of ``tokens`` (T) at positions 0..T-1, where i sees j iff ``mask[i, j]``.

        ``blocks`` (T) are the tokens' blocks, for routers that decide for whole blocks.
        """
        self.chosen = []
        rotary = rope.rotation(self.s, self.head, len(tokens))
        x = self.w["model.embed_tokens.weight"][torch.tensor(tokens)]
        for layer in range(self.s["num_hidden_layers"]):
            p = f"model.layers.{layer}."
            x = x + self.attention(
                self.norm(x, p + "input_layernorm"), p + "self_attn.", mask, rotary
            )
            y = self.norm(x, p + "post_attention_layernorm")
            routed = p + "mlp.gate.weight" in self.w
            x = x + (self.experts(y, p + "mlp.", blocks) if routed else self.swiglu(y, p + "mlp."))
        tied = self.s["tie_word_embeddings"]
        head = "model.embed_tokens.weight" if tied else "lm_head.weight"
        return F.linear(self.norm(x, "model.norm"), self.w[head])

    def norm(self, x, name):
        return F.rms_norm(x, x.shape[-1:], self.w[name + ".weight"], self.s["rms_norm_eps"])

    def linear(self, x, name):
        return F.linear(x, self.w[name + ".weight"], self.w.get(name + ".bias"))

    def attention(self, x, p, mask, rotary):
        """x (T, hidden) -> (T, hidden); queries, keys and values are (T, heads, head)."""
        q, k, v = (
            self.linear(x, p + name).view(len(x), -1, self.head)
            for name in ("q_proj", "k_proj", "v_proj")
        )
        if self.family.qk_norm:
            q, k = self.norm(q, p + "q_norm"), self.norm(k, p + "k_norm")
        q, k = rope.rotate(q, *rotary), rope.rotate(k, *rotary)
        q = q * rope.query_scale(self.s, len(x))
        k, v = (y.repeat_interleave(q.shape[1] // k.shape[1], 1) for y in (k, v))
        scores = torch.einsum("ihd,jhd->hij", q, k) / self.head**0.5
        seen = scores.masked_fill(~mask, -torch.inf).softmax(-1)
        return self.linear(torch.einsum("hij,jhd->ihd", seen, v).flatten(1), p + "o_proj")

    def swiglu(self, x, p):
        gate, up = self.linear(x, p + "gate_proj"), self.linear(x, p + "up_proj")
        return self.linear(F.silu(gate) * up, p + "down_proj")

    def experts(self, x, p, blocks):
        """The sum of each token's experts, by the router's weights, and of the shared one."""
        scores = self.linear(x, p + "gate")
        bias = self.w.get(p + "gate.expert_bias")
        chosen, weights = self.family.router(scores, bias, self.s, blocks)
        self.chosen.append(chosen.sort(-1).values)
        y = torch.zeros_like(x)
        for expert in chosen.unique().tolist():
            token, slot = (chosen == expert).nonzero(as_tuple=True)
            out = self.swiglu(x[token], f"{p}experts.{expert}.")
            y[token] += weights[token, slot, None] * out
        if p + "shared_experts.gate_proj.weight" in self.w:
            y = y + self.swiglu(x, p + "shared_experts.")
        return y
