"""What the decoding core has to know about a model family, as data.

One frozen record an architecture (``rows``). The core reads the record and
never asks which model it serves, so that a new family is a row there, a config
shim and, rarely, a model class.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vllm_diffusion.mask_groups.base import MaskGroup


@dataclass(frozen=True, slots=True, kw_only=True)
class FamilyRecord:
    """The axes on which diffusion language models differ."""

    architecture: str
    """``architectures[0]`` of the released ``config.json``."""
    title: str
    """The family's name for people."""
    model: str
    """Its class, ``module:name``; imported when a checkpoint asks for it."""
    model_type: str
    """Of the released ``config.json``, or a name of our own where transformers has that one."""
    config: str
    """The shim that reads configs of this ``model_type``, ``module:name``."""
    tensors: str
    """Which tensors a checkpoint holds: a key of ``checkpoint.tensors.LAYOUTS``."""
    mask_group: type[MaskGroup]
    """Which tokens a token sees, and where blocks start."""
    block_lengths: tuple[int, int]
    """Smallest and largest block length that makes sense for the weights."""
    default_block_length: int | None = None
    """Where ``config.json`` and ``generation_config.json`` say nothing."""
    block_length_is_free: bool = False
    """A request may ask for a shorter block than the server's."""
    default_policy: str = "confidence"
    default_threshold: float = 0.9
    logit_shift: bool = False
    """Row i - 1 of the logits predicts token i."""
    has_seed: bool = False
    """The first token of a block that starts empty is the autoregressive one.

    It is read off the last row of the forward that commits the tokens before
    the block, in which the finished block is attended to as context.
    """
    sub_block_length: int | None = None
    """Blocks are denoised in pieces of this length from left to right."""
    has_edits: bool = False
    """Accepted tokens of the active block may be replaced (token to token)."""
    has_guidance: bool = False
    """Classifier-free guidance against the same canvas without the prompt is defined."""
    self_speculates: bool = False
    """The causal mode of the same weights can verify drafts."""
    mask_tokens: tuple[str, ...] = ()
    """Spellings of the mask token, where ``config.json`` lacks its id."""
    mask_token_id: int | None = None
    """The released id, where neither ``config.json`` nor the tokenizer say it."""
