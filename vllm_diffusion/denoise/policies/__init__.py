"""Acceptance policies: which masked positions take their candidate in a step.

``base`` (the seam), ``confidence``, ``static``, ``entropy``, ``margin``. A new
rule is one file with its formula, a row in ``POLICIES`` and a row in
``docs/policies.md``.
"""

from vllm_diffusion.denoise.policies.base import Policy, StepView
from vllm_diffusion.denoise.policies.confidence import CONFIDENCE
from vllm_diffusion.denoise.policies.entropy import ENTROPY
from vllm_diffusion.denoise.policies.margin import MARGIN
from vllm_diffusion.denoise.policies.static import STATIC

POLICIES: dict[str, Policy] = {
    policy.name: policy for policy in (CONFIDENCE, STATIC, ENTROPY, MARGIN)
}
POLICY_INDEX: dict[str, int] = {name: index for index, name in enumerate(POLICIES)}

__all__ = ["POLICIES", "POLICY_INDEX", "Policy", "StepView"]
