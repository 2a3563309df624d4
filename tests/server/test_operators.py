"""The operators' kit: dashboard and alerts ask for what a server has; gauges after aborts."""

from __future__ import annotations

import json
import re
import urllib.request
from collections.abc import Iterator
from typing import Any

import promql_parser
import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from scripts.dashboard import ALERTS, DEPLOY, ROWS, alerts, grafana
from tests.server.client import Client
from tests.server.counters import Counters, eventually

VARIABLES = {"$__rate_interval": "1m"}


def expressions() -> Iterator[str]:
    for row in ROWS.values():
        for panel in row:
            yield from panel.queries.values()
    for alert in ALERTS:
        yield alert.expression


def selectors(node: Any) -> Iterator[Any]:
    """Every place in a parsed expression that names a metric."""
    if type(node).__name__ == "VectorSelector":
        yield node
        return
    for name in ("expr", "lhs", "rhs", "vector_selector", "args"):
        inner = getattr(node, name, None)
        for each in inner if isinstance(inner, list) else [inner]:
            if each is not None:
                yield from selectors(each)


def parsed(expression: str) -> Any:
    for name, value in VARIABLES.items():
        expression = expression.replace(name, value)
    return promql_parser.parse(expression)


@pytest.fixture(scope="module")
def samples(server: Any) -> dict[str, set[str]]:
    """The labels of every metric that a server has, once it has served something."""
    client = Client(server.url, server.model)
    client.complete([9, 8, 7], max_tokens=20)
    with urllib.request.urlopen(f"{client.url}/metrics", timeout=30) as response:
        text = response.read().decode()
    found: dict[str, set[str]] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            found.setdefault(sample.name, set()).update(sample.labels)
    return found


def test_the_files_are_what_the_records_say() -> None:
    assert json.loads((DEPLOY / "grafana.json").read_text()) == grafana()
    assert (DEPLOY / "prometheus-alerts.yml").read_text() == alerts()


def test_every_expression_names_metrics_that_there_are(samples: dict[str, set[str]]) -> None:
    num_selectors = 0
    for expression in expressions():
        for selector in selectors(parsed(expression)):
            num_selectors += 1
            assert selector.name in samples, expression
            asked = {matcher.name for matcher in selector.matchers.matchers}
            assert asked <= samples[selector.name], expression
    assert num_selectors > 30


def test_sums_are_by_labels_that_there_are(samples: dict[str, set[str]]) -> None:
    """``instance`` is Prometheus' own: the address that it has asked."""
    for expression in expressions():
        names = {selector.name for selector in selectors(parsed(expression))}
        for labels in re.findall(r"by \(([^)]*)\)", expression):
            for label in labels.split(", "):
                assert label == "instance" or all(label in samples[name] for name in names)


def test_rules_are_prometheus_rules() -> None:
    (group,) = yaml.safe_load((DEPLOY / "prometheus-alerts.yml").read_text())["groups"]
    for rule in group["rules"]:
        assert set(rule) == {"alert", "expr", "for", "labels", "annotations"}
        assert re.fullmatch(r"\d+[smh]", rule["for"])
        assert rule["labels"]["severity"] in ("warning", "critical")
        parsed(rule["expr"])


def test_a_wrong_name_would_be_found(samples: dict[str, set[str]]) -> None:
    (selector,) = selectors(parsed("sum(rate(vllm:diffusion_num_forward_total[1m]))"))
    assert selector.name not in samples


def test_gauges_come_down_after_clients_have_left(client: Client) -> None:
    for _ in range(3):
        stream = client.completion([5, 6, 7], max_tokens=400, stream=True, ignore_eos=True)
        next(iter(stream))
        stream.close()

    def is_idle() -> bool:
        now = Counters.read(client.url)
        gauges = ("num_requests_running", "num_requests_waiting", "kv_cache_usage_perc")
        return all(now(gauge) == 0 for gauge in gauges)

    assert eventually(is_idle)
