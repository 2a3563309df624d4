"""The Monte-Carlo bound's draws, pieces and sums; the engine's side is ``test_label_reads``."""

from __future__ import annotations

from collections import Counter
from itertools import combinations, pairwise
from math import comb
from typing import Any

import pytest

from vllm_diffusion.family.rows import FAMILIES
from vllm_diffusion.request.field_errors import InvalidFieldError
from vllm_diffusion.request.plan import DecodePlan, make_plan
from vllm_diffusion.server.likelihood_bound import (
    Heard,
    Piece,
    by_token,
    masks_of,
    most_masks,
    num_windows,
    pieces_of,
    shares_of,
    windows_of,
)
from vllm_diffusion.server.likelihood_fields import Asked, default_of

TEXT = list(range(40, 62))


def plan_of(architecture: str, block: int = 8) -> DecodePlan:
    return make_plan(
        FAMILIES[architecture],
        mask_id=3,
        block_length=block,
        vocab_size=100,
        generation={},
        options={},
    )


BLOCKS, FULL = plan_of("SDARForCausalLM"), plan_of("LLaDAModelLM")


@pytest.mark.parametrize(("length", "samples"), [(1, 5), (2, 7), (9, 9), (9, 32), (33, 4)])
def test_counts_are_spread_evenly(length: int, samples: int) -> None:
    masks = masks_of(length, samples, 11)
    assert len(masks) <= most_masks(length, samples)
    assert all(mask == tuple(sorted(set(mask))) and mask[-1] < length for mask in masks)
    # A mask's weight is L / l for each time it was drawn.
    times = Counter({m: round(w * samples * len(m) / length) for m, w in masks.items()})
    assert times.total() == samples
    by_count: Counter[int] = Counter()
    for mask, number in times.items():
        by_count[len(mask)] += number
    counts = [by_count[count] for count in range(1, length + 1)]
    assert max(counts) - min(counts) <= 1


def test_which_tokens_are_masked_is_even() -> None:
    """Every mask of a length comes as often as another of its size."""
    drawn: Counter[tuple[int, ...]] = Counter()
    seeds = 3000
    for seed in range(seeds):
        for mask, weight in masks_of(4, 4, seed).items():
            drawn[mask] += round(weight * len(mask))
    for count in range(1, 5):
        expected = seeds / comb(4, count)
        for mask in combinations(range(4), count):
            assert drawn[mask] == pytest.approx(expected, rel=0.12)


def test_draws_are_a_function_of_the_seed() -> None:
    assert masks_of(20, 8, 5) == masks_of(20, 8, 5)
    assert masks_of(20, 8, 5) != masks_of(20, 8, 6)
    assert masks_of(20, 8, -1) == masks_of(20, 8, 2**32 - 1)


def test_pieces_are_those_of_blocks_or_the_text() -> None:
    assert pieces_of(22, 5, BLOCKS) == [Piece(5, 8), Piece(8, 16), Piece(16, 22)]
    assert pieces_of(22, 5, FULL) == [Piece(5, 22)]
    assert pieces_of(22, 22, FULL) == []
    assert pieces_of(4, None, FULL) == [Piece(1, 4), Piece(2, 4), Piece(3, 4)]
    assert pieces_of(10, None, BLOCKS)[6:] == [Piece(7, 8), Piece(8, 10), Piece(9, 10)]


@pytest.mark.parametrize("plan", [BLOCKS, FULL], ids=["block-causal", "full attention"])
def test_windows_read_each_masked_position_once(plan: DecodePlan) -> None:
    piece = pieces_of(len(TEXT), 8, plan)[0]
    windows = list(windows_of(TEXT, piece, 6, 1, plan))
    assert 0 < len(windows) <= num_windows(piece, 6, plan)
    for mask in masks_of(piece.length, 6, 1):
        read = [at for window in windows if window.mask == mask for at in window.asked]
        assert read == [piece.start + offset for offset in mask]
    assert all(0 <= at - window.first < 8 for window in windows for at in window.asked)


def test_sums_from_every_cut_are_its_bound() -> None:
    """One request for all cuts says what a request for each of them says."""

    def heard(window: Any) -> list[Heard]:
        # Any function of what is shown: it depends on the mask, so that orders differ.
        return [Heard(-1.0 - at * len(window.mask) / 7, 99, -0.5) for at in window.asked]

    def told(cut: int | None, plan: DecodePlan) -> list[Any]:
        pieces = pieces_of(len(TEXT), cut, plan)
        windows = [w for piece in pieces for w in windows_of(TEXT, piece, 5, 2, plan)]
        return by_token(len(TEXT), cut, shares_of(TEXT, windows, [heard(w) for w in windows]))

    for plan in (BLOCKS, FULL):
        every = told(None, plan)
        assert every[0] is None
        for cut in range(1, len(TEXT)):
            one = told(cut, plan)
            assert one[:cut] == [None] * cut
            total = sum(share.log for share in one[cut:])
            assert sum(share.log for share in every[cut:]) == pytest.approx(total, rel=1e-9)
            assert all(share.top_log >= share.log for share in one[cut:])


def test_what_is_preferred_is_told() -> None:
    """No alternative where every read's most probable token is the text's own."""
    piece = Piece(1, 3)
    windows = list(windows_of(TEXT[:3], piece, 4, 0, FULL))
    sure = [[Heard(-0.25, TEXT[at], -0.25) for at in window.asked] for window in windows]
    for share in shares_of(TEXT[:3], windows, sure)[piece].values():
        assert share.top_log == share.log
    unsure = [[each._replace(top=7, top_log=0.0) for each in row] for row in sure]
    for share in shares_of(TEXT[:3], windows, unsure)[piece].values():
        assert share.top == 7
        assert share.top_log > share.log


def test_a_server_names_an_estimate_that_its_model_has() -> None:
    assert default_of({}, FULL) is None
    assert default_of({"likelihood": "chain"}, FULL) == Asked("chain")
    said = {"likelihood": "mc", "likelihood_samples": 64}
    assert default_of(said, BLOCKS) == Asked("mc", 64)
    seeded = plan_of("Fast_dLLM_QwenForCausalLM", 32)
    exact = plan_of("NemotronLabsDiffusionModel", 32)
    for config, plan in (
        ({"likelihood": "exact"}, FULL),
        ({"likelihood": "mc", "likelihood_samples": 0}, FULL),
        ({"likelihood_samples": 8}, FULL),
        ({"likelihood": "mc"}, seeded),
        ({"likelihood": "mc"}, exact),
    ):
        with pytest.raises(InvalidFieldError, match=r"additional_config\.likelihood"):
            default_of(config, plan)


def test_pieces_follow_each_other() -> None:
    for cut in range(1, 22):
        pieces = pieces_of(22, cut, BLOCKS)
        assert pieces[0].start == cut
        assert pieces[-1].end == 22
        assert all(one.end == other.start for one, other in pairwise(pieces))
