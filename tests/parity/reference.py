"""Block diffusion in plain torch: the yardstick. No vLLM, and nothing of the package.

Recomputes everything in every step under a dense block-causal mask: no KV
cache, no batching, no fused commit. Slow on purpose, and short enough to read.
"""

import json
from itertools import accumulate
from pathlib import Path

import torch
from safetensors.torch import load_file


class Model:
    """A dense Qwen3-type network: RMSNorm, RoPE, grouped queries, q/k norm, SwiGLU."""

    def __init__(self, folder, dtype=torch.float32):
        self.c = json.loads((Path(folder) / "config.json").read_text())
        weights = load_file(Path(folder) / "model.safetensors")
        self.w = {name: tensor.to(dtype) for name, tensor in weights.items()}

    def norm(self, x, name):
        scale = torch.rsqrt(x.float().pow(2).mean(-1, keepdim=True) + self.c["rms_norm_eps"])
        return (x.float() * scale).to(x.dtype) * self.w[name + ".weight"]

    def rope(self, x):
        half = x.shape[-1] // 2
        frequency = self.c["rope_theta"] ** (-torch.arange(half, dtype=torch.float32) / half)
        angle = torch.arange(x.shape[0], dtype=torch.float32)[:, None] * frequency
        cos, sin = angle.cos()[:, None], angle.sin()[:, None]
        a, b = x.float()[..., :half], x.float()[..., half:]
        return torch.cat((a * cos - b * sin, b * cos + a * sin), -1).to(x.dtype)

    def attention(self, x, p, mask):
        heads, kv, d = (
            self.c[k] for k in ("num_attention_heads", "num_key_value_heads", "head_dim")
        )
        t = x.shape[0]
        q = self.norm((x @ self.w[p + "q_proj.weight"].T).view(t, heads, d), p + "q_norm")
        k = self.norm((x @ self.w[p + "k_proj.weight"].T).view(t, kv, d), p + "k_norm")
        v = (x @ self.w[p + "v_proj.weight"].T).view(t, kv, d)
        q, k = self.rope(q), self.rope(k)
        k, v = (y.repeat_interleave(heads // kv, 1) for y in (k, v))
        scores = torch.einsum("ihd,jhd->hij", q.float(), k.float()) / d**0.5
        scores = scores.masked_fill(~mask, -torch.inf).softmax(-1)
        out = torch.einsum("hij,jhd->ihd", scores, v.float()).to(x.dtype)
        return out.reshape(t, heads * d) @ self.w[p + "o_proj.weight"].T

    def logits(self, tokens, block, start=0):
        """Logits of the tokens from ``start`` on."""
        x = self.w["model.embed_tokens.weight"][torch.tensor(tokens)]
        number = torch.arange(len(tokens)) // block
        mask = number[None, :] <= number[:, None]
        for layer in range(self.c["num_hidden_layers"]):
            p = f"model.layers.{layer}."
            x = x + self.attention(self.norm(x, p + "input_layernorm"), p + "self_attn.", mask)
            y = self.norm(x, p + "post_attention_layernorm")
            gate, up = (y @ self.w[p + f"mlp.{n}_proj.weight"].T for n in ("gate", "up"))
            x = x + (torch.nn.functional.silu(gate) * up) @ self.w[p + "mlp.down_proj.weight"].T
        return (self.norm(x[start:], "model.norm") @ self.w["lm_head.weight"].T).float()


def choose(policy, threshold, floor, masked, logits):
    """Return (positions to accept, distance of the closest decision from flipping).

    Every policy accepts the best-scored positions; it only says how many.
    """
    probs = logits.softmax(-1)
    top = probs.topk(2).values
    entropy = torch.special.entr(probs).sum(-1).tolist()
    score = (top[:, 0] - top[:, 1] if policy == "margin" else top[:, 0]).tolist()
    if policy == "entropy":
        score = [-e for e in entropy]
    ranked = sorted(masked, key=lambda i: (-score[i], i))
    room = []  # how far inside of the policy's bound each ranked position is
    if policy == "entropy":
        room = [threshold - spent for spent in accumulate(entropy[i] for i in ranked)]
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
    stop_ids=(), max_len=1024, mask_id=None,
):  # fmt: skip
    """Return (generated tokens, denoising steps, ``choose``'s distance at its smallest)."""
    mask_id = model.c["mask_token_id"] if mask_id is None else mask_id
    steps = steps or block
    known, total, slack = list(prompt), 0, float("inf")
    last = min(len(prompt) + max_tokens, max_len)
    while True:
        start = len(known) // block * block
        canvas = known[start:] + [None] * (start + block - len(known))
        end = min(block, last - start)
        step, done = 0, None
        while done is None:
            tokens = known[:start] + [mask_id if t is None else t for t in canvas]
            logits = model.logits(tokens, block, start)
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
