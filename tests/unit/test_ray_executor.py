"""Ray's workers on hosts without an accelerator: who gets that executor, and what it tells them."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch.distributed

pytest.importorskip("vllm", reason="the executor is derived from vLLM's")

from vllm import envs
from vllm.distributed.device_communicators.cpu_communicator import _CPUSHMDistributed
from vllm.platforms import current_platform
from vllm.v1.executor import ray_executor_v2

from vllm_diffusion.executor import ray_cpu, ray_worker
from vllm_diffusion.startup import serving


def chosen(backend: str) -> Any:
    parallel = SimpleNamespace(distributed_executor_backend=backend)
    serving._fit_ray(parallel)  # type: ignore[arg-type]
    return parallel.distributed_executor_backend


def test_only_ray_on_cpus_gets_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(current_platform, "is_cpu", lambda: True)
    assert chosen("ray") is ray_cpu.CpuRayExecutor
    assert chosen("mp") == "mp"
    monkeypatch.setattr(current_platform, "is_cpu", lambda: False)
    assert chosen("ray") == "ray"


def test_the_older_executor_is_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(current_platform, "is_cpu", lambda: True)
    if "VLLM_USE_RAY_V2_EXECUTOR_BACKEND" not in envs.environment_variables:
        pytest.skip("vLLM 0.33 has one executor for Ray")
    monkeypatch.setenv("VLLM_USE_RAY_V2_EXECUTOR_BACKEND", "0")
    with pytest.raises(ValueError, match="VLLM_USE_RAY_V2_EXECUTOR_BACKEND=0 asks for a Ray"):
        chosen("ray")


def test_other_models_find_vllm_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    """While workers are made there is a resource and a class of ours, and not after an error."""
    before = current_platform.ray_device_key, ray_executor_v2.RayWorkerProc
    seen = []

    def init(self: Any) -> None:
        seen.append((current_platform.ray_device_key, ray_executor_v2.RayWorkerProc))
        raise RuntimeError("no cluster")

    monkeypatch.setattr(ray_executor_v2.RayExecutorV2, "_init_executor", init)
    executor = object.__new__(ray_cpu.CpuRayExecutor)
    with pytest.raises(RuntimeError, match="no cluster"):
        executor._init_executor()
    assert seen == [("CPU", ray_worker.CpuRayWorkerProc)]
    assert (current_platform.ray_device_key, ray_executor_v2.RayWorkerProc) == before
    assert "ray_device_key" not in vars(current_platform)


def test_hosts_name_their_shared_memory_differently(monkeypatch: pytest.MonkeyPatch) -> None:
    """And torch takes the address all the same."""
    told = []
    monkeypatch.setattr(
        ray_executor_v2.RayWorkerProc, "initialize_worker", lambda _, *args, **__: told.append(args)
    )
    names = set()
    for host in ("one", "other"):
        context = SimpleNamespace(get_node_id=lambda host=host: host)
        monkeypatch.setattr(ray_worker.ray, "get_runtime_context", lambda context=context: context)
        worker = object.__new__(ray_worker.CpuRayWorkerProc)
        assert worker.get_node_and_physical_gpu_ids() == (host, [])
        worker.initialize_worker(0, {}, "tcp://127.0.0.1:0", {})
        local_rank, env_vars, address, _ = told[-1]
        assert (local_rank, env_vars) == (0, {})
        # As vLLM's CPU worker names it.
        monkeypatch.setenv("VLLM_DIST_IDENT", address.split(":")[-1])
        group: Any = SimpleNamespace(unique_name="tp:0", ranks=[0, 1])
        names.add(_CPUSHMDistributed.make_group_name(group))
        assert "/" not in address.split(":")[-1]
        _, rank, size = next(torch.distributed.rendezvous(address, rank=0, world_size=1))
        assert (rank, size) == (0, 1)
    assert len(names) == 2
