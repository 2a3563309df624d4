"""DiffusionGemma in plain torch: the yardstick. No vLLM, and nothing of the package.

Recomputes the context in every block and the whole canvas in every step. The rule is that of
``transformers``' ``generation_diffusion_gemma`` (entropy bound: arXiv 2505.24857); noise is drawn
from a source that the caller gives, so that both sides can be fed the same.
"""

import json
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file


class GlobalNoise:
    """Torch's global generator, asked in the order in which vLLM asks it for one request."""

    def start(self, size, vocab):
        """Drawn once when a request arrives, for nothing, and again when its prompt is done."""
        self.canvas(size, vocab)
        return self.canvas(size, vocab)

    def canvas(self, size, vocab):
        return torch.randint(0, vocab, (1, size))[0]

    def uniform(self, size, vocab):
        return torch.rand(size, vocab)


class FixedNoise(GlobalNoise):
    """The same draws every time, whoever shares the batch."""

    def __init__(self, size, vocab, seed):
        generator = torch.Generator().manual_seed(seed)
        self.tokens = torch.randint(0, vocab, (size,), generator=generator)
        self.chances = torch.rand(size, vocab, generator=generator)

    def canvas(self, size, vocab):
        return self.tokens[:size]

    def uniform(self, size, vocab):
        return self.chances[:size]


class Model:
    """Gemma 4's mixture of experts in float32, and the decoder's self-conditioning.

    In layers with a sliding window, a canvas position of vLLM sees as far back as a context token
    in its place would. In transformers (``one_window``) the whole canvas sees what its first
    position sees.
    """

    def __init__(self, folder, one_window=False):
        self.one_window = one_window
        config = json.loads((Path(folder) / "config.json").read_text())
        self.generation = json.loads((Path(folder) / "generation_config.json").read_text())
        self.canvas_length, self.c = config["canvas_length"], config["text_config"]
        self.w = {
            name.removeprefix("model.decoder.").removesuffix(".weight"): tensor.float()
            for name, tensor in load_file(Path(folder) / "model.safetensors").items()
        }

    def norm(self, x, name=None):
        scale = self.w[name] if name else None
        return F.rms_norm(x, x.shape[-1:], scale, self.c["rms_norm_eps"])

    def gated(self, x, p):
        gate, up = (F.linear(x, self.w[p + f"{name}_proj"]) for name in ("gate", "up"))
        return F.linear(F.gelu(gate, approximate="tanh") * up, self.w[p + "down_proj"])

    def experts(self, x, routed, p):
        routed = self.norm(routed) * self.w[p + "router.scale"] * self.c["hidden_size"] ** -0.5
        probs = F.linear(routed, self.w[p + "router.proj"]).softmax(-1)
        best, chosen = probs.topk(self.c["top_k_experts"])
        best = best / best.sum(-1, keepdim=True) * self.w[p + "router.per_expert_scale"][chosen]
        gate, up = torch.einsum("th,eoh->teo", x, self.w[p + "experts.gate_up_proj"]).chunk(2, -1)
        inner = F.gelu(gate, approximate="tanh") * up
        every = torch.einsum("tei,ehi->teh", inner, self.w[p + "experts.down_proj"])
        weight = torch.zeros_like(probs).scatter(1, chosen, best)
        return (weight[..., None] * every).sum(1)

    def rotate(self, x, positions, layer_type):
        rope, half = self.c["rope_parameters"][layer_type], x.shape[-1] // 2
        number = torch.arange(half)
        turning = number < int(half * rope.get("partial_rotary_factor", 1.0))
        frequency = rope["rope_theta"] ** (-number.float() / half) * turning
        angle = positions[:, None, None].float() * frequency
        cos, sin = angle.cos(), angle.sin()
        a, b = x.chunk(2, -1)
        return torch.cat((a * cos - b * sin, b * cos + a * sin), -1)

    def attention(self, x, layer, past, causal):
        """Return the output, and the keys and values of all tokens so far."""
        p, layer_type = f"layers.{layer}.self_attn.", self.c["layer_types"][layer]
        is_full = layer_type == "full_attention"
        size = self.c["global_head_dim" if is_full else "head_dim"]
        start = len(past[0]) if past else 0
        own = torch.arange(start, start + len(x))

        def heads(name):
            return F.linear(x, self.w[p + name]).unflatten(-1, (-1, size))

        q = self.rotate(self.norm(heads("q_proj"), p + "q_norm"), own, layer_type)
        k = self.rotate(self.norm(heads("k_proj"), p + "k_norm"), own, layer_type)
        v = self.norm(heads("k_proj" if is_full else "v_proj"))  # a full layer has no v_proj
        if past:
            k, v = torch.cat((past[0], k)), torch.cat((past[1], v))
        ahead = torch.arange(len(k)) - own[:, None]
        mask = (ahead <= 0) | (not causal)
        if not is_full and self.one_window and not causal:
            mask &= torch.arange(len(k)) > start - self.c["sliding_window"]
        elif not is_full:
            mask &= ahead.abs() < self.c["sliding_window"]
        wide_k, wide_v = (y.repeat_interleave(q.shape[1] // y.shape[1], 1) for y in (k, v))
        scores = torch.einsum("ihd,jhd->hij", q, wide_k).masked_fill(~mask, -torch.inf)
        mixed = torch.einsum("hij,jhd->ihd", scores.softmax(-1), wide_v)
        return F.linear(mixed.flatten(1), self.w[p + "o_proj"]), (k, v)

    def layers(self, x, context, causal):
        cache = []
        for layer in range(self.c["num_hidden_layers"]):
            p = f"layers.{layer}."
            past = context[layer] if context else None
            y, grown = self.attention(self.norm(x, p + "input_layernorm"), layer, past, causal)
            cache.append(grown)
            x = x + self.norm(y, p + "post_attention_layernorm")
            y = self.gated(self.norm(x, p + "pre_feedforward_layernorm"), p + "mlp.")
            z = self.experts(self.norm(x, p + "pre_feedforward_layernorm_2"), x, p)
            y = self.norm(y, p + "post_feedforward_layernorm_1")
            y = y + self.norm(z, p + "post_feedforward_layernorm_2")
            x = (x + self.norm(y, p + "post_feedforward_layernorm")) * self.w[p + "layer_scalar"]
        return x, cache

    def embed(self, tokens):
        return self.w["embed_tokens"][tokens] * self.c["hidden_size"] ** 0.5

    def context(self, tokens, num_prompt=None):
        """Keys and values of finished tokens, seen causally: the encoder.

        Tokens past ``num_prompt`` were committed by vLLM, which sends a finished canvas through
        self-conditioning with nothing to condition on: their embeddings are normalised. In
        transformers they are not.
        """
        x = self.embed(torch.tensor(tokens))
        if num_prompt is not None:
            x[num_prompt:] = self.norm(x[num_prompt:])
        return self.layers(x, None, causal=True)[1]

    def logits(self, context, canvas, probs=None):
        """Logits of a canvas of token ids; ``probs`` are the last step's: the decoder."""
        x = self.embed(canvas)
        soft = torch.zeros_like(x) if probs is None else probs @ self.w["embed_tokens"]
        soft = soft * self.c["hidden_size"] ** 0.5
        p = "self_conditioning."
        x = self.norm(x + self.gated(self.norm(soft, p + "pre_norm"), p))
        x = self.norm(self.layers(x, context, causal=False)[0], "norm")
        cap = self.c["final_logit_softcapping"]
        return torch.tanh(F.linear(x, self.w["embed_tokens"]) / cap) * cap


@torch.inference_mode()
def generate(model, prompt, max_tokens, noise, steps=None, stop_ids=()):
    """Return (generated tokens, denoising steps of each canvas, closest decision's distance)."""
    size, vocab, g = model.canvas_length, model.c["vocab_size"], model.generation
    bound, most = g["sampler_config"]["entropy_bound"], g["max_denoising_steps"]
    known, counts, slack = list(prompt), [], float("inf")
    canvas = noise.start(size, vocab)
    while True:
        context = model.context(known, len(prompt))
        best, probs, history = None, None, []
        for step in range(steps or most):
            remaining = (most - step) / most
            temperature = g["t_min"] + (g["t_max"] - g["t_min"]) * remaining
            scaled = model.logits(context, canvas, probs) / temperature
            noisy = scaled - (-noise.uniform(size, vocab).clamp(min=1e-20).log()).log()
            probs = scaled.softmax(-1)
            entropy = torch.special.entr(probs).sum(-1)
            ranked, order = entropy.sort()
            before = torch.empty(size).scatter(0, order, ranked.cumsum(0) - ranked)
            accepted = before <= bound
            canvas = torch.where(accepted, noisy.argmax(-1), noise.canvas(size, vocab))
            best = scaled.argmax(-1)
            history.append(best)
            last = history[-1 - g["stability_threshold"] :]
            stable = len(last) > g["stability_threshold"]
            stable = stable and all(torch.equal(best, earlier) for earlier in last)
            sure = g["confidence_threshold"] - entropy.mean()
            two = torch.cat((scaled, noisy[accepted])).topk(2).values
            gaps = [(two[:, 0] - two[:, 1]).min(), (before - bound).abs().min(), sure.abs()]
            slack = min(slack, *(float(gap) for gap in gaps))
            if stable and sure > 0:
                break
        counts.append(step + 1)
        for token in best.tolist():
            known.append(token)
            if token in stop_ids or len(known) == len(prompt) + max_tokens:
                return known[len(prompt) :], counts, slack
        # The commit's logits are sampled as well, for nothing, before the next canvas is drawn.
        noise.uniform(size, vocab)
        canvas = noise.canvas(size, vocab)
