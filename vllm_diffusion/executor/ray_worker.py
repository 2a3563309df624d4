"""A worker on a host without an accelerator, inside its Ray actor."""

from __future__ import annotations

from typing import Any

import ray
from vllm.v1.executor.ray_executor_v2 import RayWorkerProc


class CpuRayWorkerProc(RayWorkerProc):
    """vLLM's, which asks for no accelerator and shares memory on its own host alone."""

    def get_node_and_physical_gpu_ids(self) -> tuple[str, list[int]]:
        """The node; there are no devices to tell apart."""
        return ray.get_runtime_context().get_node_id(), []

    def initialize_worker(
        self,
        local_rank: int,
        env_vars: dict[str, str],
        distributed_init_method: str,
        *args: Any,
        **kwargs: Any,
    ) -> None:
        """Ranks on two hosts do not take each other for neighbours.

        vLLM's ranks exchange tensors through shared memory if all of them would name it alike. The
        name is what follows the last colon of this address, its port, which is the same on every
        host: each would wait in its own memory for the others. torch ignores fields that it does
        not know.
        """
        node_id = ray.get_runtime_context().get_node_id()
        of_this_host = f"{distributed_init_method}?host={node_id}"
        super().initialize_worker(local_rank, env_vars, of_this_host, *args, **kwargs)
