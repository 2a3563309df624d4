"""Spans: which tokens steps compute, on simulated requests (``simulated_requests``)."""

from __future__ import annotations

from dataclasses import replace
from random import Random
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.simulated_requests import (
    CASES,
    MAX_MODEL_LEN,
    PAGE,
    Query,
    decode_of,
    simulations,
)
from vllm_diffusion.batch.view import view_batch
from vllm_diffusion.denoise.policies import POLICY_INDEX
from vllm_diffusion.family.rows import SDAR
from vllm_diffusion.mask_groups.block_causal import BlockCausal
from vllm_diffusion.mask_groups.causal_context import CausalContext
from vllm_diffusion.mask_groups.full import Full
from vllm_diffusion.mask_groups.spans import Phase, Progress

cases = pytest.mark.parametrize("name", CASES)
# A run is some twenty queries.
few = settings(max_examples=40)


@cases
@few
@given(data=st.data())
def test_a_query_starts_where_final_k_and_v_end(name: str, data: st.DataObject) -> None:
    """Checked at every query of the run; the run ends with what was asked for."""
    run = data.draw(simulations(CASES[name]))
    assert run.known == run.stop_at
    assert sum(query.emitted for query in run.queries) == run.stop_at - run.num_prompt


@cases
@few
@given(data=st.data())
def test_where_a_span_ends(name: str, data: st.DataObject) -> None:
    run = data.draw(simulations(CASES[name]))
    block = run.decode.block_length
    for query in run.steps():
        end, known = query.span.end, query.known
        if query.phase is Phase.SEED:
            assert (end, query.span.width) == (known + 1, 1)
        elif run.record.mask_group is BlockCausal:
            # At a block's border, which may be behind what the request may still emit.
            assert end % block == 0 and end - block <= known < end
        elif run.record.mask_group is CausalContext:
            assert end == min(known + block, MAX_MODEL_LEN)
        else:
            assert query.span.width == min(block, run.stop_at - known)
            # A guided query holds the sequence twice, the second time from a page's border on.
            second = -(-run.stop_at // PAGE) * PAGE if run.decode.guidance_scale else 0
            assert known + query.span.width <= end - second <= run.stop_at
            assert run.decode.kv_cache == "dual" or end - second == run.stop_at


@cases
@few
@given(data=st.data())
def test_seeds_come_first_and_once(name: str, data: st.DataObject) -> None:
    """A block that starts empty starts with its seed; after a restart it starts over."""
    run = data.draw(simulations(CASES[name]))
    is_seeded = False
    for number, query in enumerate(run.queries):
        if number in run.restarts:
            is_seeded = False
        if query.phase is None:
            continue
        needs_seed = run.record.has_seed and not is_seeded
        if run.record.mask_group is BlockCausal:
            needs_seed = needs_seed and query.known % run.decode.block_length == 0
        assert (query.phase is Phase.SEED) == needs_seed
        # A verification says itself what comes next.
        is_seeded = query.phase is Phase.VERIFY or not query.emitted
        if run.record.mask_group is BlockCausal and query.phase is Phase.DENOISE:
            is_seeded = needs_seed or (is_seeded and query.known % run.decode.block_length == 0)


@pytest.mark.parametrize("name", ["block_causal, seeds", "causal_context"])
def test_a_seed_step_that_fills_its_block_seeds_no_other(name: str) -> None:
    """Where a grammar leaves no choice for a whole block; what follows is as after a restart."""
    case = CASES[name]
    rule = case.record.mask_group(case.record, page=PAGE, max_model_len=MAX_MODEL_LEN)
    progress = Progress(decode_of(8, case), 16, MAX_MODEL_LEN)
    assert rule.phase(16, progress) is Phase.SEED
    start = rule.advance(16, 8, progress)
    # The seed step read [.., 16], so K and V are final up to the block that it filled.
    assert start == 16
    assert rule.phase(24, progress) is Phase.SEED
    assert rule.span(24, progress).end == 25
    assert rule.advance(24, 0, progress) == 24
    assert rule.phase(24, progress) is Phase.DENOISE


@few
@given(data=st.data())
def test_a_draft_is_verified_at_once(data: st.DataObject) -> None:
    run = data.draw(simulations(CASES["self_speculation"]))
    previous: Query | None = None
    for number, query in enumerate(run.queries):
        if number in run.restarts:
            previous = None
        if query.phase is None:
            # Only a request that starts over has anything else to compute.
            assert previous is None
            continue
        expected = {None: Phase.SEED, Phase.DRAFT: Phase.VERIFY}.get(
            previous and previous.phase, Phase.DRAFT
        )
        assert query.phase is expected
        if query.phase is Phase.VERIFY:
            # The same canvas, from its first position on: the seed is read causally.
            assert previous is not None
            assert (query.start, query.end) == (previous.start, previous.end)
            assert query.start == query.known
        previous = query


@pytest.mark.parametrize("name", [name for name in CASES if name.startswith("full")])
@few
@given(data=st.data())
def test_what_a_full_attention_step_computes(name: str, data: st.DataObject) -> None:
    """A block's first forward computes everything; the caches then leave out what they keep."""
    run = data.draw(simulations(CASES[name]))
    shift, kv_cache = int(run.record.logit_shift), run.decode.kv_cache
    is_warm = False
    for number, query in enumerate(run.queries):
        assert query.phase is Phase.DENOISE
        is_warm = is_warm and number not in run.restarts
        start = query.known - shift if is_warm and kv_cache != "exact" else 0
        end = run.stop_at
        if is_warm and kv_cache == "dual":
            end = query.known + query.span.width
        if run.decode.guidance_scale:
            end += -(-run.stop_at // PAGE) * PAGE
        assert (query.start, query.end) == (start, end)
        is_warm = query.emitted == 0


@cases
@few
@given(data=st.data())
def test_a_request_that_starts_over_remembers_nothing(name: str, data: st.DataObject) -> None:
    """Its next whole step is that of a new request with its known tokens as the prompt."""
    run = data.draw(simulations(CASES[name], may_preempt=False))
    for query in run.steps():
        fresh = Progress(run.decode, query.known, run.progress.last)
        worn = replace(fresh, is_seeded=True, is_drafted=True, is_warm=True)
        worn.restart()
        rule, known = run.rule, query.known
        assert rule.phase(known, worn) is rule.phase(known, fresh)
        assert rule.span(known, worn) == rule.span(known, fresh)


@cases
@few
@given(data=st.data())
def test_forwards_are_steps_and_seeds(name: str, data: st.DataObject) -> None:
    """With room for whole spans, nothing is computed for a prompt or a commit alone."""
    run = data.draw(simulations(CASES[name], may_preempt=False))
    if run.budget is None:
        assert run.steps() == run.queries
    if run.budget is None and CASES[name].record is SDAR:
        # The finished block rides along with the first step of the next one.
        block = run.decode.block_length
        for before, query in zip(run.queries, run.queries[1:], strict=False):
            assert query.end - query.start == (2 * block if before.emitted else block)


@cases
@few
@given(data=st.data())
def test_the_worker_sees_the_phase_that_the_scheduler_means(name: str, data: st.DataObject) -> None:
    """It is told only where queries start and end and how many positions get logits."""
    run = data.draw(simulations(CASES[name]))
    params = SimpleNamespace(
        block_length=SimpleNamespace(np=np.array([0, run.decode.block_length])),
        policy=SimpleNamespace(np=np.array([0, POLICY_INDEX[run.decode.policy]])),
    )
    is_drafted_S = np.zeros(2, dtype=np.bool_)
    for number, query in enumerate(run.queries):
        if number in run.restarts:
            is_drafted_S[1] = False
        width = query.span.width if query.phase is not None else 0
        batch = SimpleNamespace(
            num_reqs=1,
            idx_mapping_np=np.array([1]),
            num_computed_tokens_np=np.array([query.start]),
            query_start_loc_np=np.array([0, query.end - query.start]),
            cu_num_logits_np=np.array([0, width]),
        )
        view = view_batch(batch, params, run.record, is_drafted_S)
        assert (int(view.start_R[0]), int(view.end_R[0])) == (query.start, query.end)
        if run.record.mask_group is not Full and query.phase is not None:
            assert int(view.known_R[0]) == query.known
        is_last_position = query.known + 1 == MAX_MODEL_LEN
        for flags, phase in (
            (view.is_seed_R, Phase.SEED),
            (view.is_draft_R, Phase.DRAFT),
            (view.is_verify_R, Phase.VERIFY),
        ):
            if flags is None:
                assert query.phase is not phase
            elif not is_last_position:
                # There a seed is all of the canvas, and nothing follows it.
                assert bool(flags[0]) == (query.phase is phase)
        if view.is_draft_R is not None:
            is_drafted_S[1] = view.is_draft_R[0]


@cases
@few
@given(data=st.data())
def test_both_accounts_resume_by_one_rule(name: str, data: st.DataObject) -> None:
    """The worker's arrays and tensors of a batch say what the scheduler's numbers say."""
    case, rng = CASES[name], Random(data.draw(st.integers(0, 2**31)))
    group = case.record.mask_group(case.record, page=PAGE, max_model_len=MAX_MODEL_LEN)
    block = rng.choice([4, 8, 16])
    decode = decode_of(block, case)
    rows: list[tuple[int, int, bool]] = []
    starts: list[int] = []
    for _ in range(data.draw(st.integers(1, 6))):
        known, emitted = rng.randrange(1, 70), rng.randrange(0, block + 1)
        progress = Progress(
            decode,
            known,
            MAX_MODEL_LEN,
            is_seeded=rng.random() < 0.5,
            is_drafted=rng.random() < 0.5,
        )
        rows.append((known, emitted, group.phase(known, progress) is Phase.VERIFY))
        starts.append(group.advance(known, emitted, progress))
    known_B, emitted_B, is_verify_B = map(np.array, zip(*rows, strict=True))
    arguments = (known_B, np.full_like(known_B, block), emitted_B, is_verify_B)
    keeps_cache_B = np.full(len(rows), case.kv_cache != "exact")
    for make in (np.asarray, torch.from_numpy):
        known, blocks, emitted, is_verify = map(make, arguments)
        resumed = group.resume(
            known, blocks, emitted=emitted, is_verify=is_verify, keeps_cache=make(keeps_cache_B)
        )
        assert resumed.tolist() == starts
