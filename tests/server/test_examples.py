"""The offline example runs as it stands; the chat client is in ``test_bundled_model.py``."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

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
