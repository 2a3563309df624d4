"""vLLM's endpoint plugin: it attaches the routes of this package."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from fastapi import Depends

from vllm_diffusion.endpoints.access import allow, keys_of
from vllm_diffusion.patching import serves
from vllm_diffusion.server.edit_prompt import form_of

if TYPE_CHECKING:
    from argparse import Namespace

    from fastapi import FastAPI

MODULES: tuple[str, ...] = ("fim", "infill", "edits", "decisions")
"""Modules of this package, each with a ``router``."""
OPEN = ("models", "page")
"""The same, whose routes look themselves at whom they answer: one replaces a route of vLLM's, and
the page has nothing to hide."""


class DiffusionEndpoints:
    """Named in ``VLLM_PLUGINS`` it is loaded, and not otherwise."""

    name = "diffusion_endpoints"
    required_tasks: Any = ("generate",)

    def attach_router(self, app: FastAPI) -> None:
        """Register the routes; each asks first whether it may answer."""
        for module in (*OPEN, *MODULES):
            router = import_module(f"{__package__}.{module}").router
            checks = [] if module in OPEN else [Depends(allow)]
            app.include_router(router, dependencies=checks)

    async def init_state(self, engine_client: Any, state: Any, args: Namespace) -> None:
        """Note what the routes need to know of the server."""
        state.diffusion_is_served = engine_client is not None and serves(engine_client.model_config)
        state.diffusion_keys = keys_of(args)
        if state.diffusion_is_served:
            state.diffusion_edit_form = form_of(engine_client.model_config.hf_config)
