"""What ``/v1/models`` says of a model."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("fastapi", reason="the routes are FastAPI's")

from fastapi import HTTPException

from vllm_diffusion.endpoints import models

CARD = {"id": "m", "object": "model", "created": 1, "max_model_len": 64}


def request(*paths: str, is_served: bool = True) -> Any:
    async def show() -> Any:
        return SimpleNamespace(
            model_dump=lambda: {"object": "list", "data": [CARD, CARD | {"id": "org/other"}]}
        )

    state = SimpleNamespace(
        diffusion_is_served=is_served,
        openai_serving_models=SimpleNamespace(show_available_models=show),
        openai_serving_chat=SimpleNamespace(enable_auto_tools=True),
    )
    routes = [SimpleNamespace(path=path) for path in paths]
    return SimpleNamespace(app=SimpleNamespace(state=state, routes=routes))


def test_a_card_has_both_vocabularies() -> None:
    asked = request("/v1/chat/completions", "/v1/completions", "/v1/systemone")
    card = asyncio.run(models.retrieve_model("org/other", asked))
    assert card["id"] == card["name"] == "org/other"
    assert card["context_length"] == card["max_output_length"] == card["max_model_len"] == 64
    # vLLM's own route for decisions answers models of its own alone.
    assert card["supported_endpoints"] == ["chat.completions", "completions"]
    assert "tools" in card["supported_features"] and "reasoning" not in card["supported_features"]
    assert {"temperature", "stop", "seed"} <= set(card["supported_sampling_parameters"])


def test_names_of_fields_are_those_of_the_records() -> None:
    assert set(models.SAMPLING) <= models.RECORDS["chat"].keys()


def test_an_endpoint_that_is_not_there_has_no_models() -> None:
    asked = request("/v1/chat/completions")
    assert asyncio.run(models.list_models_of("fim", asked))["data"] == []
    assert len(asyncio.run(models.list_models_of("chat", asked))["data"]) == 2


@pytest.mark.parametrize("kind", ["text", ""])
def test_other_paths_are_unknown(kind: str) -> None:
    with pytest.raises(HTTPException) as caught:
        asyncio.run(models.list_models_of(kind, request()))
    assert caught.value.status_code == 404


def test_a_name_that_is_not_served_is_a_404() -> None:
    with pytest.raises(HTTPException, match="The model `x` does not exist"):
        asyncio.run(models.retrieve_model("x", request()))


def test_other_models_are_listed_as_by_vllm() -> None:
    listed = asyncio.run(models.list_models(request(is_served=False)))
    assert listed["data"][0] == CARD
