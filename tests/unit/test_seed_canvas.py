"""Keys of seed canvases: what they are read as, and what vLLM's own fields become by them."""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.test_parsed import model_of, params_of, plan_of
from vllm_diffusion.family.rows import LLADA, SDAR
from vllm_diffusion.request.params import InvalidFieldError
from vllm_diffusion.request.parsed import parse, received
from vllm_diffusion.request.seed_canvas import SeedCanvas


def read(**fields: Any) -> SeedCanvas | None:
    return parse({f"diffusion_{name}": value for name, value in fields.items()}, plan_of()).seed


def test_positions_are_put_in_order_and_holes_are_told_from_drafts() -> None:
    seed = read(seed_canvas=[7, 3, 8, 9], pinned=[2, 0, 2])
    assert seed == SeedCanvas(tokens=(7, 3, 8, 9), pinned=(0, 2))
    assert seed.has_drafts(3)
    assert not SeedCanvas(tokens=(7, 3, 8), pinned=(0, 2)).has_drafts(3)


@pytest.mark.parametrize("fields", [{}, {"seed_canvas": [], "pinned": []}, {"read_only": 0},
                                    {"seed_canvas": None, "constrained": None}])  # fmt: skip
def test_nothing_is_laid(fields: dict[str, Any]) -> None:
    assert read(**fields) is None


@pytest.mark.parametrize("value", [True, 1])
def test_flags_are_what_servers_make_of_them(value: Any) -> None:
    assert read(read_only=value) == SeedCanvas(read_only=True)
    assert read(constrained=value) == SeedCanvas(constrained=True)


def test_a_canvas_length_is_a_block_length() -> None:
    plan = plan_of(LLADA)
    assert parse({"diffusion_canvas_length": 5}, plan).decode.block_length == 5
    said = {"diffusion_canvas_length": 8, "diffusion_block_length": 8}
    assert parse(said, plan_of(SDAR)).decode.block_length == 8


@pytest.mark.parametrize("name", ["read_only", "constrained"])
def test_what_the_front_end_reads_is_refused_without_it(name: str) -> None:
    with pytest.raises(InvalidFieldError, match=f"^diffusion_{name}=True .*has not passed"):
        received(params_of({f"diffusion_{name}": True}), plan_of())


def test_vllms_own_fields_follow_and_its_own_check_does_not_see_the_keys() -> None:
    vllm = pytest.importorskip("vllm", reason="requests are vLLM's")
    from vllm_diffusion.server import validation

    model = model_of()
    model.get_vocab_size = lambda: 512

    def taken(extra: dict[str, Any], **said: Any) -> Any:
        params = vllm.SamplingParams(
            extra_args={f"diffusion_{name}": value for name, value in extra.items()}, **said
        )
        return validation.take(params, model)

    whole = taken({"seed_canvas": [7] * 40, "read_only": 1}, max_tokens=60)
    assert (whole.max_tokens, whole.ignore_eos) == (40, True)
    assert list(whole.extra_args) == ["_diffusion"]
    assert taken({"read_only": 1}, max_tokens=60).max_tokens == 32
    assert taken({"read_only": 1, "canvas_length": 8}, max_tokens=60).max_tokens == 8
    assert taken({"read_only": 1}, max_tokens=5).max_tokens == 5
    closed = taken({"constrained": 1}, logprob_token_ids=[5, 6])
    assert closed.allowed_token_ids == [5, 6]
    free = taken({"seed_canvas": [7]}, max_tokens=60)
    assert (free.max_tokens, free.ignore_eos, free.allowed_token_ids) == (60, False, None)
