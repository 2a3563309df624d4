"""A mask group: which tokens a token sees, and all that follows from it.

``family.record`` names one of the three classes a family. Scheduler and worker
make an object of it and ask; start-up and the front end ask the class. Nobody
else distinguishes them. The object keeps nothing of a request: that is ``Progress``
in the scheduler, and the slots' parameters in the worker.

Shape suffixes: R requests of the batch, S virtual sequences, N rows of logits.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from vllm_diffusion.mask_groups.spans import Phase, Progress, Span

if TYPE_CHECKING:
    from torch import Tensor

    from vllm_diffusion.batch.slots import RequestParams
    from vllm_diffusion.family.record import FamilyRecord
    from vllm_diffusion.mask_groups.inputs import Inputs
    from vllm_diffusion.mask_groups.sequences import VirtualSequences
    from vllm_diffusion.mask_groups.view import BatchView


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What a mask group asks of vLLM's limits; ``startup`` mends or refuses them."""

    step_tokens: int
    """Tokens that a step must have room for."""
    why: str
    """The reason, for messages."""
    unit: int = 1
    """KV pages and ``max_model_len`` hold whole units of so many tokens."""
    grows_budget: bool = False
    """A step's budget is raised to ``step_tokens`` where vLLM's default is smaller."""
    shares_pages: bool = True
    """Requests with equal prompts may share K and V."""


@dataclass(frozen=True, slots=True)
class Attended:
    """What attention computes in a step."""

    sequences: VirtualSequences
    is_causal: bool | NDArray[np.bool_] = False
    """Of all sequences, or (S,) of each."""
    page_shift_S: NDArray[np.int64] | None = None
    """(S,) by how many pages a sequence's block table starts later, if any does."""


class MaskGroup(ABC):
    """Args: the family's record; tokens of a KV page; ``max_model_len``, where spans are asked for.

    ``known`` is N throughout, the number of known tokens, and ``block`` the request's B. Methods
    that are annotated ``Any`` take and return integers, arrays or tensors.
    """

    name: ClassVar[str]
    is_aligned: ClassVar[bool] = False
    """Blocks are counted from token 0 (else from the end of the prompt); a KV page holds whole
    ones, since K and V of a token depend on its whole block."""
    has_causal_context: ClassVar[bool] = False
    """Prompts are read from left to right: their rows predict the next token. A batch may hold
    causal queries beside others."""
    recomputes: ClassVar[bool] = False
    """Every exact step computes the prompt and the whole output: no K and V is final before the
    end, and the length of the output is fixed at the start."""

    def __init__(self, record: FamilyRecord, *, page: int = 1, max_model_len: int = 0) -> None:
        self.page, self.max_model_len = page, max_model_len
        self.has_seed = record.has_seed
        self.shift = int(record.logit_shift)

    # Start-up.

    @classmethod
    @abstractmethod
    def limits(cls, canvas_length: int, max_model_len: int) -> Limits:
        """What serving canvases of this length asks of vLLM's limits."""

    # Blocks.

    @staticmethod
    def starts_block(known: Any, block: int | NDArray[np.int64]) -> Any:
        """Does the canvas behind N tokens start a block?"""
        return True

    @staticmethod
    def canvas_width(known: int, block: int) -> int:
        """Positions of the canvas behind N tokens, before any limit of the output."""
        return block

    def longest(self, *, is_guided: bool) -> int:
        """The longest sequence of a request."""
        return self.max_model_len

    def canvas_end(self, last: int) -> int:
        """No canvas position is at or behind this one, for an output that ends at ``last``."""
        return last

    # One step of a request: the scheduler's account.

    @abstractmethod
    def phase(self, known: int, progress: Progress) -> Phase:
        """What the next whole step will be."""

    @abstractmethod
    def span(self, known: int, progress: Progress) -> Span:
        """The next step's span, K and V being final up to where it starts."""

    @abstractmethod
    def resume(
        self,
        known: Any,
        block: Any,
        *,
        emitted: Any = 0,
        is_verify: Any = False,
        keeps_cache: Any = False,
    ) -> Any:
        """Where final K and V end after a step with a canvas, and so where the next query starts.

        The one rule of both accounts: the scheduler asks with the numbers of a request, the
        worker with arrays or tensors of the batch. Arithmetic alone, so that it serves all three.

        Args:
            known: N, before the step.
            block: B.
            emitted: tokens that the step added.
            is_verify: the step was a verification, which reads causally what it accepts.
            keeps_cache: the request takes an approximate cache.
        """

    @abstractmethod
    def note(self, phase: Phase, emitted: int, progress: Progress) -> None:
        """Bring ``progress`` up to date after a whole step."""

    def advance(self, known: int, emitted: int, progress: Progress) -> int:
        """Account for a whole step; returns where the next query starts.

        Args:
            known: N, before the step.
            emitted: tokens that the step added to them.
            progress: as before the step; brought up to date.
        """
        phase = self.phase(known, progress)
        decode = progress.decode
        start: int = self.resume(
            known,
            decode.block_length,
            emitted=emitted,
            is_verify=phase is Phase.VERIFY,
            keeps_cache=decode.kv_cache != "exact",
        )
        self.note(phase, emitted, progress)
        return start

    # One forward of a batch: the worker's.

    @abstractmethod
    def attended(self, view: BatchView, params: RequestParams) -> Attended:
        """The sequences that attention sees."""

    @abstractmethod
    def prepare(self, inputs: Inputs) -> Tensor:
        """Put in the tokens that the runner does not know of; returns the rows (N,) of the hidden
        states that get logits.

        The runner fills in prompts and canvases. A query may also start with tokens that the
        last step settled, or go on behind the canvas.
        """
