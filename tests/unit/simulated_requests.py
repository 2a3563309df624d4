"""Simulated requests, whose K and V are followed position by position.

The simulation plays scheduler and worker. It keeps a token budget, computes
what a span says, marks which K and V were read from final inputs alone, and
emits at random. It knows the mask groups by their definition, not by the rules.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from random import Random

from hypothesis import strategies as st

from vllm_diffusion.family.record import FamilyRecord
from vllm_diffusion.family.rows import DREAM, FAST_DLLM_V2, LLADA, NEMOTRON_LABS, SDAR
from vllm_diffusion.mask_groups.block_causal import BlockCausal
from vllm_diffusion.mask_groups.full import Full
from vllm_diffusion.mask_groups.spans import Phase, Progress, Span
from vllm_diffusion.request.params import DecodeParams

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
        self.rule = self.record.mask_group(self.record, page=PAGE, max_model_len=MAX_MODEL_LEN)
        self.stop_at = min(self.num_prompt + self.max_tokens, MAX_MODEL_LEN)
        last = self.rule.canvas_end(self.stop_at)
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
        if self.record.mask_group is not Full:
            grain = self.decode.block_length if self.record.mask_group is BlockCausal else 1
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
        # A grammar that leaves no choice fills a whole canvas before the model is asked. Policies
        # that draft take no grammars.
        fills = query.phase is Phase.SEED and self.decode.policy != "self_speculation"
        if fills and self.chance.random() < 0.3:
            return min(self.decode.block_length, room)
        return 0

    def compute(self, query: Query) -> None:
        """Mark what has been computed from final inputs alone."""
        end = query.end
        if self.record.mask_group is Full:
            return
        if self.record.mask_group is BlockCausal:
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
        if self.record.mask_group is not Full:
            # Nothing is read that is not final, and nothing final is computed again.
            assert query.start == self.first_not_final
        if query.phase is None:
            assert query.end <= min(query.span.whole_until, query.known)
            assert query.end % query.span.grain == 0
            return
        # The canvas is behind the known tokens and inside of the query.
        assert query.start <= query.known - (query.phase is Phase.SEED)
        assert query.known + query.span.width <= query.end
        if self.record.mask_group is not Full:
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
