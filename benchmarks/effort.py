"""What the levels of ``diffusion_effort`` cost and gain.

    python benchmarks/effort.py --docs docs

Decodes the bundled model's test prompts of all tasks greedily in ``LLM()`` at each level, and
counts exact answers and tokens per forward. Neither depends on what shares a batch, or on the
machine.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # for the packages of this folder, when run as a script

from rich.console import Console  # noqa: E402
from rich.progress import track  # noqa: E402
from rich.table import Table  # noqa: E402

from benchmarks.serving import machine, markdown  # noqa: E402
from benchmarks.tiny.prompts import check, load_prompts  # noqa: E402
from benchmarks.tiny.sample import Sample  # noqa: E402
from vllm_diffusion.metrics import DecodeMetrics, decode_metrics  # noqa: E402
from vllm_diffusion.request.effort import LEVELS  # noqa: E402
from vllm_diffusion.request.parsed import parse  # noqa: E402

MODEL = ROOT / "examples" / "models" / "tiny-diffusion"
HEADER = ("diffusion_effort", "threshold", "exact", "tokens/forward", "over medium")
MAX_TOKENS = 160


@dataclass(slots=True)
class Run:
    """All answers at one level."""

    threshold: float
    num_exact: Counter[str] = field(default_factory=Counter)
    """By task."""
    metrics: list[DecodeMetrics] = field(default_factory=list)

    @property
    def tokens_per_forward(self) -> float:
        num_forwards = sum(m.num_forwards for m in self.metrics)
        return sum(m.num_tokens for m in self.metrics) / num_forwards


def decode(llm: Any, samples: Sequence[Sample], level: str) -> Run:
    """Ask everything at one level, 16 prompts at a time."""
    from vllm import SamplingParams

    fields = {"diffusion_effort": level}
    plan = llm.llm_engine.vllm_config.model_config.diffusion_plan
    run = Run(parse(fields, plan).decode.threshold)
    params = SamplingParams(temperature=0, max_tokens=MAX_TOKENS, extra_args=fields)
    # A call has one list of tools for all of its chats.
    alike = [[s for s in samples if not s.tools], *([s] for s in samples if s.tools)]
    for group in track(alike, level):
        chats = [sample.prompt_messages for sample in group]
        tools = group[0].tools if group else None
        answers = llm.chat(chats, params, tools=tools, use_tqdm=False)
        for sample, answer in zip(group, answers, strict=True):
            run.num_exact[sample.task] += check(sample, answer.outputs[0].text)
            run.metrics.append(decode_metrics(answer.outputs[0]))
    return run


def cells(runs: dict[str, Run], num_samples: int) -> list[list[str]]:
    medium = runs["medium"].tokens_per_forward
    return [
        [
            level,
            f"{run.threshold:g}",
            f"{run.num_exact.total() / num_samples:.1%}",
            f"{run.tokens_per_forward:.2f}",
            f"{run.tokens_per_forward / medium:.2f}",
        ]
        for level, run in runs.items()
    ]


def by_task(runs: dict[str, Run], samples: Sequence[Sample]) -> list[list[str]]:
    num_of = Counter(sample.task for sample in samples)
    return [
        [task, *(f"{run.num_exact[task] / count:.0%}" for run in runs.values())]
        for task, count in sorted(num_of.items())
    ]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--num-prompts", type=int, default=50, metavar="N", help="a task")
    parser.add_argument("--docs", type=Path, metavar="FOLDER", help="write FOLDER/benchmarks.md")
    arguments = parser.parse_args()
    environment = {
        "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
        "OMP_NUM_THREADS": "1",
        "VLLM_NO_USAGE_STATS": "1",
    }
    os.environ.update(environment)
    from vllm import LLM

    facts = machine.describe("benchmarks/effort.py", environment)
    samples = load_prompts("test", arguments.num_prompts)
    llm = LLM(str(MODEL), max_num_seqs=16, max_model_len=1024, kv_cache_memory_bytes=256 << 20)
    runs = {level: decode(llm, samples, level) for level in LEVELS}
    rows = cells(runs, len(samples))
    table = Table(*HEADER)
    for row in rows:
        table.add_row(*row)
    Console().print(table)
    if arguments.docs:
        text = f"""## Levels of effort

{markdown.provenance(facts)}

{len(samples)} test prompts of all tasks, bundled model, greedy; `api.md` says what a level stands
for. Tokens per forward count every commit and the prompt.

{markdown.table(HEADER, rows)}

Exact answers by task:

{markdown.table(("task", *runs), by_task(runs, samples))}
"""
        markdown.replace_section(arguments.docs / "benchmarks.md", "effort", text)


if __name__ == "__main__":
    main()
