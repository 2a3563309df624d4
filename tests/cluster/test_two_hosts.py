"""Two ranks on two hosts that share nothing but a network: texts, and what ends them.

Each host is a namespace with its own address, hostname and shared memory. One server is up at a
time, and ends by the fault that its test is about.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.cluster.raylets import Cluster
from tests.cluster.served import RAY, Served
from tests.conftest import CheckpointFactory
from tests.scale.groups import DENSE
from tests.scale.questions import Questions
from tests.scale.servers import options_of
from tests.server.faults import POISON

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]

BLOCK = 8
TOLD_SECONDS = 15
"""How long clients may wait for word of a rank that has gone."""
LONG = {"prompt": [40] * 20, "max_tokens": 460, "ignore_eos": True, "stream": True}
SLOW = {"vllm_xargs": {"diffusion_threshold": 1.0}}


def test_the_check_says_what_differs(cluster: Cluster, checkpoint: CheckpointFactory) -> None:
    """Nothing does between these two, but for what is made up; and a checkpoint may be missing."""
    report = check(cluster, "--model", str(checkpoint(BLOCK)), status=0)
    assert [node["address"] for node in report["nodes"]] == ["10.77.0.1", "10.77.0.2"]
    assert all(node["facts"]["plugin"] == "loaded" for node in report["nodes"])
    assert report["differences"] == []

    report = check(cluster, "--model", "/no/such/folder", status=1)
    missing = "the checkpoint is not there. Copy it to the same path, or mount one folder."
    hosts = ("10.77.0.1 (head)", "10.77.0.2 (other)")
    assert report["differences"] == [f"{host}: {missing}" for host in hosts]


def check(cluster: Cluster, *args: str, status: int) -> Any:
    program = "import sys; from vllm_diffusion.cli import main; sys.exit(main())"
    asked = (sys.executable, "-c", program, "ray-check", "--json", *args)
    assert cluster.start(cluster.head, "check", *asked).wait(300) == status
    said = cluster.log("check").read_text()
    return json.loads(said[said.index("{\n") :])


FAULTS = (
    ("tensor", "killed"),
    ("pipeline", "failed"),
    ("tensor", "cut"),  # the last: the cluster is gone after it
)
"""Each with a family of another mask group; ``make scale`` has all of them."""


@pytest.fixture(params=zip(FAULTS, DENSE, strict=True), ids=lambda each: "-".join(each[0]))
def server(
    request: pytest.FixtureRequest, cluster: Cluster, tmp_path: Path
) -> Iterator[tuple[str, str, Questions, Served]]:
    (parallel, fault), group = request.param
    extension = ("--worker-extension-cls", "tests.cluster.failing.FirstRankFails")
    options = (f"--{parallel}-parallel-size", "2", *(extension if fault == "failed" else ()))
    folder = group.write(tmp_path / group.name)
    served = Served(cluster, f"{parallel}-{fault}", folder, *RAY, *options_of(group), *options)
    try:
        served.wait()
        yield parallel, fault, Questions(group, folder), served
    finally:
        served.process.kill()
        served.process.wait(30)


def ranks(cluster: Cluster) -> dict[str, psutil.Process]:
    """The rank on each host: the process that is in the model's loop."""
    return {
        host.name: next(
            each for each in host.processes() if "CpuRayWorkerProc" in " ".join(each.cmdline())
        )
        for host in (cluster.head, cluster.other)
    }


def make_happen(fault: str, served: Served, other_rank: psutil.Process) -> float:
    """When it happened, in the clock that all processes here share."""
    match fault:
        case "killed":
            other_rank.kill()
        case "cut":
            return served.cluster.other.set_link("down")
        case "failed":
            body = {"model": "model", "prompt": POISON, "max_tokens": 1}
            (answer,) = served.ask([{"path": "/v1/completions", "body": body}])
            assert answer["status"] == 500, answer
            return float(answer["at"] - answer["seconds"])
    return time.time()


def test_texts_and_faults(server: tuple[str, str, Questions, Served], cluster: Cluster) -> None:
    """Equal to the reference first; then a rank goes in the middle of a request."""
    parallel, fault, questions, served = server
    workers = ranks(cluster)
    if parallel == "tensor":
        assert "CPU SHM communicator disabled for group tp" in served.log
    questions.check(served.ask(questions.requests()))

    body = {"model": "model", "temperature": 0} | LONG | SLOW
    asker = served.asking([{"path": "/v1/completions", "body": body}])
    assert asker.stdout is not None
    assert json.loads(asker.stdout.readline()) == {"begun": True}
    begin = make_happen(fault, served, workers["other"])
    answer = json.loads(asker.stdout.readline())
    asker.wait(30)
    print(f"{parallel}, {fault}: told after {answer['at'] - begin:.1f} s")

    assert answer["at"] - begin < TOLD_SECONDS
    assert '"code": 500' in answer["text"] or '"internal_error"' in answer["text"], answer
    assert answer["text"].rstrip().endswith("[DONE]")
    assert served.process.wait(60) not in (0, None)
    print(f"ended after {time.time() - begin:.1f} s")
