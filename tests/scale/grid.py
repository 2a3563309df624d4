"""The rows of the table: how a server is spread."""

from __future__ import annotations

from dataclasses import dataclass

from tests.scale.groups import DENSE, EXPERTS, Group

RAY = ("--distributed-executor-backend", "ray")
TP = ("--tensor-parallel-size", "2")
PP = ("--pipeline-parallel-size", "2")
DP = ("--data-parallel-size", "2")


@dataclass(frozen=True, kw_only=True)
class Row:
    """Options of a server, and the families that are served with them."""

    title: str
    options: tuple[str, ...]
    groups: tuple[Group, ...] = DENSE
    has_two_hosts: bool = False
    has_two_engines: bool = False
    """Both have to answer some of the requests."""


ROWS = (
    Row(title="TP=2", options=TP),
    Row(title="PP=2", options=PP),
    Row(title="TP=2 x PP=2", options=(*TP, *PP)),
    Row(title="DP=2", options=DP, has_two_engines=True),
    Row(title="TP=2, experts", options=TP, groups=EXPERTS),
    Row(title="DP=2, experts", options=DP, groups=EXPERTS, has_two_engines=True),
    Row(title="EP=2", options=(*TP, "--enable-expert-parallel"), groups=EXPERTS),
    Row(title="Ray, TP=2 over two hosts", options=(*RAY, *TP), has_two_hosts=True),
    Row(title="Ray, PP=2 over two hosts", options=(*RAY, *PP), has_two_hosts=True),
)
