"""Who may ask a route of this package: any client of one of our models, with a key if it needs one.

vLLM's own check of ``--api-key`` looks at some paths alone.
"""

from __future__ import annotations

import os
import secrets
from argparse import Namespace

from fastapi import HTTPException, Request


def keys_of(args: Namespace) -> tuple[bytes, ...]:
    """The keys of a server; empty where it asks for none."""
    keys = getattr(args, "api_key", None) or [os.environ.get("VLLM_API_KEY")]
    return tuple(key.encode() for key in keys if key)


async def allow(request: Request) -> None:
    """Raise what keeps a request from being answered.

    Raises:
        HTTPException: 404 where the server's model is not one of ours, 401 without a valid key.
    """
    state = request.app.state
    if not getattr(state, "diffusion_is_served", False):
        raise HTTPException(
            404, f"{request.url.path} is for diffusion models; this server has none"
        )
    keys: tuple[bytes, ...] = state.diffusion_keys
    if not keys:
        return
    scheme, _, given = request.headers.get("authorization", "").partition(" ")
    is_known = [secrets.compare_digest(given.strip().encode(), key) for key in keys]
    if scheme.lower() != "bearer" or not any(is_known):
        raise HTTPException(401, "a valid key is needed: Authorization: Bearer KEY")
