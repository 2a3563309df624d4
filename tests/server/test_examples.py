"""The offline example runs as it stands; the chat client is in ``test_bundled_model.py``."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from tests.server.process import environment

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


@pytest.mark.slow
def test_offline() -> None:
    run = subprocess.run(
        [sys.executable, str(EXAMPLES / "offline.py"), "--threshold", "0.9"],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert run.returncode == 0, run.stderr
    assert len(re.findall(r"^> ", run.stdout, re.MULTILINE)) == 4
    assert len(re.findall(r"blocks by steps: \{\d", run.stdout)) == 4
    total = re.search(r"^\d+ tokens in [\d.]+ s, ([\d.]+) a forward", run.stdout, re.MULTILINE)
    assert total
    assert float(total[1]) > 1, "fewer forwards than tokens, or the weights are not trained"


@pytest.mark.slow
def test_watch(tmp_path: Path) -> None:
    """The last step is the text, and there is a step for each forward of a canvas."""
    run = subprocess.run(
        [sys.executable, str(EXAMPLES / "watch.py"), "--out", str(tmp_path)],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert run.returncode == 0, run.stderr
    assert '        raise ValueError("star")\n' in run.stdout
    said = r"^(\d+) steps for (\d+) tokens: watch.html, watch.gif$"
    match = re.search(said, run.stdout, re.MULTILINE)
    assert match and 0 < int(match[1]) < int(match[2])
    page = (tmp_path / "watch.html").read_text(encoding="utf-8")
    data = json.loads(re.search(r"const trace = (.*);\n", page)[1])  # type: ignore[index]
    assert len(data["steps"]) == int(match[1])
    assert "".join(piece[0] for piece in data["steps"][-1]).startswith(data["text"])
    with Image.open(tmp_path / "watch.gif") as picture:
        assert picture.n_frames == int(match[1])  # type: ignore[attr-defined]
