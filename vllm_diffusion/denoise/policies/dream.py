"""Dream's rules: how many positions a step fills follows from a clock, not from the model.

    t = linspace(1, 0.001, S + 1);  share_i = 1 - t[i + 1] / t[i], 1 in the last step
    maskgit_plus:  the int(share_i * #masked) most probable positions
    topk_margin:   those with the largest p(1) - p(2)
    topk_entropy:  those with the smallest entropy
    origin:        each masked position with probability share_i, whatever the model says

HKUNLP/Dream, ``diffusion_generate`` with ``alg`` of the same names (``entropy``
is ``topk_entropy`` here, since ``entropy`` is the entropy-bounded rule). No
rule has a threshold.
"""

import torch
from torch import Tensor

from vllm_diffusion.denoise.policies.base import Policy, StepView


def _prob(view: StepView) -> Tensor:
    return view.prob_BL


def _margin(view: StepView) -> Tensor:
    return view.prob_BL - view.second_BL


def _negative_entropy(view: StepView) -> Tensor:
    return -view.entropy_BL


def _accept_none(view: StepView, score_BL: Tensor) -> Tensor:
    return torch.zeros_like(view.masked_BL)


def _accept_by_chance(view: StepView, score_BL: Tensor) -> Tensor:
    assert view.share_B is not None and view.uniform_BL is not None
    return view.uniform_BL < view.share_B[:, None]


MASKGIT_PLUS = Policy("maskgit_plus", _prob, _accept_none, (0.0, 1.0), 0.0, "time")
TOPK_MARGIN = Policy("topk_margin", _margin, _accept_none, (0.0, 1.0), 0.0, "time")
TOPK_ENTROPY = Policy("topk_entropy", _negative_entropy, _accept_none, (0.0, 1.0), 0.0, "time")
ORIGIN = Policy("origin", _prob, _accept_by_chance, (0.0, 1.0), 0.0, "chance")
