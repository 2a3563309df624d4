"""The page at ``/``: one response, made of these files.

- ``page.html``, ``page.css``: what there is, and how it looks
- ``talk.js``: talking to the server; ``canvas.js``: a text that comes about; ``boxes.js``: what a
  reader can do

Nothing comes from outside: a policy in the header allows these very scripts and styles by their
hashes, and no other. Text that the model or a client has written is only ever set as text.
"""

from __future__ import annotations

import base64
import hashlib
from functools import lru_cache
from pathlib import Path
from typing import Any

from fastapi import APIRouter, HTTPException, Request
from fastapi.responses import HTMLResponse

router = APIRouter()
FOLDER = Path(__file__).parent
SCRIPTS = ("talk.js", "canvas.js", "boxes.js")
TWINS = "http://localhost:* http://127.0.0.1:*"
"""Where a race may find an autoregressive twin."""


def _hash(text: str) -> str:
    return "'sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() + "'"


@lru_cache(maxsize=1)
def page() -> tuple[str, str]:
    """The page, and the policy that it is sent with."""
    style = (FOLDER / "page.css").read_text(encoding="utf-8")
    script = "".join((FOLDER / name).read_text(encoding="utf-8") for name in SCRIPTS)
    text = (FOLDER / "page.html").read_text(encoding="utf-8")
    text = text.replace("/*STYLE*/", style).replace("/*SCRIPT*/", script)
    policy = (
        f"default-src 'none'; script-src {_hash(script)}; style-src {_hash(style)}; "
        f"connect-src 'self' {TWINS}; img-src 'none'; base-uri 'none'; form-action 'none'; "
        "frame-ancestors 'none'"
    )
    return text, policy


@router.get("/", include_in_schema=False)
async def show(raw_request: Request) -> Any:
    """The page, of a server of ours; it asks for a key itself where one is needed."""
    if not getattr(raw_request.app.state, "diffusion_is_served", False):
        raise HTTPException(404, "Not Found")
    text, policy = page()
    headers = {
        "content-security-policy": policy,
        "x-content-type-options": "nosniff",
        "referrer-policy": "no-referrer",
        "cache-control": "no-cache",
    }
    return HTMLResponse(text, headers=headers)
