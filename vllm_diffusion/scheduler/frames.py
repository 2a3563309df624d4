"""Frames on their way through the engine core: numbered, and put among a step's outputs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from vllm.v1.engine import EngineCoreOutput, EngineCoreOutputs

from vllm_diffusion.frames import KEY

if TYPE_CHECKING:
    from collections.abc import Mapping

    from vllm.v1.outputs import ModelRunnerOutput
    from vllm.v1.request import Request

    from vllm_diffusion.frames import Taken
    from vllm_diffusion.scheduler.stats import Account


class NumberedFrames:
    """Which requests are watched, and where each of them stands."""

    def __init__(self) -> None:
        self.watcher_of: dict[str, int] = {}
        """A number of the front end's, by request."""
        self.num_blocks: dict[str, int] = {}

    def open(self, request_id: str, watcher: int) -> None:
        """Take note of a request."""
        if watcher:
            self.watcher_of[request_id] = watcher
            self.num_blocks[request_id] = 0

    def close(self, request_id: str) -> None:
        """The request is over."""
        self.watcher_of.pop(request_id, None)
        self.num_blocks.pop(request_id, None)

    def made(
        self,
        output: ModelRunnerOutput,
        requests: Mapping[str, Request],
        known: Mapping[str, int],
        accounts: Mapping[str, Account],
    ) -> list[tuple[int, EngineCoreOutput]]:
        """A step's frames, with the client of each; called before what it emitted is taken over.

        Args:
            output: of the worker.
            requests: that are running.
            known: tokens that each had before the step.
            accounts: what is counted of each, without this step.
        """
        taken: Taken | None = getattr(output, KEY, None)
        if taken is None:
            return []
        found = []
        for number, row in enumerate(taken.rows):
            request_id = output.req_ids[row]
            request, watcher = requests.get(request_id), self.watcher_of.get(request_id)
            if request is None or watcher is None or request_id not in known:
                continue
            is_final = bool(output.sampled_token_ids[row])
            frame: list[Any] = [
                self.num_blocks[request_id],
                accounts[request_id].num_steps,
                known[request_id] - request.num_prompt_tokens,
                is_final,
                taken.packed(number),
            ]
            self.num_blocks[request_id] += is_final
            told = EngineCoreOutput(request_id, [], kv_transfer_params={KEY: [watcher, frame]})
            found.append((request.client_index, told))
        return found


def tell(outputs: dict[int, EngineCoreOutputs], frames: list[tuple[int, EngineCoreOutput]]) -> None:
    """Put frames in front of the step's other outputs, so that a text does not overtake them."""
    for client, frame in reversed(frames):
        outputs.setdefault(client, EngineCoreOutputs()).outputs.insert(0, frame)
