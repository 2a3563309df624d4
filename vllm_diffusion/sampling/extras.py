"""What requests may ask of a step besides its tokens: shaped logits, log-probabilities.

Around the step itself, whether that runs in torch or in C++. A batch in which nobody asks pays for
a look at one array. Shape suffixes: N rows of logits, R requests in the batch, S slots.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor

from vllm_diffusion.sampling.logprobs import NOT_ASKED, AcceptedLogprobs, Notes
from vllm_diffusion.sampling.shaping import Shaping

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from vllm.sampling_params import SamplingParams
    from vllm.v1.outputs import LogprobsTensors
    from vllm.v1.worker.gpu.states import RequestState

    from vllm_diffusion.batch.canvases import Canvases
    from vllm_diffusion.batch.slots import RequestParams
    from vllm_diffusion.denoise.canvas import Canvas


class Extras:
    """The wishes of all slots, and what a step owes to them."""

    def __init__(
        self, params: RequestParams, req_states: RequestState, canvas: Canvas, logprobs_mode: str
    ) -> None:
        self.shaping = Shaping(params, req_states, canvas)
        self.logprobs = AcceptedLogprobs(params, canvas, logprobs_mode)

    def add(self, slot: int, sampling: SamplingParams) -> None:
        """Write the wishes of the request that now owns ``slot``."""
        self.shaping.add(slot, sampling)
        self.logprobs.add(slot, sampling)

    def remove(self, slot: int) -> None:
        """The slot's request is gone."""
        self.shaping.asks_S[slot] = False
        self.logprobs.remove(slot)

    def copy_to_device(self) -> None:
        """Make what was written visible to the next step."""
        self.shaping.copy_to_device()
        self.logprobs.named.copy_to_device()

    def are_asked(self, slot_R: NDArray[np.intp]) -> bool:
        """Does any request of the batch ask for any of this."""
        asks_S, num_top_S = self.shaping.asks_S, self.logprobs.num_top_S
        return bool(asks_S[slot_R].any() or (num_top_S[slot_R] != NOT_ASKED).any())

    def before(self, logits_NV: Tensor, of: Canvases) -> Notes | None:
        """Shape the logits in place; the notes that ``after`` needs."""
        notes = self.logprobs.note(logits_NV, of) if self.logprobs.is_raw else None
        self.shaping.apply(logits_NV, of)
        return notes if self.logprobs.is_raw else self.logprobs.note(logits_NV, of)

    def after(
        self, notes: Notes | None, tokens_RL: Tensor, num_emitted_R: Tensor
    ) -> LogprobsTensors | None:
        """The log-probabilities that the runner hands on with the step's tokens."""
        if notes is None:
            return None
        return self.logprobs.result(notes, tokens_RL, num_emitted_R)
