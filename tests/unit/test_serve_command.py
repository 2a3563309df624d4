"""``vllm-diffusion serve``: which plugins are loaded, and who may ask its routes."""

from __future__ import annotations

import asyncio
from argparse import Namespace
from importlib.metadata import EntryPoint
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("fastapi", reason="the routes are FastAPI's")

from fastapi import HTTPException

from vllm_diffusion.endpoints.access import allow, keys_of
from vllm_diffusion.endpoints.command import OURS, plugins

INSTALLED = [
    EntryPoint("diffusion", "x:y", "vllm.general_plugins"),
    EntryPoint("other", "x:y", "vllm.general_plugins"),
    EntryPoint("board", "x:y", "vllm.platform_plugins"),
    EntryPoint("diffusion_endpoints", "x:y", "vllm.endpoint_plugins"),
    EntryPoint("strange_routes", "x:y", "vllm.endpoint_plugins"),
    EntryPoint("unrelated", "x:y", "console_scripts"),
]


@pytest.mark.parametrize(
    ("named", "loaded"),
    [
        # Whatever vLLM loads by itself stays, and nobody else's routes come.
        (None, "diffusion,other,board,diffusion_endpoints"),
        ("other", "other,diffusion,diffusion_endpoints"),
        ("strange_routes,other", "strange_routes,other,diffusion,diffusion_endpoints"),
        ("", ",".join(OURS)),
        ("diffusion_endpoints,diffusion", "diffusion_endpoints,diffusion"),
    ],
)
def test_plugins_are_added_and_none_is_lost(named: str | None, loaded: str) -> None:
    assert plugins(named, INSTALLED) == loaded


def ask(authorization: str | None, keys: tuple[bytes, ...], *, is_served: bool = True) -> int:
    state = SimpleNamespace(diffusion_is_served=is_served, diffusion_keys=keys)
    headers = {} if authorization is None else {"authorization": authorization}
    request: Any = SimpleNamespace(
        app=SimpleNamespace(state=state), headers=headers, url=SimpleNamespace(path="/infill")
    )
    try:
        asyncio.run(allow(request))
    except HTTPException as error:
        return error.status_code
    return 200


@pytest.mark.parametrize(
    ("authorization", "status"),
    [
        (None, 401),
        ("", 401),
        ("Bearer wrong", 401),
        ("secret", 401),
        ("Basic secret", 401),
        ("Bearer s\u00e9cret", 401),
        ("Bearer secret", 200),
        ("bearer second", 200),
    ],
)
def test_a_key_is_asked_for(authorization: str | None, status: int) -> None:
    assert ask(authorization, (b"secret", b"second")) == status


def test_without_keys_everybody_may_ask() -> None:
    assert ask(None, ()) == 200


def test_other_models_have_no_such_route() -> None:
    assert ask("Bearer secret", (b"secret",), is_served=False) == 404


def test_keys_come_from_the_command_line_or_the_environment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("VLLM_API_KEY", "env")
    assert keys_of(Namespace(api_key=["a", "b"])) == (b"a", b"b")
    assert keys_of(Namespace(api_key=None)) == (b"env",)
    monkeypatch.delenv("VLLM_API_KEY")
    assert keys_of(Namespace(api_key=None)) == ()
