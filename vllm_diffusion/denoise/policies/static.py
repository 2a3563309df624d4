"""Accept a fixed number of positions a step, the most probable first.

    accept = the n_s most probable masked positions,
    n_s = B // S + [s < B mod S]  for step s of S steps on a block of B

LLaDA's "low confidence" remasking (arXiv 2502.09992), SDAR's
``low_confidence_static``. The schedule itself is the step's floor, common to
all policies; this rule adds nothing to it and has no threshold.
"""

import torch
from torch import Tensor

from vllm_diffusion.denoise.policies.base import Policy, StepView


def _score(view: StepView) -> Tensor:
    return view.prob_BL


def _accept(view: StepView, score_BL: Tensor) -> Tensor:
    return torch.zeros_like(view.masked_BL)


STATIC = Policy("static", _score, _accept, (0.0, 1.0), 0.0)
