"""Accept the surest positions while their summed entropy stays within a bound.

    sort masked positions by H_i; accept the longest prefix with sum H_i <= gamma

The entropy-bounded sampler (arXiv 2505.24857): the summed entropy bounds how
much the accepted tokens can depend on each other. SDAR's ``entropy_bounded``
uses this sum (gamma 0.35); gamma is in nats, in [0, 1000].
"""

import torch
from torch import Tensor

from vllm_diffusion.denoise.policies.base import Policy, StepView


def _score(view: StepView) -> Tensor:
    return -view.entropy_BL


def _accept(view: StepView, score_BL: Tensor) -> Tensor:
    cost_BL = torch.where(view.masked_BL, -score_BL, torch.inf)
    sorted_BL, order_BL = cost_BL.sort(dim=-1, stable=True)
    within_BL = sorted_BL.cumsum(dim=-1) <= view.threshold_B[:, None]
    return torch.zeros_like(view.masked_BL).scatter(-1, order_BL, within_BL)


ENTROPY = Policy("entropy", _score, _accept, (0.0, 1000.0), 0.35)
