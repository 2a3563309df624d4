"""``--distributed-executor-backend ray`` on hosts without an accelerator, in the engine core.

vLLM's Ray executor counts accelerators, and its CPU platform names none, so it refuses to start.
Here a worker takes a bundle with one CPU of Ray's, on nodes started by a plain ``ray start``.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from vllm.platforms import current_platform
from vllm.v1.executor import ray_executor_v2

from vllm_diffusion.executor.ray_worker import CpuRayWorkerProc

RESOURCE = "CPU"
"""What a bundle of the placement group holds one of, in Ray's words."""


class CpuRayExecutor(ray_executor_v2.RayExecutorV2):
    """vLLM's, with a CPU for each worker."""

    def _init_executor(self) -> None:
        with (
            for_now(current_platform, "ray_device_key", RESOURCE),
            for_now(ray_executor_v2, "RayWorkerProc", CpuRayWorkerProc),
        ):
            super()._init_executor()

    @staticmethod
    def _get_actor_resource_kwargs() -> dict[str, Any]:
        """Nothing beside the place in its bundle: vLLM asks for ``num_cpus=0`` itself."""
        return {"num_gpus": 0}


@contextmanager
def for_now(owner: Any, name: str, value: Any) -> Iterator[None]:
    """Set an attribute while workers are made, so that other models find it as it was."""
    is_own = name in vars(owner)
    before = getattr(owner, name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        if is_own:
            setattr(owner, name, before)
        else:
            delattr(owner, name)
