"""Accept every position whose candidate is far enough ahead of the runner-up.

    accept = {i masked : p_i(1) - p_i(2) > tau},  tau in [0, 1]

The top-2 margin of Dream (arXiv 2508.15487) as a threshold: two near-equal
candidates are a reason to wait, however probable both are.
"""

from torch import Tensor

from vllm_diffusion.denoise.policies.base import Policy, StepView


def _score(view: StepView) -> Tensor:
    return view.prob_BL - view.second_BL


def _accept(view: StepView, score_BL: Tensor) -> Tensor:
    return score_BL > view.threshold_B[:, None]


MARGIN = Policy("margin", _score, _accept, (0.0, 1.0), 0.8)
