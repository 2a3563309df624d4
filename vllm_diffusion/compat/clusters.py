"""Contacts where workers are Ray's actors, on hosts without an accelerator."""

from __future__ import annotations

from vllm_diffusion.compat.checks import Calls, Reads, Spells, Takes
from vllm_diffusion.compat.contact import Contact

RAY = "vllm.v1.executor.ray_executor_v2"
EXECUTOR, WORKER = f"{RAY}.RayExecutorV2", f"{RAY}.RayWorkerProc"
SHARED = "vllm.distributed.device_communicators.cpu_communicator"

CONTACTS = (
    Contact(
        name="ray_on_cpus",
        kind="override",
        targets=(
            f"{EXECUTOR}._init_executor",
            f"{EXECUTOR}._get_actor_resource_kwargs",
            f"{WORKER}.get_node_and_physical_gpu_ids",
            "vllm.platforms.interface.Platform.ray_device_key",
            "vllm.config.ParallelConfig.distributed_executor_backend",
        ),
        what="`--distributed-executor-backend ray` on hosts without an accelerator.",
        why='"current platform cpu does not support ray": the CPU platform names no resource of '
        "Ray's, and a worker asks for it before it loads plugins",
        acts="engine core and worker, in executor/: start-up puts a class derived from vLLM's into "
        "the config of a model of ours, on CPUs alone; the platform's attribute and the class of "
        "the worker are others while that executor makes its workers",
        breaks="Start-up fails, or says that the platform does not support Ray",
        remove='vLLM\'s CPU platform has `ray_device_key = "CPU"` (the patch is below)',
        checks=(
            Calls(f"{EXECUTOR}._init_executor", "ray.remote"),
            Reads(f"{EXECUTOR}._init_executor", "RayWorkerProc"),
            Calls(f"{EXECUTOR}._init_executor", "self._get_actor_resource_kwargs"),
            Calls("vllm.v1.executor.abstract.Executor.get_class", "issubclass"),
            Reads("vllm.v1.executor.ray_utils.initialize_ray_cluster", "current_platform"),
        ),
    ),
    Contact(
        name="memory_of_one_host",
        kind="override",
        targets=(
            f"{WORKER}.initialize_worker",
            f"{SHARED}._CPUSHMDistributed.make_group_name",
        ),
        what="Ranks on two hosts do not exchange tensors through shared memory.",
        why="all of them name it after one port, take each other for neighbours, and wait in "
        "memory that the others do not see",
        acts="worker, in executor/ray_worker.py: the address of the process group has the host in "
        "it, in the Ray actors of our models on CPUs",
        breaks="Workers on two hosts do not come up",
        remove="the name of vLLM's shared memory has the host in it (the patch is below)",
        checks=(
            Takes(
                f"{WORKER}.initialize_worker", ("local_rank", "env_vars", "distributed_init_method")
            ),
            Spells("vllm.v1.worker.cpu_worker.CPUWorker.init_device", "VLLM_DIST_IDENT"),
            Calls("vllm.v1.worker.cpu_worker.CPUWorker.init_device", "init_method.split"),
            Spells(f"{SHARED}._CPUSHMDistributed.make_group_name", "VLLM_DIST_IDENT"),
            Calls(
                f"{SHARED}.CpuCommunicator._all_group_ranks_share_shm_group_name",
                "_CPUSHMDistributed.make_group_name",
            ),
        ),
    ),
)
