"""Self-speculation: the canvas drafts, the model's own causal mode verifies.

    draft:   d_j = argmax p_bidirectional(. | context, seed, masks)    for all j at once
    verify:  keep the longest prefix with d_j = argmax p_causal(. | context, seed, d_<j)

Nemotron-Labs-Diffusion's linear self-speculation. Greedy output is that of the
autoregressive mode, token for token; the draft only decides how fast it comes.
A draft accepts every position, so the rule has no threshold; what it drafted
is judged in ``denoise.verify``.
"""

import torch
from torch import Tensor

from vllm_diffusion.denoise.policies.base import Policy, StepView


def _score(view: StepView) -> Tensor:
    return view.prob_BL


def _accept(view: StepView, score_BL: Tensor) -> Tensor:
    return torch.ones_like(view.masked_BL)


SELF_SPECULATION = Policy("self_speculation", _score, _accept, (0.0, 1.0), 0.0)
