"""A Ray cluster of two hosts, started as ``examples/ray`` does it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

from tests.cluster.host import DEVICE, Host
from tests.server.process import environment as told

PORT = 6379
START_SECONDS = 180
OBJECT_STORE_BYTES = 100_000_000

RAY = (sys.executable, "-m", "ray.scripts.scripts")
"""The command ``ray``, wherever the package is."""


def environment(host: Host, token: Path) -> dict[str, str]:
    """What raylets and servers of a host are started with."""
    return {
        "VLLM_HOST_IP": host.address,
        "GLOO_SOCKET_IFNAME": DEVICE,
        "RAY_ADDRESS": f"{host.address}:{PORT}" if host.name == "head" else "",
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(token),
        "RAY_USAGE_STATS_ENABLED": "0",
        # A host that has gone is given up after 3 to 6 s; read by the head alone.
        "RAY_health_check_initial_delay_ms": "1000",
        "RAY_health_check_period_ms": "1000",
        "RAY_health_check_timeout_ms": "1000",
        "RAY_health_check_failure_threshold": "4",
        # A raylet waits for its agents, which are Python, and a busy machine takes its time.
        "RAY_agent_register_timeout_ms": str(START_SECONDS * 1000),
        "RAY_raylet_start_wait_time_s": str(START_SECONDS),
        "RAY_worker_niceness": "0",  # Ray's own is 15, which starves where others are busy
        "OMP_NUM_THREADS": "1",
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",
        "VLLM_USE_AOT_COMPILE": "0",
        "PYTHONUNBUFFERED": "1",
    }


class Cluster:
    """Two raylets, and what is started on them."""

    def __init__(self, head: Host, other: Host, folder: Path, num_cpus: int = 1) -> None:
        self.head, self.other, self.folder, self.num_cpus = head, other, folder, num_cpus
        self.token = folder / "token"
        self.token.write_text(os.urandom(16).hex())
        self.token.chmod(0o600)
        self.prepared: subprocess.Popen[bytes] | None = None
        self.prepare()
        self._start(head, "--head", "--port", str(PORT), "--include-dashboard", "false")
        self._start(other, "--address", f"{head.address}:{PORT}")
        self._wait(2)

    def _start(self, host: Host, *args: str) -> None:
        place = ("--node-ip-address", host.address, "--num-cpus", str(self.num_cpus))
        store = ("--object-store-memory", str(OBJECT_STORE_BYTES))
        command = (*RAY, "start", *args, *place, *store, "--disable-usage-stats", "--block")
        self.start(host, f"raylet-{host.name}", *command)

    def start(self, host: Host, name: str, *command: str) -> subprocess.Popen[bytes]:
        """Start a command in a host, with the cluster's environment; its log is NAME.log."""
        return host.start(command, self.log(name), told() | environment(host, self.token))

    def prepare(self) -> None:
        """Have vLLM imported on the head for the next server (``tests.cluster.prepared``)."""
        if self.prepared is None:
            command = (sys.executable, "-m", "tests.cluster.prepared")
            place = told() | environment(self.head, self.token)
            self.prepared = self.head.start(command, self.log("prepared"), place, is_told=True)

    def serve(self, name: str, *args: str) -> subprocess.Popen[bytes]:
        """``vllm`` on the head with these arguments; its log is NAME.log."""
        self.prepare()
        assert self.prepared is not None
        process, self.prepared = self.prepared, None
        assert process.stdin is not None
        line = json.dumps({"args": args, "log": str(self.log(name))})
        process.stdin.write(f"{line}\n".encode())
        process.stdin.close()
        return process

    def log(self, name: str) -> Path:
        return self.folder / f"{name}.log"

    def _wait(self, num_nodes: int) -> None:
        program = (
            "import ray, sys, time\n"
            "ray.init(log_to_driver=False)\n"
            f"while sum(n['Alive'] for n in ray.nodes()) < {num_nodes}: time.sleep(0.2)\n"
        )
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            asking = self.start(self.head, "nodes", sys.executable, "-c", program)
            try:
                if asking.wait(deadline - time.monotonic()) == 0:
                    return
            except subprocess.TimeoutExpired:
                asking.kill()
                break
        tails = "\n".join(path.read_text()[-2000:] for path in self.folder.glob("*.log"))
        raise RuntimeError(f"no cluster within {START_SECONDS} s\n{tails}")
