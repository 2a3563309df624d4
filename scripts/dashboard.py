"""Write ``deploy/grafana.json`` and ``deploy/prometheus-alerts.yml`` from the records below.

    python -m scripts.dashboard

A test reads both against a real server: every expression parses, and every metric is there.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

DEPLOY = Path(__file__).parents[1] / "deploy"
RATE = "[$__rate_interval]"


@dataclass(frozen=True)
class Panel:
    """One picture of the dashboard."""

    title: str
    unit: str
    """Grafana's word for it."""
    says: str
    """What a reader should know."""
    queries: dict[str, str]
    """By what its line is called."""


@dataclass(frozen=True)
class Alert:
    """One thing that somebody should look at."""

    name: str
    expression: str
    lasts: str
    severity: str
    says: str
    remedy: str


def _rate(metric: str, by: str = "") -> str:
    return f"sum{f' by ({by}) ' if by else ''}(rate({metric}{RATE}))"


def _quantile(share: float, metric: str) -> str:
    return f"histogram_quantile({share}, sum by (le) (rate({metric}_bucket{RATE})))"


def _seconds(metric: str) -> dict[str, str]:
    return {"p50": _quantile(0.5, metric), "p95": _quantile(0.95, metric)}


TOKENS = "vllm:diffusion_num_committed_tokens_total"
FORWARDS = "vllm:diffusion_num_forwards_total"
STEPS = "vllm:diffusion_num_denoising_steps_total"
POSITIONS = "vllm:diffusion_num_canvas_positions_total"
BLOCKS = "vllm:diffusion_block_denoising_steps"

ROWS: dict[str, tuple[Panel, ...]] = {
    "Diffusion": (
        Panel(
            "Tokens per forward",
            "none",
            "What parallel decoding gains. It falls when requests ask for more effort, and with "
            "text that the model is unsure of.",
            {
                "now": f"{_rate(TOKENS)} / {_rate(FORWARDS)}",
                "since the start": "avg(vllm:diffusion_tokens_per_forward)",
            },
        ),
        Panel(
            "Forwards a second",
            "ops",
            "Once a request that they served: 'prefill' is of prompt chunks alone.",
            {"{{kind}}": _rate(FORWARDS, "kind")},
        ),
        Panel(
            "Denoising steps a block",
            "none",
            "How many forwards a block takes.",
            {
                "p50": _quantile(0.5, BLOCKS),
                "p95": _quantile(0.95, BLOCKS),
                "mean": f"{_rate(BLOCKS + '_sum')} / {_rate(BLOCKS + '_count')}",
            },
        ),
        Panel(
            "Share of canvas positions that became text",
            "percentunit",
            "The rest was computed again in a later step.",
            {"kept": f"{_rate(TOKENS)} / {_rate(POSITIONS)}"},
        ),
        Panel(
            "Approximate forwards",
            "ops",
            "Steps that reused K and V that are not exact, as diffusion_kv_cache had asked.",
            {"approximate": _rate("vllm:diffusion_num_approximate_forwards_total")},
        ),
        Panel(
            "Finished texts of structured output",
            "ops",
            "By what their check has found; 'invalid' is a defect.",
            {"{{result}}": _rate("vllm:diffusion_num_checked_texts_total", "result")},
        ),
    ),
    "Traffic": (
        Panel(
            "Requests",
            "none",
            "Waiting ones have no place in the batch yet.",
            {
                "running": "sum(vllm:num_requests_running)",
                "waiting": "sum(vllm:num_requests_waiting)",
            },
        ),
        Panel(
            "Tokens a second",
            "none",
            "Of prompts, cached or not, and of answers.",
            {
                "prompt": _rate("vllm:prompt_tokens_total"),
                "answer": _rate("vllm:generation_tokens_total"),
            },
        ),
        Panel(
            "Time to first text",
            "s",
            "The first block's time: text comes a block at a time.",
            _seconds("vllm:time_to_first_token_seconds"),
        ),
        Panel(
            "Time to last text",
            "s",
            "Of whole requests.",
            _seconds("vllm:e2e_request_latency_seconds"),
        ),
        Panel(
            "Time in the queue",
            "s",
            "Before the first forward.",
            _seconds("vllm:request_queue_time_seconds"),
        ),
        Panel(
            "Ended requests by reason",
            "ops",
            "'abort' are clients that left.",
            {"{{finished_reason}}": _rate("vllm:request_success_total", "finished_reason")},
        ),
    ),
    "Memory": (
        Panel(
            "KV cache in use",
            "percentunit",
            "Near 1 requests are preempted and start their block again.",
            {"used": "avg(vllm:kv_cache_usage_perc)"},
        ),
        Panel(
            "Preemptions",
            "ops",
            "Requests that lost their K and V.",
            {"preempted": _rate("vllm:num_preemptions_total")},
        ),
        Panel(
            "Prefix cache hits",
            "percentunit",
            "Share of prompt tokens that were there already.",
            {
                "hits": f"{_rate('vllm:prefix_cache_hits_total')} / "
                f"{_rate('vllm:prefix_cache_queries_total')}"
            },
        ),
    ),
}

ALERTS = (
    Alert(
        "DiffusionStalled",
        "sum by (instance) (vllm:num_requests_running) > 0 and "
        f"sum by (instance) (increase({FORWARDS}[2m])) == 0",
        "1m",
        "critical",
        "Requests are running and no forward has been counted for two minutes.",
        "Look at the server's log for a failed rank; restart the server if there is none.",
    ),
    Alert(
        "DiffusionInvalidText",
        'increase(vllm:diffusion_num_checked_texts_total{result="invalid"}[10m]) > 0',
        "0m",
        "critical",
        "A finished text broke the form that its request had asked for.",
        "It is a defect: the client has got an error. Report the request with its schema.",
    ),
    Alert(
        "DiffusionQueue",
        "sum by (instance) (vllm:num_requests_waiting) > 2 * sum by (instance) "
        "(vllm:num_requests_running)",
        "5m",
        "warning",
        "More requests wait than twice those that run.",
        "Add a replica, or raise --max-num-seqs if the KV cache has room.",
    ),
    Alert(
        "DiffusionCacheFull",
        "avg by (instance) (vllm:kv_cache_usage_perc) > 0.95",
        "5m",
        "warning",
        "The KV cache is nearly full, so requests lose it and start their block again.",
        "Give it more memory, lower --max-model-len or --max-num-seqs, or add a replica.",
    ),
    Alert(
        "DiffusionPreemptions",
        "sum by (instance) (rate(vllm:num_preemptions_total[5m])) > 0.5",
        "5m",
        "warning",
        "A request loses its K and V every two seconds or more often.",
        "As for a full cache.",
    ),
    Alert(
        "DiffusionFewTokensPerForward",
        f"sum by (instance) (rate({TOKENS}[15m])) / sum by (instance) "
        f'(rate({FORWARDS}{{kind="denoise"}}[15m])) < 1.2',
        "15m",
        "warning",
        "A forward settles hardly more than one token: decoding is as slow as token by token.",
        "See whether clients ask for effort 'max' or a threshold of 1, and whether prompts are far "
        "from what the model knows.",
    ),
)


def grafana() -> dict[str, Any]:
    """The dashboard, for Grafana's import."""
    panels: list[dict[str, Any]] = []
    top = 0
    for title, row in ROWS.items():
        panels.append(
            {
                "type": "row",
                "title": title,
                "id": len(panels) + 1,
                "gridPos": {"x": 0, "y": top, "w": 24, "h": 1},
                "panels": [],
            }
        )
        top += 1
        for number, panel in enumerate(row):
            x, y = 8 * (number % 3), top + 8 * (number // 3)
            panels.append(_panel(panel, len(panels) + 1, x, y))
        top += 8 * -(-len(row) // 3)
    return {
        "title": "vllm_diffusion",
        "uid": "vllm-diffusion",
        "schemaVersion": 39,
        "refresh": "10s",
        "time": {"from": "now-30m", "to": "now"},
        "templating": {
            "list": [{"name": "source", "type": "datasource", "query": "prometheus", "hide": 0}]
        },
        "panels": panels,
    }


def _panel(panel: Panel, number: int, x: int, y: int) -> dict[str, Any]:
    source = {"type": "prometheus", "uid": "${source}"}
    targets = [
        {"refId": chr(ord("A") + i), "datasource": source, "expr": query, "legendFormat": name}
        for i, (name, query) in enumerate(panel.queries.items())
    ]
    return {
        "type": "timeseries",
        "title": panel.title,
        "description": panel.says,
        "id": number,
        "datasource": source,
        "gridPos": {"x": x, "y": y, "w": 8, "h": 8},
        "fieldConfig": {"defaults": {"unit": panel.unit, "min": 0}, "overrides": []},
        "targets": targets,
    }


def alerts() -> str:
    """Prometheus' rules; JSON strings are YAML strings."""
    lines = [
        "# Written by scripts/dashboard.py; docs/operators.md says what to do.",
        "groups:",
        "  - name: vllm_diffusion",
        "    rules:",
    ]
    for alert in ALERTS:
        lines += [
            f"      - alert: {alert.name}",
            f"        expr: {json.dumps(alert.expression)}",
            f"        for: {alert.lasts}",
            f"        labels: {{severity: {alert.severity}}}",
            "        annotations:",
            f"          summary: {json.dumps(alert.says)}",
            f"          description: {json.dumps(alert.remedy)}",
        ]
    return "\n".join(lines) + "\n"


def main() -> None:
    DEPLOY.mkdir(exist_ok=True)
    (DEPLOY / "grafana.json").write_text(json.dumps(grafana(), indent=2) + "\n")
    (DEPLOY / "prometheus-alerts.yml").write_text(alerts())


if __name__ == "__main__":
    main()
