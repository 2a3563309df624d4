"""Accept every position whose candidate is probable enough.

    accept = {i masked : c_i > tau},  c_i = max_v p_i(v),  tau in [0, 1]

Fast-dLLM (arXiv 2505.22618) as threshold decoding; SDAR calls it
``low_confidence_dynamic``, LLaDA2 and SGLang "low confidence". The bound is
strict, so tau = 1 accepts one token a step and tau = 0 everything at once.
"""

from torch import Tensor

from vllm_diffusion.denoise.policies.base import Policy, StepView


def _score(view: StepView) -> Tensor:
    return view.prob_BL


def _accept(view: StepView, score_BL: Tensor) -> Tensor:
    return score_BL > view.threshold_B[:, None]


CONFIDENCE = Policy("confidence", _score, _accept, (0.0, 1.0), 0.9)
