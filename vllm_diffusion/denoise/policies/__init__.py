"""Acceptance policies: which masked positions take their candidate in a step.

``base`` (the seam), ``confidence``, ``static``, ``entropy``, ``margin``,
``dream`` (four rules on a clock), ``speculate`` (drafts for the causal mode).
A new rule is one file with its formula, a row in ``POLICIES`` and a row in
``docs/policies.md``.
"""

from vllm_diffusion.denoise.policies.base import Policy, StepView
from vllm_diffusion.denoise.policies.confidence import CONFIDENCE
from vllm_diffusion.denoise.policies.dream import (
    MASKGIT_PLUS,
    ORIGIN,
    TOPK_ENTROPY,
    TOPK_MARGIN,
)
from vllm_diffusion.denoise.policies.entropy import ENTROPY
from vllm_diffusion.denoise.policies.margin import MARGIN
from vllm_diffusion.denoise.policies.speculate import SELF_SPECULATION
from vllm_diffusion.denoise.policies.static import STATIC

POLICIES: dict[str, Policy] = {
    policy.name: policy
    for policy in (
        CONFIDENCE,
        STATIC,
        ENTROPY,
        MARGIN,
        MASKGIT_PLUS,
        TOPK_MARGIN,
        TOPK_ENTROPY,
        ORIGIN,
        SELF_SPECULATION,
    )
}
POLICY_INDEX: dict[str, int] = {name: index for index, name in enumerate(POLICIES)}

__all__ = ["POLICIES", "POLICY_INDEX", "Policy", "StepView"]
