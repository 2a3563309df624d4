"""The sampler on a CPU: steps in one call of C++ against the same steps in torch, to the bit."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from vllm import SamplingParams
from vllm.platforms import current_platform
from vllm.v1.worker.cpu.buffer_utils import UvaBuffer
from vllm.v1.worker.gpu import buffer_utils

from vllm_diffusion.batch.slots import RequestParams
from vllm_diffusion.family.rows import FAMILIES
from vllm_diffusion.kernels import dispatch, library
from vllm_diffusion.mask_groups.full import Full
from vllm_diffusion.request.parsed import received
from vllm_diffusion.request.plan import make_plan
from vllm_diffusion.worker.cpu_step import FastPath
from vllm_diffusion.worker.sampler import DiffusionSampler

pytestmark = [
    pytest.mark.skipif(library.library().functions is None, reason=library.library().reason),
    pytest.mark.skipif(not current_platform.is_cpu(), reason="vLLM is not the one for the CPU"),
]

VOCAB, MASK_ID, BLOCK, MAX_LEN = 40, 39, 8, 64


def extra(**fields: Any) -> dict[str, Any]:
    return {"extra_args": {f"diffusion_{name}": value for name, value in fields.items()}}


def of_policy(policy: str, **fields: Any) -> dict[str, Any]:
    return extra(policy=policy, **fields)


PLAIN: list[dict[str, Any]] = [
    {"temperature": 0, **of_policy("confidence")},
    {"temperature": 0, **of_policy("static", max_steps=3)},
    {"temperature": 0.8, "top_k": 7, "seed": 5, **of_policy("entropy")},
    {"temperature": 0, "stop_token_ids": [1, 2, 3, 4, 5, 6]},
    {"temperature": 1, "max_tokens": 11, **of_policy("confidence", threshold=0.3)},
    {"temperature": 0, **of_policy("margin", threshold=0.01)},
]
SHORTER = [{"temperature": 0, "max_tokens": 11, **extra(block_length=4)}]


class Worker:
    """A sampler and as much of a runner as it takes: requests that only denoise."""

    def __init__(
        self, architecture: str, requests: list[dict[str, Any]], grammars: Any = None
    ) -> None:
        num = len(requests)
        self.plan = make_plan(
            FAMILIES[architecture],
            mask_id=MASK_ID,
            block_length=BLOCK,
            vocab_size=VOCAB,
            generation={},
            options={},
        )
        self.params = RequestParams(num + 1, self.plan, VOCAB)
        self.total_len_S = torch.zeros(num + 1, dtype=torch.int32)
        req_states = SimpleNamespace(
            device=torch.device("cpu"),
            draft_tokens=torch.zeros(num + 1, self.plan.canvas_length, dtype=torch.int64),
            total_len=SimpleNamespace(gpu=self.total_len_S),
        )
        self.sampler = DiffusionSampler(
            self.plan,
            self.params,
            req_states,  # type: ignore[arg-type]
            MAX_LEN,
            grammars,
            grammars and grammars.failures,
        )
        self.slot_R = np.roll(np.arange(num + 1), 1)[:num]
        for slot, fields in zip(self.slot_R.tolist(), requests, strict=True):
            self.add(slot, fields)

    def add(self, slot: int, fields: dict[str, Any]) -> None:
        """As the runner does."""
        prompt_len = 5 + slot
        sampling = SamplingParams(**{"max_tokens": 30, **fields})
        request = SimpleNamespace(req_id=str(slot), sampling_params=sampling, prompt_len=prompt_len)
        parsed = received(sampling, self.plan)
        self.params.add(slot, request, parsed)  # type: ignore[arg-type]
        self.sampler.clear(slot)
        self.sampler.add_request(slot, sampling)
        self.total_len_S[slot] = prompt_len
        self.params.copy_to_device()
        self.sampler.apply_staged_writes()

    def logits(self, num_rows: int, generator: torch.Generator) -> Tensor:
        return torch.randn(num_rows, VOCAB, generator=generator) * 4

    def step(self, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """One step on random logits; what is emitted counts as known afterwards."""
        known_R = self.total_len_S.numpy()[self.slot_R].astype(np.int64)
        last_R = np.minimum(self.params.max_len.np[self.slot_R], MAX_LEN)
        block_R = self.params.block_length.np[self.slot_R]
        if self.plan.record.mask_group is Full:
            start_R = np.zeros_like(known_R)
            end_R, width_R = last_R, np.minimum(block_R, last_R - known_R)
        else:
            start_R = known_R // block_R * block_R
            end_R = start_R + block_R
            width_R = end_R - known_R
        width_R = np.where(known_R < last_R, width_R, 0)
        borders = np.concatenate(([0], np.cumsum(width_R))).astype(np.int32)
        batch = SimpleNamespace(
            num_reqs=len(known_R),
            num_draft_tokens=int(borders[-1]),
            idx_mapping_np=self.slot_R,
            num_computed_tokens_np=start_R.astype(np.int32),
            query_start_loc_np=np.concatenate(([0], np.cumsum(end_R - start_R))).astype(np.int32),
            cu_num_logits_np=borders,
            idx_mapping=torch.from_numpy(self.slot_R),
            seq_lens=torch.from_numpy(end_R.astype(np.int32)),
            cu_num_logits=torch.from_numpy(borders),
        )
        logits_NV = self.logits(int(borders[-1]), generator)
        out = self.sampler(logits_NV, batch)  # type: ignore[arg-type]
        assert out.num_sampled is not None and out.num_rejected is not None
        self.total_len_S[self.slot_R] += out.num_sampled
        return out.sampled_token_ids, out.num_sampled, out.num_rejected


@pytest.fixture(autouse=True)
def _buffers_of_the_cpu_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    """As ``vllm.v1.worker.cpu.shm`` does, along with much else."""
    monkeypatch.setattr(buffer_utils, "UvaBuffer", UvaBuffer)


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Which way each step took."""
    ran: list[str] = []
    denoise = DiffusionSampler._step

    def noted(sampler: DiffusionSampler, *args: Any) -> tuple[Tensor, Tensor]:
        ran.append("torch")
        return denoise(sampler, *args)

    monkeypatch.setattr(DiffusionSampler, "_step", noted)
    return ran


@pytest.mark.parametrize("architecture", ["SDARForCausalLM", "LLaDAModelLM"])
def test_steps_equal_those_in_torch(architecture: str, calls: list[str]) -> None:
    requests = [*PLAIN, *SHORTER] if FAMILIES[architecture].block_length_is_free else PLAIN
    in_cpp, in_torch = Worker(architecture, requests), Worker(architecture, requests)
    in_torch.sampler.cpu_step = None
    generators = [torch.Generator().manual_seed(0) for _ in range(2)]
    num_emitted = 0
    for _ in range(30):
        outcomes = [
            worker.step(generator)
            for worker, generator in zip((in_cpp, in_torch), generators, strict=True)
        ]
        for found, expected in zip(*outcomes, strict=True):
            assert found.dtype == expected.dtype
            assert torch.equal(found, expected)
        for name in ("tokens_SL", "masked_SL", "step_S"):
            found, expected = (getattr(w.sampler.canvas, name) for w in (in_cpp, in_torch))
            assert torch.equal(found, expected), name
        num_emitted += int(outcomes[0][1].sum())
    assert num_emitted > 50
    assert len(calls) == 30  # of in_torch alone
    assert (in_cpp.total_len_S == in_torch.total_len_S).all()


@pytest.mark.parametrize(
    ("architecture", "fields", "expected"),
    [
        ("SDARForCausalLM", {}, FastPath.GREEDY),
        ("SDARForCausalLM", {"temperature": 0.5}, FastPath.DRAWN),
        ("SDARForCausalLM", of_policy("maskgit_plus"), FastPath.NONE),
        ("LLaDA2MoeModelLM", {}, FastPath.GREEDY),
        ("LLaDA2MoeModelLM", extra(edit_threshold=0.5), FastPath.NONE),
        ("LLaDAModelLM", {}, FastPath.GREEDY),
        ("LLaDAModelLM", extra(kv_cache="prefix"), FastPath.NONE),
        ("LLaDAModelLM", extra(guidance_scale=1.0), FastPath.NONE),
        ("Fast_dLLM_QwenForCausalLM", {}, FastPath.NONE),
        ("NemotronLabsDiffusionModel", {}, FastPath.NONE),
    ],
)
def test_one_request_decides_for_the_batch(
    architecture: str, fields: dict[str, Any], expected: FastPath
) -> None:
    worker = Worker(architecture, [{"temperature": 0}, {"temperature": 0, **fields}])
    step = worker.sampler.cpu_step
    assert step is not None
    assert step.path(worker.slot_R) is expected
    with dispatch.forced("torch"):
        assert step.path(worker.slot_R) is FastPath.NONE


def test_a_slot_belongs_to_its_newest_request() -> None:
    worker = Worker("SDARForCausalLM", [of_policy("origin")])
    worker.add(int(worker.slot_R[0]), {"temperature": 0})
    assert worker.sampler.cpu_step is not None
    assert worker.sampler.cpu_step.path(worker.slot_R) is FastPath.GREEDY
