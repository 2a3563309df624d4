"""Patches in the engine core, and of the configuration that every process shares."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from vllm_diffusion.compat.checks import Calls, Reads, Takes
from vllm_diffusion.compat.contact import patch
from vllm_diffusion.patching import has_kernels, serves, take

if TYPE_CHECKING:
    from vllm.config import ModelConfig, VllmConfig

PROCESS = "vllm.v1.engine.core.EngineCoreProc"


@patch(
    "vllm.config.VllmConfig.use_v2_model_runner",
    "vllm.config.VllmConfig._validate_v2_model_runner",
    "vllm.config.VllmConfig._get_v2_model_runner_unsupported_features",
    "vllm.config.vllm.HAS_TRITON",
    breaks="Start-up names the target, or says that it requires Triton",
    checks=(Reads("vllm.v1.worker.gpu_worker.Worker.__init__", "vllm_config.use_v2_model_runner"),),
    without_triton=True,
)
def runner_without_triton() -> None:
    """Model Runner V2 for diffusion models where vLLM has no Triton (CPU).

    Without it: "Model Runner V2 requires Triton" at start-up, although this
    package brings the runner's kernels. Acts in every process, since the
    scheduler and the worker must agree on the runner. Only where ``HAS_TRITON``
    is False. Remove when vLLM chooses V2 on CPUs without Triton.
    """
    from vllm.config import VllmConfig
    from vllm.config import vllm as config_module

    if config_module.HAS_TRITON:
        return
    choose = take(VllmConfig, "use_v2_model_runner").fget
    validate = take(VllmConfig, "_validate_v2_model_runner")

    def use_v2_model_runner(self: VllmConfig) -> bool:
        is_served = has_kernels(self.model_config)
        # Since vLLM 0.33 a worker asks for Triton itself, right after it has read this property.
        worker = sys.modules.get("vllm.v1.worker.gpu_worker")
        if worker is not None and hasattr(worker, "HAS_TRITON"):
            worker.HAS_TRITON = is_served  # type: ignore[attr-defined]
        return True if is_served else choose(self)

    def _validate_v2_model_runner(self: VllmConfig) -> None:
        if not has_kernels(self.model_config):
            validate(self)
        elif unsupported := self._get_v2_model_runner_unsupported_features():
            raise ValueError(f"Model Runner V2 does not support: {', '.join(unsupported)}")

    VllmConfig.use_v2_model_runner = property(use_v2_model_runner)  # type: ignore[assignment]
    VllmConfig._validate_v2_model_runner = _validate_v2_model_runner  # type: ignore[method-assign]


@patch(
    "vllm.model_executor.models.registry._ModelRegistry.inspect_model_cls",
    breaks="Start-up names the target; another error than `ValueError` has no hint",
    checks=(
        Takes(
            "vllm.model_executor.models.registry._ModelRegistry.inspect_model_cls",
            ("architectures", "model_config"),
        ),
    ),
)
def unknown_architecture() -> None:
    """vLLM's error for an unknown diffusion model goes on with what is served here.

    Without it the error lists vLLM's own few hundred architectures, and neither
    this package's families nor the option that names one of them. Acts in every
    process that makes a model's config; nothing is refused that vLLM serves.
    Remove when vLLM asks plugins about architectures that it does not know.
    """
    from vllm.model_executor.models.registry import ModelRegistry

    registry = type(ModelRegistry)
    original = take(registry, "inspect_model_cls")

    def inspect_model_cls(self: Any, architectures: Any, model_config: ModelConfig) -> Any:
        try:
            return original(self, architectures, model_config)
        except ValueError as error:
            from vllm_diffusion.configs import parser

            names = ("architectures", "model_type", "auto_map", *parser.FIELD_HINTS)
            config = model_config.hf_config
            parser.add_hint(error, {name: getattr(config, name, None) for name in names})
            raise

    registry.inspect_model_cls = inspect_model_cls  # type: ignore[method-assign]


@patch(
    "vllm.v1.engine.core.EngineCore.post_step",
    breaks="Start-up names the target; a step that no longer calls it makes the round trip",
    checks=(Takes("vllm.v1.engine.core.EngineCore.post_step", ("model_executed",)),),
)
def no_draft_round_trip() -> None:
    """No round trip to the worker after each step for draft tokens that nobody reads.

    Without it every step of a diffusion model asks the worker process for its
    canvases once more, although this package's scheduler derives their widths
    itself. Acts in the engine core, where its scheduler says so. Remove when
    vLLM asks the scheduler whether it wants draft tokens.
    """
    from vllm.v1.engine.core import EngineCore

    original = take(EngineCore, "post_step")

    def post_step(self: EngineCore, model_executed: bool) -> None:
        if getattr(self.scheduler, "reads_draft_tokens", True):
            original(self, model_executed)

    EngineCore.post_step = post_step  # type: ignore[method-assign]


@patch(
    f"{PROCESS}._send_finish_outputs_to_client",
    f"{PROCESS}._handle_shutdown",
    "vllm.v1.engine.core.EngineShutdownState",
    breaks="Start-up names the target; requests of an engine that ends look finished",
    checks=(
        Takes(
            f"{PROCESS}._send_finish_outputs_to_client",
            ("req_ids", "client_index", "finish_reason"),
        ),
        Calls(f"{PROCESS}._handle_shutdown", "self._send_abort_outputs"),
        Calls(f"{PROCESS}._send_abort_outputs", "self._send_abort_outputs_to_client"),
        Calls(f"{PROCESS}._send_abort_outputs_to_client", "self._send_finish_outputs_to_client"),
    ),
)
def cut_requests_say_so() -> None:
    """Requests that an engine cuts short because it ends are told so.

    Without it a client gets a part of its text with a status of 200 and the finish
    reason "abort": of several engines vLLM ends all once one has died, before the
    API servers know. Acts in the engine core, for our models, once it was asked to
    end; a pause aborts requests as vLLM says. Remove when vLLM fails such requests.
    """
    from vllm.v1.engine import EngineCoreOutput, EngineCoreOutputs
    from vllm.v1.engine.core import EngineCoreProc, EngineShutdownState

    from vllm_diffusion.isolation.failures import PREFIX, SHUTTING_DOWN

    original = take(EngineCoreProc, "_send_finish_outputs_to_client")

    def send(self: Any, req_ids: list[str], client_index: int, finish_reason: Any) -> None:
        runs_on = self.shutdown_state == EngineShutdownState.RUNNING
        if runs_on or not serves(self.vllm_config.model_config):
            original(self, req_ids, client_index, finish_reason)
            return
        reason = f"{PREFIX}{SHUTTING_DOWN}"
        outputs = [
            EngineCoreOutput(each, [], finish_reason=finish_reason, stop_reason=reason)
            for each in req_ids
        ]
        told = EngineCoreOutputs(finished_requests=set(req_ids), outputs=outputs)
        self.output_queue.put_nowait((client_index, told))

    EngineCoreProc._send_finish_outputs_to_client = send  # type: ignore[method-assign]
