"""Patches on vLLM, for what no registry or hook offers.

One function each, in the file of the process that it acts in: ``frontend``, ``core``, ``worker``.
``registries`` fills vLLM's registries; ``patching`` is what patches share. Every patch touches
diffusion architectures of this package only, is applied once a process, and checks its target: when
vLLM has moved, ``RuntimeError`` names the target and the version instead of a silent change.
``ACTIVE`` lists what has been applied, for ``vllm-diffusion doctor``.
"""

from __future__ import annotations

from collections.abc import Callable

from vllm_diffusion.compat import core, frontend, worker
from vllm_diffusion.patching import ACTIVE

PATCHES: tuple[Callable[[], None], ...] = (
    core.runner_without_triton,
    core.unknown_architecture,
    frontend.request_validation,
    frontend.structured_output_validation,
    frontend.constraint_compilation,
    frontend.output_isolation,
    frontend.prompt_validation,
    frontend.request_acceptance,
    frontend.finished_texts,
    core.no_draft_round_trip,
    frontend.prometheus_metrics,
    frontend.response_metrics,
    frontend.openai_handlers,
    frontend.request_routes,
    frontend.server_end,
)

WORKER_PATCHES: tuple[Callable[[], None], ...] = (worker.sample_in_the_same_call,)
"""Those on modules that only a worker loads; the model state applies them."""

__all__ = ["ACTIVE", "PATCHES", "WORKER_PATCHES", "apply"]


def apply() -> None:
    """Apply every patch but the workers'; safe to call again."""
    for patch in PATCHES:
        patch()
