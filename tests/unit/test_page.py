"""The page at ``/``: nothing from outside, nothing that could run a text, every element there."""

from __future__ import annotations

import base64
import hashlib
import re

import pytest

pytest.importorskip("fastapi", reason="the page is a route")

from vllm_diffusion.endpoints.page import FOLDER, SCRIPTS, page

TEXT, POLICY = page()
SCRIPT = "".join((FOLDER / name).read_text(encoding="utf-8") for name in SCRIPTS)


def hash_of(inline: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(inline.encode()).digest()).decode()


def test_the_policy_allows_what_is_there_and_nothing_else() -> None:
    (script,) = re.findall(r"<script[^>]*>(.*?)</script>", TEXT, re.DOTALL)
    (style,) = re.findall(r"<style>(.*?)</style>", TEXT, re.DOTALL)
    rules = dict(rule.split(" ", 1) for rule in POLICY.split("; "))
    assert rules["default-src"] == rules["base-uri"] == rules["frame-ancestors"] == "'none'"
    assert rules["script-src"] == f"'{hash_of(script)}'"
    assert rules["style-src"] == f"'{hash_of(style)}'"
    assert "unsafe" not in POLICY


def test_nothing_comes_from_outside() -> None:
    addresses = set(re.findall(r"https?://[^\s\"'`/]+", TEXT))
    assert addresses <= {"http://localhost:8001"}  # an example
    assert not re.search(r"<(link|img|iframe|object|embed)\b|@import|url\(", TEXT)
    assert not re.search(r"\son\w+\s*=|\sstyle\s*=", TEXT)


def test_text_is_only_ever_text() -> None:
    for name in (
        "innerHTML",
        "outerHTML",
        "insertAdjacentHTML",
        "document.write",
        "eval(",
        "srcdoc",
    ):
        assert name not in SCRIPT
    assert "new Function" not in SCRIPT


def test_keys_stay_in_memory() -> None:
    for name in ("localStorage", "sessionStorage", "document.cookie", "indexedDB"):
        assert name not in SCRIPT


def test_every_element_that_the_scripts_ask_for_is_there() -> None:
    asked = set(re.findall(r'byId\("([\w-]+)"\)', SCRIPT)) | {"copy-curl", "copy-python", "curl"}
    there = set(re.findall(r'\bid="([\w-]+)"', TEXT))
    assert asked <= there
    assert len(re.findall(r'\bid="', TEXT)) == len(there)


def test_controls_have_names() -> None:
    for tag in re.findall(r"<(?:input|select|textarea)\b[^>]*>", TEXT):
        position = TEXT.index(tag)
        opened = TEXT.rfind("<label", 0, position)
        assert opened > TEXT.rfind("</label>", 0, position), tag
