"""The page at ``/`` as a server sends it, and in a browser where one is installed."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.server.client import Client
from tests.server.conftest import healthy
from tests.server.process import ServerProcess

CHROMIUM = shutil.which("chromium")
FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update"),
)


@pytest.fixture
def client(bundled_server: ServerProcess) -> Iterator[Client]:
    yield from healthy(bundled_server)


def test_the_page_and_its_policy(client: Client) -> None:
    response = httpx.get(client.url + "/")
    assert response.status_code == 200
    assert response.headers["content-type"].startswith("text/html")
    assert "default-src 'none'" in response.headers["content-security-policy"]
    assert 'role="tablist"' in response.text
    assert "/" not in httpx.get(client.url + "/openapi.json").json()["paths"]


@pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine")
def test_a_browser_shows_what_is_served(client: Client, tmp_path: Path) -> None:
    """The scripts run under the policy: tabs are made, and the model's name is asked for."""
    run = subprocess.run(
        [
            str(CHROMIUM),
            *FLAGS,
            f"--user-data-dir={tmp_path}",
            *("--virtual-time-budget=5000", "--dump-dom", f"{client.url}/#structured"),
        ],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert run.returncode == 0, run.stderr
    for name in ("Chat", "Race", "Infill", "Structured", "Edit"):
        assert f">{name}</button>" in run.stdout
    assert json.dumps(client.model).strip('"') in run.stdout
    assert "context of 1024 tokens" in run.stdout
