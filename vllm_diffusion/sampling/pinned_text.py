"""Text that is pinned behind a hole is not cut off: nothing in front of it ends the text.

As ``min_tokens``, up to the last pinned position, but for a request with ``ignore_eos`` the end of
sequence is a token like others.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vllm_diffusion.sampling.min_tokens import MinTokens

if TYPE_CHECKING:
    from vllm.sampling_params import SamplingParams


class PinnedText(MinTokens):
    def add(self, slot: int, sampling: SamplingParams) -> None:
        laid = self.params.laid
        stops: list[int] = []
        if laid.has_holes_S[slot]:
            stops = [id for id in self.params.stop_ids.np[slot].tolist() if id >= 0]
        self.stops.write(slot, stops)
        self.min_len_S[slot] = self.params.prompt_len[slot] + laid.last_pin_S[slot]
        self.asks_S[slot] = bool(stops)
