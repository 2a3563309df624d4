"""Ask every node of a Ray cluster, and print what they have and what differs."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from vllm_diffusion.cluster import facts
from vllm_diffusion.cluster.differences import Node, differences

ANSWER_SECONDS = 60.0
SAME, DIFFERENT, NO_CLUSTER = 0, 1, 2
"""Exit statuses."""


def run(address: str, model: str | None, *, as_json: bool = False) -> int:
    """Print the report; 1 where something differs or is missing, 2 where there is no cluster."""
    try:
        import ray
    except ImportError:
        print("Ray is not installed: pip install 'vllm-diffusion[ray]'", file=sys.stderr)
        return NO_CLUSTER
    try:
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
    except Exception as error:  # Ray has no class of its own for what can go wrong here
        print(
            f"no Ray cluster answers at {address}: {type(error).__name__}: {error}\n"
            "Where nodes were started with RAY_AUTH_MODE=token, this command needs the same "
            "RAY_AUTH_MODE and RAY_AUTH_TOKEN_PATH.",
            file=sys.stderr,
        )
        return NO_CLUSTER
    try:
        nodes = ask(ray, model)
    finally:
        ray.shutdown()
    wrong = list(differences(nodes))
    if as_json:
        report = {"nodes": [asdict(node) for node in nodes], "differences": wrong}
        print(json.dumps(report, indent=2, ensure_ascii=False))
    else:
        print("\n".join(lines(nodes, wrong)))
    return DIFFERENT if wrong else SAME


def ask(ray: Any, model: str | None) -> list[Node]:
    """The answers of all nodes that are said to live, asked at the same time."""
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    ray.cloudpickle.register_pickle_by_value(facts)
    collect = ray.remote(num_cpus=0, max_retries=0)(facts.collect)
    alive = [each for each in ray.nodes() if each["Alive"]]
    asked = [
        collect.options(
            scheduling_strategy=NodeAffinitySchedulingStrategy(each["NodeID"], soft=False)
        ).remote(model)
        for each in alive
    ]
    ray.wait(asked, num_returns=len(asked), timeout=ANSWER_SECONDS)
    nodes = []
    for each, answer in zip(alive, asked, strict=True):
        name, address = each.get("NodeManagerHostname", ""), each["NodeManagerAddress"]
        try:
            nodes.append(Node(name, address, ray.get(answer, timeout=0)))
        except Exception as error:  # whatever a node's own Python has raised, by Ray's hands
            said = str(error).strip().splitlines()
            reason = f"{type(error).__name__}: {said[-1] if said else 'nothing more is said'}"
            nodes.append(Node(name, address, error=reason))
    return sorted(nodes, key=lambda node: node.address)


def lines(nodes: Sequence[Node], wrong: Sequence[str]) -> list[str]:
    """One line a fact, with tabs, then one a difference."""
    said = []
    for node in nodes:
        said += [f"{node}\t{name}\t{value}" for name, value in node.facts.items()]
    said += [f"differs\t{sentence}" for sentence in wrong]
    num = len(nodes)
    return [*said, f"{num} node{'s' * (num != 1)}, {len(wrong) or 'no'} differences"]
