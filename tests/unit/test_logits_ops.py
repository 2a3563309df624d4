"""What requests ask of a step besides tokens: the same in C++ and torch, and free if unasked."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor
from vllm import SamplingParams
from vllm.platforms import current_platform
from vllm.v1.outputs import LogprobsTensors
from vllm.v1.worker.cpu.buffer_utils import UvaBuffer
from vllm.v1.worker.gpu import buffer_utils

from tests.unit.test_cpu_step import MAX_LEN, VOCAB, Worker, of_policy
from vllm_diffusion.batch.slot_lists import SlotLists
from vllm_diffusion.kernels import library
from vllm_diffusion.sampling.bad_words import SlotWords
from vllm_diffusion.sampling.logprobs import AcceptedLogprobs
from vllm_diffusion.worker import sampler
from vllm_diffusion.worker.cpu_step import FastPath

pytestmark = [
    pytest.mark.skipif(library.library().functions is None, reason=library.library().reason),
    pytest.mark.skipif(not current_platform.is_cpu(), reason="vLLM is not the one for the CPU"),
]

ASKED: list[dict[str, Any]] = [
    {"temperature": 0, "logprobs": 2, **of_policy("confidence", threshold=0.3)},
    {"temperature": 0, "logit_bias": {3: 2.0, 4: -1.0}, "frequency_penalty": 1.0},
    {"temperature": 0},
    {"temperature": 0.9, "seed": 3, "min_p": 0.1, "logprob_token_ids": [1, 2, 3]},
    {"temperature": 0, "allowed_token_ids": [1, 5, 9], "presence_penalty": 1.0, "logprobs": 0},
    {"temperature": 1.5, "seed": 4, "extra_args": {"top_n_sigma": 1.5}},
    {"temperature": 0.7, "min_tokens": 9, "stop_token_ids": [1, 2], "repetition_penalty": 1.2},
]


@pytest.fixture(autouse=True)
def _buffers_of_the_cpu_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(buffer_utils, "UvaBuffer", UvaBuffer)


def worker_of(requests: list[dict[str, Any]], mode: str = "raw_logprobs") -> Worker:
    worker = Worker("SDARForCausalLM", requests)
    logits_ops = worker.sampler.logits_ops
    generator = torch.Generator().manual_seed(1)
    num_slots = len(worker.total_len_S)
    tokens = torch.randint(0, VOCAB - 1, (num_slots, MAX_LEN), generator=generator).int()
    worker.sampler.req_states.all_token_ids = SimpleNamespace(gpu=tokens)  # type: ignore[assignment]
    canvas, temper = worker.sampler.canvas, logits_ops.drawn.temper
    logits_ops.logprobs = AcceptedLogprobs(worker.params, canvas, mode, temper)
    for slot, fields in zip(worker.slot_R.tolist(), requests, strict=True):
        logits_ops.add(slot, SamplingParams(**{"max_tokens": 30, **fields}))
    worker.sampler.apply_staged_writes()
    return worker


@pytest.fixture
def snapshot(monkeypatch: pytest.MonkeyPatch) -> list[LogprobsTensors | None]:
    """The log-probabilities of each step."""
    noted: list[LogprobsTensors | None] = []
    output_of = sampler.output_of

    def noting(*args: Any) -> Any:
        output = output_of(*args)
        noted.append(output.logprobs_tensors)
        return output

    monkeypatch.setattr(sampler, "output_of", noting)
    return noted


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_cpp_and_torch_agree(snapshot: list[LogprobsTensors]) -> None:
    in_cpp, in_torch = worker_of(ASKED), worker_of(ASKED)
    assert in_cpp.sampler.cpu_step is not None
    assert in_cpp.sampler.cpu_step.path(in_cpp.slot_R) is FastPath.DRAWN
    in_torch.sampler.cpu_step = None
    num_emitted = 0
    for seed in range(16):
        outcomes = [worker.step(seeded(seed)) for worker in (in_cpp, in_torch)]
        for found, expected in zip(*outcomes, strict=True):
            assert torch.equal(found, expected)
        cpp, plain = snapshot[-2:]
        assert (cpp is None) == (plain is None)
        if cpp is not None:
            assert cpp.cu_num_generated_tokens == plain.cu_num_generated_tokens
            assert torch.equal(cpp.logprob_token_ids, plain.logprob_token_ids)
            assert torch.equal(cpp.logprobs, plain.logprobs)
        for tokens_L, num in zip(outcomes[0][0], outcomes[0][1].tolist(), strict=True):
            num_emitted += len(tokens_L[:num])
    assert num_emitted > 50


@pytest.mark.parametrize(
    "mode", ["raw_logprobs", "raw_logits", "processed_logprobs", "processed_logits"]
)
def test_the_four_modes(mode: str, snapshot: list[LogprobsTensors]) -> None:
    """One request whose whole block is accepted at once, so one look at the logits tells all."""
    said = {"logit_bias": {3: 2.0}, "temperature": 0.5, "seed": 1, "top_k": 4, "logprobs": 2}
    worker = worker_of([{**said, **of_policy("confidence", threshold=0.0)}], mode)
    seen: list[Tensor] = []
    before = worker.sampler.logits_ops.before

    def spy(logits_NV: Tensor, of: Any) -> Any:
        seen.append(logits_NV.clone())
        return before(logits_NV, of)

    worker.sampler.logits_ops.before = spy  # type: ignore[method-assign]
    tokens_RL, num_R, _ = worker.step(seeded(0))
    rows_NV = seen[0]
    rows_NV[:, worker.plan.mask_id] = -torch.inf
    if mode.startswith("processed"):
        rows_NV[:, 3] += 2.0
        rows_NV /= 0.5
        lowest_N1 = rows_NV.topk(4, dim=-1).values[:, -1:]
        rows_NV = rows_NV.masked_fill(rows_NV < lowest_N1, -torch.inf)
    if mode.endswith("logprobs"):
        rows_NV = rows_NV.log_softmax(dim=-1)
    num = int(num_R[0])
    assert num == len(rows_NV) > 1
    want = rows_NV.gather(1, tokens_RL[0, :num, None])[:, 0]
    torch.testing.assert_close(snapshot[0].logprobs[:num, 0], want)
    torch.testing.assert_close(snapshot[0].logprobs[:num, 1:], rows_NV.topk(2, dim=-1).values)


def test_nothing_is_held_for_nobody() -> None:
    worker = worker_of([{"temperature": 0}, {"temperature": 0.5}])
    logits_ops = worker.sampler.logits_ops
    assert logits_ops.logprobs._store is None
    lists = [
        one
        for op in logits_ops.ops
        for one in vars(op).values()
        if isinstance(one, (SlotLists, SlotWords))
    ]
    assert len(lists) == 7
    assert all(one.values is None for one in lists)
    assert not logits_ops.are_asked(worker.slot_R)


def test_places_are_used_again() -> None:
    worker = worker_of([{"logprobs": 1}, {"logprobs": 1}])
    logprobs = worker.sampler.logits_ops.logprobs
    assert logprobs._store is not None
    first = logprobs._store.rank.shape[0]
    for number in range(20):
        worker.sampler.logits_ops.remove(int(worker.slot_R[0]))
        worker.sampler.logits_ops.add(int(worker.slot_R[0]), SamplingParams(logprobs=number % 5))
    assert logprobs._store.rank.shape[0] == first == 2
    assert logprobs._store.ids_A.shape[2] == 5
    assert len({int(logprobs.place_S[slot]) for slot in worker.slot_R}) == 2


def test_tokens_that_were_there_already_are_scored(snapshot: list[LogprobsTensors]) -> None:
    """Whatever puts them into a fresh canvas, at the first step that looks at it."""
    worker = worker_of([{"temperature": 0, "logprobs": 0, **of_policy("static")}])
    canvas, slot = worker.sampler.canvas, int(worker.slot_R[0])
    canvas.tokens_SL[slot, 0] = 7
    canvas.masked_SL[slot, 0] = False
    worker.step(seeded(0))
    score = float(snapshot[-1].logprobs[0, 0])
    assert snapshot[-1].logprob_token_ids[0].tolist() == [7]
    assert score < 0
    worker.step(seeded(1))
    assert float(snapshot[-1].logprobs[0, 0]) == score
