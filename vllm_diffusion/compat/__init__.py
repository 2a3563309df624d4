"""Every contact with vLLM that is not public: named, probed, and removable.

* Patches, for what no registry or hook offers: ``frontend``, ``metrics``, ``core``, ``worker``.
  Each touches diffusion architectures of this package only, is applied once a process, and checks
  its target: when vLLM has moved, ``RuntimeError`` names the target and the version. ``ACTIVE``
  lists what has been applied. ``patching`` is what they share.
* ``registries`` fills vLLM's registries.
* All other contacts as records, by process: ``configuration`` (all of them), ``serving`` (API
  server), ``scheduling`` (engine core), ``running`` (worker), ``clusters`` (workers on Ray).

``contact`` is the record. ``checks`` and ``kernels`` are what its probe asks of vLLM's files, which
``source`` reads without importing them. ``vllm-diffusion doctor`` and ``docs/compatibility.md``
list every contact.
"""

from __future__ import annotations

from vllm_diffusion.compat import (
    clusters,
    configuration,
    core,
    frontend,
    metrics,
    running,
    scheduling,
    serving,
    worker,
)
from vllm_diffusion.compat.contact import Contact, Patch
from vllm_diffusion.patching import ACTIVE

PATCHES: tuple[Patch, ...] = (
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
    core.cut_requests_say_so,
    metrics.prometheus_metrics,
    metrics.response_metrics,
    metrics.span_attributes,
    frontend.openai_handlers,
    frontend.request_routes,
    frontend.server_end,
)

WORKER_PATCHES: tuple[Patch, ...] = (
    worker.sample_in_the_same_call,
    worker.rows_without_adapter,
    worker.canvases_in_a_pipeline,
    worker.failed_ranks_end,
    worker.frames_with_outputs,
)
"""Those on modules that only a worker loads; the model state applies them."""

CONTACTS: tuple[Contact, ...] = (
    *(patch.contact for patch in (*PATCHES, *WORKER_PATCHES)),
    *configuration.CONTACTS,
    *serving.CONTACTS,
    *scheduling.CONTACTS,
    *running.CONTACTS,
    *clusters.CONTACTS,
)

__all__ = ["ACTIVE", "CONTACTS", "PATCHES", "WORKER_PATCHES", "Contact", "apply"]


def apply() -> None:
    """Apply every patch but the workers'; safe to call again."""
    for patch in PATCHES:
        patch()
