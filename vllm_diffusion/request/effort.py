"""How hard a request is refined, as one word, and what it stands for.

A level stands for policy fields, derived from those that the server decodes with: ``medium`` is
what is served. Which field a level moves, and how far, are the tables below; a policy's own
question decides which table is its.

The second half is the other dial: what a request's ``reasoning_effort`` means for a family.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil

from vllm_diffusion.denoise.policies import POLICIES
from vllm_diffusion.family.record import FamilyRecord

LEVELS = ("instant", "low", "medium", "high")

PRESETS: dict[str, dict[str, float]] = {
    "quality": {"threshold": 0.7, "edit_threshold": 0.5, "max_post_steps": 16},
    "speed": {"threshold": 0.5, "edit_threshold": 0.0, "max_post_steps": 16},
}
"""LLaDA2.1's Quality and Speed modes (its model card)."""

DOUBT = {"instant": 4.0, "low": 2.0, "medium": 1.0, "high": 0.2}
"""Factors of the permitted doubt, which is 1 - threshold for a probability or a margin, and the
threshold itself for an entropy. Doubt is what a step is allowed to be wrong about, so it is scaled
and not the threshold: 0.9 and 0.995 keep their distance from each other at every level."""

LEAST_SURE = 0.5
"""No level accepts candidates that are less probable than all others together, unless the
server's own threshold does."""

STEPS = {"instant": 0.25, "low": 0.5, "medium": 1.0, "high": 2.0}
"""Factors of the number of steps, where a schedule alone decides how many positions a step
accepts. One position a step is the most there is, so a server that does that already (as these
policies' authors do) has no ``high`` above its ``medium``."""

BY_DOUBT = ("confidence", "margin")
BY_BOUND = ("entropy",)
BY_STEPS = ("static", "maskgit_plus", "topk_margin", "topk_entropy", "origin")
"""Policies by what their levels move. ``self_speculation`` is in none: its text is that of the
causal mode, however it was drafted."""

EDITED: dict[str, dict[str, float]] = {
    "instant": PRESETS["speed"] | {"max_post_steps": 0},
    "low": PRESETS["speed"],
}
"""Levels of a model that edits what it has accepted: early acceptance is what its Speed mode is
trained for. ``instant`` also leaves out the forwards that only edit. ``high`` keeps the served
edits and asks for more certainty before."""


def effort_fields(
    level: str,
    *,
    policy: str,
    threshold: float,
    max_steps: int,
    block_length: int,
    edits: bool,
) -> dict[str, float]:
    """The decode fields that a level stands for.

    Args:
        level: one of ``LEVELS``.
        policy: a key of ``POLICIES``, not ``self_speculation``.
        threshold: what the level ``medium`` uses.
        max_steps: the same.
        block_length: of the request.
        edits: accepted tokens are edited at the level ``medium``.

    Returns:
        Fields by name; none for ``medium``.
    """
    if level == "medium":
        return {}
    if policy in BY_STEPS:
        steps = ceil(min(max_steps, block_length) * STEPS[level])
        return {"max_steps": min(steps, block_length)}
    if policy in BY_BOUND:
        return {"threshold": min(threshold * DOUBT[level], POLICIES[policy].threshold_range[1])}
    if edits and level in EDITED:
        fields = EDITED[level]
        return fields | {"threshold": min(fields["threshold"], threshold)}
    least = min(LEAST_SURE, threshold)
    # Rounded, so that the levels of 0.9 are 0.6, 0.8 and 0.98 and nothing near them.
    return {"threshold": max(round(1 - (1 - threshold) * DOUBT[level], 9), least)}


@dataclass(frozen=True, slots=True)
class Reasoning:
    """What one ``reasoning_effort`` asks for."""

    budget: int
    """Tokens that thoughts may take; 0 turns thinking off."""
    effort: str
    """The ``diffusion_effort`` of requests that do not say one."""


def _table(minimal: int, low: int, medium: int, high: int, most: int) -> dict[str, Reasoning]:
    return {
        "instant": Reasoning(0, "instant"),
        # OpenAI's word for an answer without thoughts, which is not an answer in haste.
        "none": Reasoning(0, "medium"),
        "minimal": Reasoning(minimal, "low"),
        "low": Reasoning(low, "low"),
        "medium": Reasoning(medium, "medium"),
        "high": Reasoning(high, "high"),
        "xhigh": Reasoning(most, "high"),
        "max": Reasoning(most, "high"),
    }


REASONING = _table(256, 1024, 4096, 16384, 32768)
"""By ``reasoning_effort``."""
REASONING_RECOMPUTED = _table(64, 128, 256, 512, 1024)
"""Where every step computes all of the output, thoughts that are not there yet included."""


def reasoning_of(record: FamilyRecord) -> dict[str, Reasoning]:
    """The family's table, by ``reasoning_effort``."""
    return REASONING_RECOMPUTED if record.mask_group.recomputes else REASONING
