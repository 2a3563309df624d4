"""Accuracy per task against tokens per denoising step.

python -m benchmarks.tiny.evaluate diffusion --split validation --per-task 40
python -m benchmarks.tiny.evaluate diffusion --split test --thresholds 2 0.99
python -m benchmarks.tiny.evaluate twin --objective ar --split test
python -m benchmarks.tiny.evaluate examples/models/tiny-diffusion --tasks open --thresholds 2 0.995
"""

import argparse
import json
from collections import defaultdict
from pathlib import Path

from tokenizers import Tokenizer

from .batches import Objective
from .chat import render
from .checkpoint import append_log, load_model, load_progress
from .decode import NEVER, Generated, generate_blocks, generate_tokens
from .model import TinyModel
from .paths import BUILD_DIR
from .prompts import check, load_prompts
from .sample import Sample
from .tasks.registry import GROUPS
from .tokenizer import load_tokenizer

THRESHOLDS = (NEVER, 0.999, 0.995, 0.99, 0.98, 0.95, 0.9)
BATCH = 32


def run(
    model: TinyModel,
    tokenizer: Tokenizer,
    samples: list[Sample],
    objective: Objective,
    threshold: float,
    is_drafted: bool = False,
) -> dict[str, dict[str, float]]:
    """Accuracy (in per cent) and tokens per step of each task and of their ``mean``."""
    prompts = [tokenizer.encode(render(s.prompt_messages, s.tools)).ids for s in samples]
    drafts = [tokenizer.encode(s.draft).ids if s.draft else [] for s in samples]
    order = sorted(range(len(samples)), key=lambda i: (samples[i].task, len(prompts[i])))
    rows: dict[str, list[tuple[bool, int, int]]] = defaultdict(list)
    for first in range(0, len(order), BATCH):
        chosen = order[first : first + BATCH]
        batch = [prompts[i] for i in chosen]
        out: Generated = (
            generate_tokens(model, batch)
            if objective == "ar"
            else generate_blocks(
                model, batch, threshold, drafts=[drafts[i] for i in chosen] if is_drafted else None
            )
        )
        counts = zip(out.num_tokens.tolist(), out.num_steps.tolist(), strict=True)
        for i, answer, (num_tokens, num_steps) in zip(chosen, out.answers, counts, strict=True):
            is_right = check(samples[i], tokenizer.decode(answer))
            rows[samples[i].task].append((is_right, num_tokens, num_steps))
    rows["mean"] = [row for task_rows in rows.values() for row in task_rows]
    return {
        task: {
            "accuracy": 100 * sum(r[0] for r in task_rows) / len(task_rows),
            "tokens_per_step": sum(r[1] for r in task_rows) / sum(r[2] for r in task_rows),
        }
        for task, task_rows in rows.items()
    }


def quick_accuracy(
    model: TinyModel, tokenizer: Tokenizer, objective: Objective, per_task: int = 6
) -> dict[str, float]:
    """A small validation run for the training log."""
    samples = load_prompts("validation", per_task)
    mean = run(model, tokenizer, samples, objective, 0.99)["mean"]
    return {"validation": mean["accuracy"], "tokens_per_step": mean["tokens_per_step"]}


def format_table(results: dict[str, dict[str, dict[str, float]]]) -> str:
    """A Markdown table: one row a task, one column a threshold."""
    columns = list(results)
    lines = ["| task | " + " | ".join(columns) + " |", "|---|" + "---|" * len(columns)]
    for task in results[columns[0]]:
        cells = [
            f"{results[c][task]['accuracy']:.1f} / {results[c][task]['tokens_per_step']:.2f}"
            for c in columns
        ]
        lines.append(f"| {task} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("stage", help="or a model folder that ``export`` has written")
    parser.add_argument("--objective", choices=("ar", "diffusion"), default="diffusion")
    parser.add_argument("--split", choices=("validation", "test"), default="validation")
    parser.add_argument("--per-task", type=int, default=40)
    parser.add_argument("--thresholds", type=float, nargs="+", default=THRESHOLDS)
    parser.add_argument("--tasks", choices=GROUPS, default="eleven", help="open: calls.py")
    parser.add_argument("--drafts", action="store_true", help="decode edits from their drafts")
    parser.add_argument("--quick", action="store_true", help="append a small run to the log")
    args = parser.parse_args()
    if args.quick:  # beside a run in progress
        progress, tokenizer = load_progress(args.stage), load_tokenizer()
        result = quick_accuracy(load_model(args.stage), tokenizer, args.objective)
        append_log(args.stage, progress, result)
        return
    model, tokenizer = load_model(args.stage), load_tokenizer()
    samples = load_prompts(args.split, args.per_task, GROUPS[args.tasks])
    results = {}
    for threshold in (NEVER,) if args.objective == "ar" else args.thresholds:
        name = "one a step" if threshold >= 1 else str(threshold)
        results[name] = run(model, tokenizer, samples, args.objective, threshold, args.drafts)
        print(name, results[name]["mean"], flush=True)
    BUILD_DIR.mkdir(parents=True, exist_ok=True)
    kinds = [*(["drafted"] * args.drafts), *([args.tasks] * (args.tasks != "eleven"))]
    name = "-".join((Path(args.stage).name, *kinds, args.split))
    path = BUILD_DIR / f"{name}.json"
    path.write_text(json.dumps(results, indent=2) + "\n")
    print(format_table(results))


if __name__ == "__main__":
    main()
