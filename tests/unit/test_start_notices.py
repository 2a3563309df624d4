"""What is turned off or served otherwise says so in one line, and the docs list all of it."""

from __future__ import annotations

import logging
import multiprocessing
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("vllm", reason="the options are vLLM's")

from vllm.config import VllmConfig
from vllm.engine.arg_utils import EngineArgs

from tests.checkpoints import llada, sdar
from vllm_diffusion import plugin
from vllm_diffusion.startup import notices
from vllm_diffusion.startup.notices import NOTICES, Notice

PAGE = Path(__file__).resolve().parents[2] / "docs" / "parallelism.md"
CONNECTOR = {"kv_connector": "ExampleConnector", "kv_role": "kv_both"}
BROUGHT_ABOUT: dict[Notice, tuple[str, dict[str, Any]]] = {
    notices.ASYNC_SCHEDULING: ("blocks", {"async_scheduling": True}),
    notices.PREFIX_CACHING: ("full", {}),
    notices.PAGES: ("blocks", {"diffusion_config": {"canvas_length": 24}}),
    notices.CONTEXT: ("blocks", {"max_model_len": 510}),
    notices.BUDGET: ("full", {"max_num_batched_tokens": 256}),
    notices.BACKEND: ("blocks", {"structured_outputs_config": {"backend": "xgrammar"}}),
    notices.BLOCK_LENGTH: (
        "blocks",
        {"kv_transfer_config": CONNECTOR, "enable_chunked_prefill": False},
    ),
    notices.RAY: (
        "blocks",
        {"distributed_executor_backend": "ray", "tensor_parallel_size": 2},
    ),
}
"""By a model and options."""
Start = Callable[..., VllmConfig]


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Start:
    plugin.register()
    made = tmp_path_factory.mktemp("notices")
    folders = {
        "blocks": sdar.write(made / "blocks", block_size=4),
        "full": llada.write(made / "full"),
    }

    def config(model: str, **args: Any) -> VllmConfig:
        settings: dict[str, Any] = {"max_model_len": 512, "skip_tokenizer_init": True}
        return EngineArgs(model=str(folders[model]), **settings | args).create_engine_config()

    return config


def test_every_one_is_brought_about() -> None:
    assert set(BROUGHT_ABOUT) == set(NOTICES)


@pytest.mark.parametrize("notice", NOTICES, ids=lambda each: each.flag)
def test_one_line_of_the_log(notice: Notice, start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    lines: list[str] = []
    monkeypatch.setattr(
        notices.logger, "log", lambda level, text, *values: lines.append(text % values)
    )
    model, options = BROUGHT_ABOUT[notice]
    start(model, **options)
    told = [line for line in lines if line.startswith(f"{notice.flag} ")]
    assert len(told) == 1
    # What the model needs is said beside it, each once.
    assert len(lines) == len({line.split()[0] for line in lines})


def test_an_ordinary_start_turns_nothing_off(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    lines: list[Any] = []
    monkeypatch.setattr(notices.logger, "log", lambda *args: lines.append(args))
    start("blocks")
    assert not lines


@pytest.mark.parametrize(("name", "is_said"), [("MainProcess", True), ("ApiServer_1", False)])
def test_several_front_ends_say_it_once(
    name: str, is_said: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their parent has read the options, and said it."""
    lines: list[Any] = []
    monkeypatch.setattr(notices.logger, "log", lambda *args: lines.append(args))
    monkeypatch.setattr(multiprocessing.current_process(), "name", name)
    notices.say(notices.PREFIX_CACHING)
    assert bool(lines) == is_said
    if is_said:
        assert lines[0][0] == logging.INFO


def test_the_docs_list_them() -> None:
    section = PAGE.read_text(encoding="utf-8").partition("## Options that are served otherwise\n")
    rows = re.findall(
        r"^\| `(--[^`]+)` \| (.+?) \| (.+?) \|$", section[2].partition("\n## ")[0], re.M
    )
    assert {(flag, when) for flag, when, _ in rows} == {(each.flag, each.when) for each in NOTICES}
    assert len(rows) == len(NOTICES)
