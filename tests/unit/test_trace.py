"""A trace as a page and as a picture, and how it is put together from frames."""

from __future__ import annotations

import json
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("vllm", reason="a trace is recorded from vLLM")

from PIL import Image

from vllm_diffusion.frames import Frame
from vllm_diffusion.trace.page import page
from vllm_diffusion.trace.record import Piece, Trace, _steps, trace

HOSTILE = '</script><img src=x onerror="alert(1)">\u2028\n<!--'


def frame(block: int, step: int, start: int, *states: int, is_final: bool = False) -> Frame:
    tokens = [100 * block + 10 * step + i for i in range(len(states))]
    rest: Any = [tokens, [1] * len(tokens), list(states), [0.5] * len(tokens), [0.2] * len(tokens)]
    return Frame.unpack([block, step, start, is_final, rest])


def tokenizer() -> Any:
    return SimpleNamespace(decode=lambda tokens: f"<{tokens[0]}>")


def texts(steps: list[list[Piece]]) -> list[str]:
    return ["".join(piece.text for piece in step) for step in steps]


def test_steps_stand_behind_what_was_emitted() -> None:
    frames = [
        frame(0, 0, 0, 1, 0),
        frame(0, 1, 0, 2, 1, is_final=True),
        frame(1, 0, 2, 4, 0, 0),
        frame(1, 1, 2, 2, 1, 1, is_final=True),
    ]
    steps = _steps(frames, tokenizer())
    assert texts(steps) == [
        "<0><1>",
        "<10><11>",
        "<10><11><100><101><102>",
        "<10><11><110><111><112>",
    ]
    assert [piece.state for piece in steps[2]] == ["emitted"] * 2 + ["given", "masked", "masked"]


def test_a_block_that_starts_over_is_shown_again() -> None:
    frames = [frame(0, 0, 0, 1, is_final=True), frame(1, 0, 1, 0), frame(1, 0, 1, 1)]
    assert texts(_steps(frames, tokenizer())) == ["<0>", "<0><100>", "<0><100>"]


def made(*texts_of: str) -> Trace:
    states = ("masked", "accepted", "edited", "given", "emitted")
    steps = [
        [Piece(text, states[i % 5], 0.5, "else", 0.25) for i, text in enumerate(texts_of)]
        for _ in range(3)
    ]
    return Trace(steps, "".join(texts_of), None)  # type: ignore[arg-type]


def test_a_page_holds_text_as_data_alone() -> None:
    written = page(made("a", HOSTILE))
    assert written.count("<script>") == written.count("</script>") == 1
    assert "<img" not in written and "<!--" not in written
    data = json.loads(re.search(r"const trace = (.*);\n", written)[1])  # type: ignore[index]
    assert data["text"] == "a" + HOSTILE
    assert data["steps"][0][1] == [HOSTILE, "accepted", 0.5, "else", 0.25]
    assert "default-src 'none'" in written and "http" not in written.replace("http-equiv", "")


def test_a_picture_has_a_frame_a_step(tmp_path: Path) -> None:
    recorded = made("def", " lemon", "(cup)", ":\n    return", " " + "x" * 200, HOSTILE)
    for name in ("a.gif", "a.png"):
        recorded.save(tmp_path / name)
        with Image.open(tmp_path / name) as picture:
            assert picture.width == 760 and picture.height > 100
    with pytest.raises(ValueError, match=r"a\.mp4"):
        recorded.save(tmp_path / "a.mp4")


def test_other_models_are_refused() -> None:
    with pytest.raises(ValueError, match="no diffusion model"):
        trace(SimpleNamespace(model_config=SimpleNamespace()), "a")  # type: ignore[arg-type]


def test_one_text_is_recorded() -> None:
    llm: Any = SimpleNamespace(model_config=SimpleNamespace(diffusion_plan=1))
    with pytest.raises(ValueError, match="n=3"):
        trace(llm, "a", SimpleNamespace(n=3))  # type: ignore[arg-type]
