"""What the decoding core has to know about a model family, as data.

One frozen record an architecture. The core reads the record and never asks
which model it serves, so that a new family is a row here, a config shim and,
rarely, a model class.
"""

from dataclasses import dataclass
from typing import Literal

AttentionMask = Literal["block_causal", "causal_context", "full", "causal"]
"""Which tokens a token sees; ``blk(i)`` is ``i // block_length``.

* ``block_causal``: i sees j iff ``blk(j) <= blk(i)``.
* ``causal_context``: the context is causal, the canvas sees it and all of itself.
* ``full``: every token sees every token.
* ``causal``: masks are look-ahead slots of a strictly causal model.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class FamilyRecord:
    """The axes on which diffusion language models differ."""

    architecture: str
    """``architectures[0]`` of the released ``config.json``."""
    title: str
    """The family's name for people."""
    attention_mask: AttentionMask
    block_lengths: tuple[int, int]
    """Smallest and largest block length that the family's weights exist for."""
    block_length_is_free: bool
    """A request may ask for a shorter block than the checkpoint's own."""
    default_policy: str
    default_threshold: float


SDAR = FamilyRecord(
    architecture="SDARForCausalLM",
    title="SDAR and TraDo (dense)",
    attention_mask="block_causal",
    block_lengths=(4, 64),
    block_length_is_free=True,
    default_policy="confidence",
    # The authors' command line uses 0.85, their README 0.9; the stricter one
    # is the safer default for quality.
    default_threshold=0.9,
)

FAMILIES: dict[str, FamilyRecord] = {record.architecture: record for record in (SDAR,)}
