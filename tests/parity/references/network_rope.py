"""Rotary positions: plain, of a part of the head, and YaRN with Llama 4's query scale."""

import math

import torch


def rotation(s, head, length):
    """Cosines and sines (T, 1, rotated / 2) of positions 0..T-1."""
    yarn = s.get("rope_parameters") or {}
    size = int(head * s.get("partial_rotary_factor", 1.0))
    theta = yarn.get("rope_theta") or s["rope_theta"]
    frequencies = theta ** (-torch.arange(0, size, 2, dtype=torch.float32) / size)
    factor = 1.0
    if yarn:
        frequencies, factor = _yarn(yarn, frequencies, theta, size)
    angles = torch.arange(length, dtype=torch.float32)[:, None, None] * frequencies
    return angles.cos() * factor, angles.sin() * factor


def rotate(x, cos, sin):
    """Rotate the first dimensions of x (T, heads, head), the first half against the second."""
    size = 2 * cos.shape[-1]
    a, b = x[..., :size].chunk(2, -1)
    return torch.cat((a * cos - b * sin, b * cos + a * sin, x[..., size:]), -1)


def query_scale(s, length):
    """1 + beta log(1 + floor(position / L)), (T, 1, 1), or 1 where the config has no beta."""
    yarn = s.get("rope_parameters") or {}
    beta = yarn.get("llama_4_scaling_beta", 0.0)
    if not beta:
        return 1.0
    stretch = torch.arange(length) // yarn["original_max_position_embeddings"]
    return (1 + beta * torch.log(1 + stretch.float()))[:, None, None]


def _yarn(s, frequencies, theta, size):
    """YaRN (arXiv 2309.00071, 3.2): slow frequencies are divided by ``factor``, fast ones kept.

    Between the dimensions that turn ``beta_fast`` and ``beta_slow`` times in the original
    context lies a linear ramp. Returns the frequencies and the factor of cosine and sine.
    """

    def dimension(turns):
        context = s["original_max_position_embeddings"]
        return size * math.log(context / (turns * 2 * math.pi)) / (2 * math.log(theta))

    low = max(math.floor(dimension(s["beta_fast"])), 0)
    high = min(math.ceil(dimension(s["beta_slow"])), size - 1)
    slow = ((torch.arange(size // 2) - low) / max(high - low, 0.001)).clamp(0, 1)

    def magnitude(m):
        return 1.0 if s["factor"] <= 1 else 0.1 * m * math.log(s["factor"]) + 1.0

    both = s.get("mscale") and s.get("mscale_all_dim")
    factor = magnitude(s["mscale"]) / magnitude(s["mscale_all_dim"]) if both else magnitude(1.0)
    return frequencies * (1 - slow) + frequencies / s["factor"] * slow, factor
