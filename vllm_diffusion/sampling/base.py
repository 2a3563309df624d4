"""What a sampling feature is: its state by slot and its formula, in one file.

A ``LogitsOp`` changes the step's logits, so it changes how sure the model is said to be. A
``SlotCut`` leaves tokens out of what is drawn, and nothing else. ``ops`` lists both in their order.

Shape suffixes: S slots, N rows of logits, V vocabulary.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

from torch import Tensor

from vllm_diffusion.denoise.step import StepRule

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from vllm.sampling_params import SamplingParams
    from vllm.v1.worker.gpu.states import RequestState

    from vllm_diffusion.batch.canvases import Canvases
    from vllm_diffusion.batch.slots import RequestParams
    from vllm_diffusion.denoise.canvas import Canvas


class SlotState(NamedTuple):
    """What is known of all slots; a feature takes what it needs."""

    num_slots: int
    params: RequestParams
    req_states: RequestState
    canvas: Canvas


class Feature(Protocol):
    """Something that requests ask for."""

    asks_S: NDArray[np.bool_]
    """Which slots' requests do: nobody else pays for it."""

    def __init__(self, slots: SlotState) -> None: ...

    def add(self, slot: int, sampling: SamplingParams) -> None:
        """Write what the request that now owns ``slot`` asks for, if only that it does not."""
        ...

    def copy_to_device(self) -> None:
        """Make what was written visible to the next step."""
        ...


class LogitsOp(Feature, Protocol):
    """Changes logits."""

    def apply(self, logits_NV: Tensor, batch: Canvases) -> None:
        """In place, on the rows of those that ask; called where somebody of the step does."""
        ...

    def has_rule(self, slot: int) -> bool:
        """Does the slot's request need a ``StepRule``: such steps run in torch."""
        return False

    def rule(self, batch: Canvases) -> StepRule | None:
        """What the step has to heed once the candidates are known."""
        return None


class SlotCut(Feature, Protocol):
    """Leaves tokens out of what is drawn."""

    is_raw: bool
    """Reads logits that no temperature has scaled."""

    @staticmethod
    def leave(logits_NV: Tensor, *values_N: Tensor) -> Tensor:
        """The rows (N, V) with -inf where a token is left out: all below some bound."""
        ...

    @staticmethod
    def neutral(vocab_size: int) -> tuple[float, ...]:
        """Values that leave all."""
        ...

    def values(self, slot_N: Tensor) -> tuple[Tensor, ...]:
        """What ``leave`` reads, (N,) each."""
        ...
