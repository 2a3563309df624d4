"""Spans: simulated requests, whose K and V are followed position by position.

The simulation plays scheduler and worker. It keeps a token budget, computes
what a span says, marks which K and V were read from final inputs alone, and
emits at random. It knows the mask groups by their definition, not by the rules.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from random import Random
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vllm_diffusion.denoise.policies import POLICY_INDEX
from vllm_diffusion.engine.spans import SPAN_RULES, Phase, Progress, Span
from vllm_diffusion.engine.view import view_batch
from vllm_diffusion.families import DREAM, FAST_DLLM_V2, LLADA, NEMOTRON_LABS, SDAR
from vllm_diffusion.family import FamilyRecord
from vllm_diffusion.params import DecodeParams

MAX_MODEL_LEN = 96


PAGE = 16


@dataclass(frozen=True)
class Case:
    """A mask group as some family has it."""

    record: FamilyRecord
    policy: str = "confidence"
    kv_cache: str = "exact"
    guidance_scale: float = 0.0


def decode_of(block_length: int, case: Case) -> DecodeParams:
    return DecodeParams(
        policy=case.policy,
        threshold=0.9,
        max_steps=block_length,
        block_length=block_length,
        sub_block_length=block_length,
        kv_cache=case.kv_cache,
        guidance_scale=case.guidance_scale,
    )


@dataclass
class Query:
    """A forward of one request, as the test remembers it."""

    phase: Phase | None
    """None where the canvas waited."""
    start: int
    end: int
    known: int
    span: Span
    emitted: int = 0


@dataclass
class Simulation:
    """One request, from its prompt to its last token."""

    record: FamilyRecord
    decode: DecodeParams
    num_prompt: int
    max_tokens: int
    chance: Random
    budget: int | None = None
    """Tokens of a step; none is no limit."""
    preempts: bool = False
    queries: list[Query] = field(default_factory=list)
    restarts: list[int] = field(default_factory=list)
    """Numbers of the queries before which the request lost its K and V."""

    def __post_init__(self) -> None:
        self.rule = SPAN_RULES[self.record.mask_group](self.record, PAGE)
        self.stop_at = min(self.num_prompt + self.max_tokens, MAX_MODEL_LEN)
        is_context = self.record.mask_group == "causal_context"
        last = MAX_MODEL_LEN if is_context else self.stop_at
        self.progress = Progress(self.decode, self.num_prompt, last)
        self.known = self.num_prompt
        self.start = 0
        self.is_final = [False] * (2 * MAX_MODEL_LEN)

    @property
    def first_not_final(self) -> int:
        return self.is_final.index(False)

    def run(self) -> Simulation:
        while self.known < self.stop_at:
            assert len(self.queries) < 3000, "the request makes no progress"
            if self.preempts and self.chance.random() < 0.1:
                self.restart()
            self.query()
        return self

    def restart(self) -> None:
        self.restarts.append(len(self.queries))
        self.progress.restart()
        self.start = 0
        # Whole pages of final K and V may be found again; the last known token is computed.
        if self.record.mask_group != "full":
            grain = self.decode.block_length if self.record.mask_group == "block_causal" else 1
            pages = min(self.first_not_final, self.known - 1) // grain
            self.start = self.chance.randint(0, pages) * grain
        self.is_final[self.start :] = [False] * (len(self.is_final) - self.start)

    def query(self) -> None:
        span = self.rule.span(self.known, self.progress)
        phase: Phase | None = self.rule.phase(self.known, self.progress)
        end = span.end
        budget = span.end - self.start
        if self.budget is not None:
            budget = self.chance.randint(0, self.budget)
        if end - self.start > budget:
            # As much of the known tokens as fits, or nothing.
            pieces = min(budget, span.whole_until - self.start) // span.grain
            if pieces <= 0:
                # The next step has room for everything.
                self.budget = max(self.budget or 0, 3 * MAX_MODEL_LEN)
                return
            end, phase = self.start + pieces * span.grain, None
        query = Query(phase, self.start, end, self.known, span)
        self.queries.append(query)
        self.check(query)
        if phase is None:
            self.compute(query)
            self.start = end
            return
        query.emitted = self.emission(query)
        self.compute(query)
        self.start = self.rule.advance(self.known, query.emitted, self.progress)
        self.known += query.emitted

    def emission(self, query: Query) -> int:
        room = self.stop_at - self.known
        if query.phase is Phase.VERIFY:
            return min(self.chance.randint(1, query.span.width), room)
        if query.phase is Phase.DENOISE and self.chance.random() < 0.4:
            return min(query.span.width, room)
        return 0

    def compute(self, query: Query) -> None:
        """Mark what has been computed from final inputs alone."""
        end = query.end
        if self.record.mask_group == "full":
            return
        if self.record.mask_group == "block_causal":
            # Blocks see all of themselves, so a block is final if it was known as a whole.
            final_until = min(query.known, end) // self.decode.block_length
            final_until *= self.decode.block_length
        else:
            # A causal forward, or one of the prompt.
            is_causal = query.phase in (None, Phase.SEED, Phase.VERIFY)
            final_until = min(query.known, end) if is_causal else 0
            if query.phase is Phase.VERIFY:
                # What is emitted is what this forward has read.
                final_until = query.known + query.emitted
        for position in range(query.start, final_until):
            self.is_final[position] = True
        for position in range(max(query.start, final_until), end):
            self.is_final[position] = False

    def check(self, query: Query) -> None:
        """What holds for every query, whatever the group."""
        assert 0 <= query.start < query.end
        assert query.span.width >= 1
        if self.record.mask_group != "full":
            # Nothing is read that is not final, and nothing final is computed again.
            assert query.start == self.first_not_final
        if query.phase is None:
            assert query.end <= min(query.span.whole_until, query.known)
            assert query.end % query.span.grain == 0
            return
        # The canvas is behind the known tokens and inside of the query.
        assert query.start <= query.known - (query.phase is Phase.SEED)
        assert query.known + query.span.width <= query.end
        if self.record.mask_group != "full":
            assert query.end == query.known + query.span.width

    def steps(self) -> list[Query]:
        """The queries that had a canvas."""
        return [query for query in self.queries if query.phase is not None]


CASES = {
    "block_causal": Case(SDAR),
    "block_causal, seeds": Case(FAST_DLLM_V2),
    "causal_context": Case(NEMOTRON_LABS),
    "self_speculation": Case(NEMOTRON_LABS, "self_speculation"),
    "full": Case(LLADA),
    "full, shifted": Case(DREAM),
    "full, prefix": Case(LLADA, kv_cache="prefix"),
    "full, dual": Case(LLADA, kv_cache="dual"),
    "full, guided": Case(LLADA, guidance_scale=0.5),
    "full, shifted, prefix": Case(DREAM, kv_cache="prefix"),
    "full, shifted, dual": Case(DREAM, kv_cache="dual"),
}


@st.composite
def simulations(draw: st.DrawFn, case: Case, *, may_preempt: bool = True) -> Simulation:
    """A finished run of a random request."""
    block_length = draw(st.sampled_from([4, 8, 16]))
    return Simulation(
        case.record,
        decode_of(block_length, case),
        num_prompt=draw(st.integers(1, 40)),
        max_tokens=draw(st.integers(1, 70)),
        chance=Random(draw(st.integers(0, 2**31))),
        # Room for two blocks and a prompt's chunk, or for all.
        budget=draw(st.sampled_from([None, 3 * block_length, 40])),
        preempts=may_preempt and draw(st.booleans()),
    ).run()


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
        elif run.record.mask_group == "block_causal":
            # At a block's border, which may be behind what the request may still emit.
            assert end % block == 0 and end - block <= known < end
        elif run.record.mask_group == "causal_context":
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
        if run.record.mask_group == "block_causal":
            needs_seed = needs_seed and query.known % run.decode.block_length == 0
        assert (query.phase is Phase.SEED) == needs_seed
        # A verification says itself what comes next.
        is_seeded = query.phase is Phase.VERIFY or not query.emitted
        if run.record.mask_group == "block_causal" and query.phase is Phase.DENOISE:
            is_seeded = needs_seed or (is_seeded and query.known % run.decode.block_length == 0)


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
        if run.record.mask_group != "full" and query.phase is not None:
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
