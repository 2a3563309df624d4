"""What a pipeline's last rank tells the others, without vLLM: messages are handed over here."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

pytest.importorskip("vllm", reason="copies to the device are vLLM's")

from vllm_diffusion.denoise.canvas import Canvas
from vllm_diffusion.worker import stages
from vllm_diffusion.worker.stages import Stages, pack, unpack

LENGTH, MASK, NUM_RANKS = 4, 99, 2


class Wire:
    """Both ends of the broadcasts, in their order."""

    def __init__(self) -> None:
        self.sent: list[torch.Tensor] = []
        self.num_waited = 0

    def exchange(self, message_BC: torch.Tensor, number: int, is_last: bool) -> Any:
        if is_last:
            self.sent.append(message_BC)
            return SimpleNamespace(wait=lambda: None)

        def wait() -> None:
            self.num_waited += 1
            message_BC.copy_(self.sent[number])

        return SimpleNamespace(wait=wait)


class Rank:
    """One rank's canvases, and the runner's account of what was sampled."""

    def __init__(self, wire: Wire, is_last: bool, monkeypatch: pytest.MonkeyPatch) -> None:
        tokens = torch.full((3, LENGTH), MASK, dtype=torch.int64)
        self.canvas = Canvas.over(tokens, MASK)
        handler = SimpleNamespace(broadcast_group=None, last_rank=1)
        self.noted: list[Any] = []
        self.stages = Stages(handler, NUM_RANKS, self.canvas, self.noted.append)
        self.updates: list[tuple[list[int], list[list[int]], list[int], list[int]]] = []
        numbers = iter(range(99))
        monkeypatch.setattr(
            self.stages, "_exchange", lambda message: wire.exchange(message, next(numbers), is_last)
        )

    def postprocess_sampled(self, *tensors: torch.Tensor) -> None:
        self.updates.append(tuple(tensor.tolist() for tensor in tensors))  # type: ignore[arg-type]

    def up_to_date(self, *scheduled: str) -> None:
        self.stages.bring_up_to_date(self, dict.fromkeys(scheduled))


def batch(slots: dict[str, int], num_rows: list[int]) -> Any:
    slot_R = np.array(list(slots.values()), dtype=np.intp)
    return SimpleNamespace(
        num_reqs=len(slots),
        req_ids=list(slots),
        idx_mapping_np=slot_R,
        idx_mapping=torch.from_numpy(slot_R),
        cu_num_logits_np=np.concatenate(([0], np.cumsum(num_rows))),
    )


@pytest.fixture
def ranks(monkeypatch: pytest.MonkeyPatch) -> tuple[Wire, Rank, Rank]:
    wire = Wire()
    return wire, Rank(wire, False, monkeypatch), Rank(wire, True, monkeypatch)


def send(last: Rank, of: Any, sampled: list[list[int]], counts: list[tuple[int, int]]) -> None:
    num_sampled, num_rejected = torch.tensor(counts, dtype=torch.int32).unbind(1)
    last.stages.broadcast(torch.tensor(sampled), num_sampled, num_rejected, of)


def test_what_is_packed_comes_out() -> None:
    sampled, canvas = torch.arange(8).view(2, 4), torch.arange(8, 16).view(2, 4)
    num_sampled, num_rejected = torch.tensor([4, 0]).int(), torch.tensor([0, 7]).int()
    message = pack(sampled, num_sampled, num_rejected, canvas)
    assert (message.dtype, message.shape) == (torch.int64, (2, 2 + 2 * 4))
    found = unpack(message)
    expected = (sampled, num_sampled, num_rejected, canvas)
    assert all(a.equal(b) and a.dtype == b.dtype for a, b in zip(found, expected, strict=True))


def test_a_canvas_is_there_before_its_next_step(ranks: tuple[Wire, Rank, Rank]) -> None:
    """Nobody waits for a message until a request in it is scheduled."""
    wire, first, last = ranks
    step = batch({"chunk": 2, "a": 0, "b": 1}, [0, 4, 1])
    first.stages.receive(step)
    assert first.noted == [step]
    first.up_to_date("chunk")
    assert not first.updates
    last.canvas.tokens_SL[:2] = torch.tensor([[5, 6, MASK, 8], [MASK] * 4])
    send(last, step, [[0] * 4, [1, 2, 3, 4], [7, 8, 0, 0]], [(0, 0), (0, 4), (2, 1)])
    first.up_to_date("b")
    assert first.canvas.tokens_SL.equal(last.canvas.tokens_SL)
    assert first.updates == [([0, 1], [[1, 2, 3, 4], [7, 8, 0, 0]], [0, 2], [4, 1])]
    first.up_to_date("a", "b")
    assert wire.num_waited == 1


def test_a_step_of_prompts_has_no_message(ranks: tuple[Wire, Rank, Rank]) -> None:
    wire, first, last = ranks
    step = batch({"a": 0, "b": 1}, [0, 0])
    first.stages.receive(step)
    send(last, step, [[0] * 4] * 2, [(0, 0)] * 2)
    assert not wire.sent
    assert not first.stages.awaited


def test_messages_that_nobody_needs_are_taken_in(ranks: tuple[Wire, Rank, Rank]) -> None:
    """Requests that end with their first step are never scheduled again."""
    _, first, last = ranks
    for number in range(9):
        first.up_to_date(str(number))
        assert len(first.stages.awaited) < NUM_RANKS
        step = batch({str(number): 0}, [4])
        first.stages.receive(step)
        send(last, step, [[number] * 4], [(4, 0)])
    assert [sampled[0][0] for _, sampled, *_ in first.updates] == list(range(7))
    assert len(last.stages.sent) <= NUM_RANKS


def test_a_slot_that_is_anothers_now_is_left_alone(ranks: tuple[Wire, Rank, Rank]) -> None:
    _, first, last = ranks
    step = batch({"leaves": 0, "stays": 1}, [4, 4])
    first.stages.receive(step)
    last.canvas.tokens_SL[:2] = torch.tensor([[1] * 4, [2] * 4])
    send(last, step, [[3] * 4, [4] * 4], [(4, 0), (4, 0)])
    first.stages.on_req_idx_freed(0)
    first.up_to_date("stays")
    assert first.canvas.tokens_SL.tolist() == [[MASK] * 4, [2] * 4, [MASK] * 4]
    assert first.updates == [([1], [[4] * 4], [4], [0])]


def test_every_rank_says_the_same_of_a_batch() -> None:
    assert stages.with_canvas(batch({"a": 0, "b": 1, "c": 2}, [0, 4, 1])).tolist() == [0, 1, 1]
