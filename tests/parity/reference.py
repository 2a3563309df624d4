"""Block diffusion in plain torch: the yardstick. No vLLM, and nothing of the package.

Recomputes everything in every step under a dense block-causal mask: no KV
cache, no batching, no fused commit. Slow on purpose, and short enough to read.
"""

import json
from itertools import accumulate
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file


class Model:
    """A dense Qwen3-type network in float32: RMSNorm, RoPE, grouped queries, q/k norm, SwiGLU."""

    def __init__(self, folder):
        self.c = json.loads((Path(folder) / "config.json").read_text())
        weights = load_file(Path(folder) / "model.safetensors")
        self.w = {name.removesuffix(".weight"): tensor.float() for name, tensor in weights.items()}

    def norm(self, x, name):
        return F.rms_norm(x, x.shape[-1:], self.w[name], self.c["rms_norm_eps"])

    def rotation(self, length):
        half = self.c["head_dim"] // 2
        frequency = self.c["rope_theta"] ** (-torch.arange(half, dtype=torch.float32) / half)
        angle = torch.arange(length, dtype=torch.float32)[:, None, None] * frequency
        return angle.cos(), angle.sin()

    def attention(self, x, p, mask, cos, sin):
        def heads(name, number):
            return F.linear(x, self.w[p + name]).view(len(x), number, self.c["head_dim"])

        def rotate(y):
            a, b = y.chunk(2, -1)
            return torch.cat((a * cos - b * sin, b * cos + a * sin), -1)

        num_queries, num_keys = self.c["num_attention_heads"], self.c["num_key_value_heads"]
        q = rotate(self.norm(heads("q_proj", num_queries), p + "q_norm"))
        k = rotate(self.norm(heads("k_proj", num_keys), p + "k_norm"))
        v = heads("v_proj", num_keys)
        k, v = (y.repeat_interleave(num_queries // num_keys, 1) for y in (k, v))
        scores = torch.einsum("ihd,jhd->hij", q, k) / self.c["head_dim"] ** 0.5
        scores = scores.masked_fill(~mask, -torch.inf).softmax(-1)
        return F.linear(torch.einsum("hij,jhd->ihd", scores, v).flatten(1), self.w[p + "o_proj"])

    def logits(self, tokens, block, start=0):
        """Logits of the tokens from ``start`` on."""
        x = self.w["model.embed_tokens"][torch.tensor(tokens)]
        number = torch.arange(len(tokens)) // block
        mask = number[None, :] <= number[:, None]
        cos, sin = self.rotation(len(tokens))
        for layer in range(self.c["num_hidden_layers"]):
            p = f"model.layers.{layer}."
            y = self.norm(x, p + "input_layernorm")
            x = x + self.attention(y, p + "self_attn.", mask, cos, sin)
            y = self.norm(x, p + "post_attention_layernorm")
            gate, up = (F.linear(y, self.w[p + f"mlp.{name}_proj"]) for name in ("gate", "up"))
            x = x + F.linear(F.silu(gate) * up, self.w[p + "mlp.down_proj"])
        return F.linear(self.norm(x[start:], "model.norm"), self.w["lm_head"])


def choose(policy, threshold, floor, masked, logits):
    """Return (accepted positions, always the best; closest decision's distance from flipping)."""
    probs = logits.softmax(-1)
    top = probs.topk(2).values
    entropy = torch.special.entr(probs).sum(-1)
    score = {"margin": top[:, 0] - top[:, 1], "entropy": -entropy}.get(policy, top[:, 0]).tolist()
    ranked = sorted(masked, key=lambda i: (-score[i], i))
    room = []  # how far inside of the policy's bound each ranked position is
    if policy == "entropy":
        room = [threshold - spent for spent in accumulate(-score[i] for i in ranked)]
    elif policy != "static":
        room = [score[i] - threshold for i in ranked]
    taken = min(len(ranked), max(floor, sum(r > 0 for r in room)))
    gaps = [abs(r) for r in room[floor:]]
    if taken < len(ranked):
        gaps.append(score[ranked[taken - 1]] - score[ranked[taken]])
    first, second = logits[ranked[:taken]].topk(2).values.unbind(-1)
    return ranked[:taken], min([*gaps, (first - second).min().item()])


@torch.inference_mode()
def generate(
    model, prompt, max_tokens, block, policy="confidence", threshold=0.9, steps=None,
    stop_ids=(), max_len=1024,
):  # fmt: skip
    """Return (generated tokens, denoising steps, ``choose``'s distance at its smallest)."""
    mask_id, steps = model.c["mask_token_id"], steps or block
    known, total, slack = list(prompt), 0, float("inf")
    last = min(len(prompt) + max_tokens, max_len)
    while True:
        start = len(known) // block * block
        canvas = known[start:] + [None] * (start + block - len(known))
        end = min(block, last - start)
        step, done = 0, None
        while done is None:
            read = [mask_id if t is None else t for t in canvas]
            logits = model.logits(known[:start] + read, block, start)
            logits[:, mask_id] = -torch.inf
            masked = [i for i, t in enumerate(canvas) if t is None]
            floor = max(1, block // steps + (step < block % steps))
            accepted, gap = choose(policy, threshold, floor, masked, logits)
            for i in accepted:
                canvas[i] = int(logits[i].argmax())
            step, total, slack = step + 1, total + 1, min(slack, gap)
            for i in range(len(known) - start, end):
                if canvas[i] is None:
                    break
                if canvas[i] in stop_ids or i == end - 1:
                    done = i + 1
                    break
        known = known[:start] + canvas[:done]
        if known[-1] in stop_ids or len(known) >= last:
            return known[len(prompt) :], total, slack
