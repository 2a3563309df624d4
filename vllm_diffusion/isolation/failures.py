"""What belongs to a request fails with it: one place for errors of constraints and fields.

A worker has no word for "this request failed". It emits a token that no vocabulary has, the
scheduler ends the request with an error, and the front end says which. Every tensor-parallel rank
computes the same, so every rank emits the same.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import IntEnum
from typing import TypeVar

from vllm.logger import init_logger

logger = init_logger(f"vllm.{__name__}")

Result = TypeVar("Result")


class Failure(IntEnum):
    """Why a request ended; the token that says so."""

    DEAD_END = -101
    CONSTRAINT = -102
    PARAMETERS = -103


MESSAGES = {
    Failure.DEAD_END: "structured output: a bound was reached while the text was followed, or "
    "nothing could come next; ask for a simpler grammar or schema",
    Failure.CONSTRAINT: "structured output: an error while the text was followed; the server's log "
    "has it",
    Failure.PARAMETERS: "an error while the request's fields were taken over; the server's log has "
    "it",
}
SHUTTING_DOWN = "the engine ends"
"""Of requests that it cuts short then."""
PREFIX = "vllm_diffusion:"
"""Of a stop reason that is one of these messages."""


class Failures:
    """Slots whose request has failed, until it is gone."""

    def __init__(self) -> None:
        self.of_slot: dict[int, Failure] = {}

    def run(
        self,
        slot: int,
        request: str,
        call: Callable[[], Result],
        failure: Failure = Failure.CONSTRAINT,
    ) -> Result | None:
        """Do what belongs to one request; its errors end that request alone.

        Args:
            slot: of the request.
            request: for the log.
            call: what to do.
            failure: what an error is, unless it is a dead end.

        Returns:
            The call's result; None where it failed.
        """
        from vllm_diffusion.structured.matcher import DeadEndError

        try:
            return call()
        except DeadEndError as error:
            logger.warning("%s: %s: its request ends", request, error)
            self.of_slot[slot] = Failure.DEAD_END
        except Exception:
            logger.exception("%s: its request ends", request)
            self.of_slot[slot] = failure
        return None

    def forget(self, slot: int) -> None:
        self.of_slot.pop(slot, None)


def failure_of(tokens: list[int]) -> Failure | None:
    """Whether a worker's tokens say that the request has failed."""
    if len(tokens) == 1 and tokens[0] in MESSAGES:
        return Failure(tokens[0])
    return None
