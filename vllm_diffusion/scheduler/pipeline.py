"""Which requests a step may hold while others are under way in a pipeline of ranks.

With P ranks the engine core keeps P steps under way. What comes after a canvas depends on what its
step made of it, so a request waits until that is known; its prompt may go on in the meantime. And
a step takes a P-th of the requests, so that the others have one as well: one step of all of them
would leave the other ranks idle.
"""

from __future__ import annotations

from collections.abc import Iterable


class Pipeline:
    """With one rank nothing is under way when a step is planned, and nothing waits."""

    def __init__(self, num_ranks: int) -> None:
        self.num_ranks = num_ranks
        self.under_way: set[str] = set()
        """Requests whose canvas is in a step that is not done."""
        self._num_left = 0

    def plan(self, num_requests: int) -> None:
        """A step begins that could hold so many requests."""
        self._num_left = max(1, -(-num_requests // self.num_ranks))

    def waits(self, request_id: str) -> bool:
        """Must the request leave this step out?"""
        if self.num_ranks == 1:
            return False
        return self._num_left == 0 or request_id in self.under_way

    def take(self) -> None:
        """The step holds one more request."""
        self._num_left -= 1

    def send(self, request_ids: Iterable[str]) -> None:
        """The step goes out, with these requests' canvases."""
        self.under_way.update(request_ids)

    def done(self, request_ids: Iterable[str]) -> None:
        """What became of these canvases is known, or nobody asks any more."""
        self.under_way.difference_update(request_ids)
