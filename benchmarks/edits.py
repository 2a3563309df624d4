"""Edits of a text: from a draft, from nothing, and token by token.

    vllm-diffusion serve examples/models/tiny-diffusion --kv-cache-memory-bytes 268435456
    python -m benchmarks.edits --url http://127.0.0.1:8000

The bundled model's task of edits: an instruction and a text, the answer being the whole text after
the change. With a draft the text lies on the canvas, and the model changes what it doubts; without
one the whole text is decoded. Token by token, each token of the answer is a forward.
"""

from __future__ import annotations

import argparse
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import httpx
from rich.console import Console
from rich.table import Table

from benchmarks.tiny.prompts import check, load_prompts
from benchmarks.tiny.sample import Sample


@dataclass(frozen=True)
class Outcome:
    """One edit."""

    is_right: bool
    forwards: int
    tokens: int


def draft_of(sample: Sample) -> str:
    """The text before the change; of a task without one, the answer itself."""
    return str(getattr(sample, "draft", None) or sample.answer)


def edit(client: httpx.Client, model: str, sample: Sample, *, has_draft: bool) -> Outcome:
    body: dict[str, Any] = {
        "model": model,
        "messages": sample.prompt_messages,
        "max_tokens": 400,
        "temperature": 0,
    }
    if has_draft:
        body["vllm_xargs"] = {"diffusion_draft": draft_of(sample)}
    response = client.post("/v1/chat/completions", json=body)
    response.raise_for_status()
    told = response.json()
    counted = told["metrics"]["speculative_decoding"]["diffusion"]
    text = told["choices"][0]["message"]["content"] or ""
    return Outcome(
        check(sample, text), counted["num_denoising_steps"], told["usage"]["completion_tokens"]
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--url", default="http://127.0.0.1:8000")
    parser.add_argument("--task", default="edit", help="of benchmarks/tiny/tasks")
    parser.add_argument("--split", default="test", choices=("validation", "test"))
    parser.add_argument("--samples", type=int, default=200, metavar="N")
    parser.add_argument("--at-once", type=int, default=8, metavar="N")
    arguments = parser.parse_args()
    samples = load_prompts(arguments.split, arguments.samples, [arguments.task])
    table = Table("", "exact", "forwards per edit", "tokens per edit")
    with httpx.Client(base_url=arguments.url, timeout=300) as client:
        model = client.get("/v1/models").json()["data"][0]["id"]
        means = {}
        for name, has_draft in (("with a draft", True), ("from nothing", False)):
            with ThreadPoolExecutor(arguments.at_once) as pool:
                found = list(
                    pool.map(lambda one: edit(client, model, one, has_draft=has_draft), samples)  # noqa: B023
                )
            exact = sum(one.is_right for one in found) / len(found)
            forwards = means[name] = sum(one.forwards for one in found) / len(found)
            tokens = sum(one.tokens for one in found) / len(found)
            table.add_row(name, f"{exact:.1%}", f"{forwards:.2f}", f"{tokens:.1f}")
    table.add_row("token by token", "", f"{tokens:.2f}", f"{tokens:.1f}")
    Console().print(table)
    drafted = means["with a draft"]
    Console().print(
        f"forwards with a draft: {drafted / means['from nothing']:.2f} of those from nothing, "
        f"{drafted / tokens:.2f} of those token by token"
    )


if __name__ == "__main__":
    main()
