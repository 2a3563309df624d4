"""The evaluation prompts for lm-eval, and its results against our own check of the same prompts.

    python -m benchmarks.tiny.harness write build/lm-eval/tiny.jsonl --per-task 10
    python -m benchmarks.tiny.harness choices build/lm-eval/tiny_choice.jsonl --per-task 10
    python -m benchmarks.tiny.harness compare build/lm-eval/results URL --per-task 10

``make lm-eval`` runs the first and the last, and lm-eval in between; ``make clients`` scores the
choices. Prompts with tools are left out: lm-eval has no
place for tools.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from .prompts import check, load_prompts
from .sample import Sample

MAX_TOKENS = 160
"""As in ``examples/lm_eval/tiny.yaml``."""
NUM_CHOICES = 4
CHOICE_TASKS = ("json", "fim")


def samples(per_task: int) -> list[Sample]:
    """Test prompts that are one message each."""
    return [sample for sample in load_prompts("test", per_task) if not sample.tools]


def write(path: Path, per_task: int) -> None:
    """One JSON object a line, as the task's YAML file reads them."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as lines:
        for sample in samples(per_task):
            question = sample.prompt_messages[-1]["content"]
            row = {"task": sample.task, "question": question, "answer": sample.answer.strip()}
            lines.write(json.dumps(row) + "\n")


def choices(samples: Sequence[Sample]) -> list[dict[str, Any]]:
    """A row a prompt: its right answer among three that are right for others of its task."""
    rows = []
    for number, sample in enumerate(samples):
        right = sample.answer.strip()
        others = [each.answer.strip() for each in samples if each.task == sample.task]
        wrong = [answer for answer in dict.fromkeys(others) if answer != right][: NUM_CHOICES - 1]
        gold = number % (len(wrong) + 1)
        offered = [*wrong[:gold], right, *wrong[gold:]]
        question = sample.prompt_messages[-1]["content"]
        rows.append({"question": question, "choices": offered, "gold": gold})
    return rows


def write_choices(path: Path, per_task: int) -> None:
    """As ``examples/lm_eval/tiny_choice.yaml`` reads them; the short answers of two tasks."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = choices(load_prompts("test", per_task, CHOICE_TASKS))
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))


def ask(url: str, asked: Sequence[Sample]) -> list[str]:
    """The server's own answers to the same messages, without lm-eval."""
    from openai import OpenAI

    client = OpenAI(base_url=f"{url}/v1", api_key="none")
    model = client.models.list().data[0].id

    def answer(sample: Sample) -> str:
        messages: Any = sample.prompt_messages
        reply = client.chat.completions.create(
            model=model, messages=messages, max_tokens=MAX_TOKENS, temperature=0
        )
        return reply.choices[0].message.content or ""

    with ThreadPoolExecutor(4) as pool:
        return list(pool.map(answer, asked))


def harness_answers(folder: Path) -> tuple[float, list[str]]:
    """lm-eval's score and its logged answers, in the order of the prompts."""
    (results,) = folder.rglob("results_*.json")
    (log,) = folder.rglob("samples_*.jsonl")
    score = json.loads(results.read_text())["results"]["tiny"]["exact_match,stripped"]
    rows = sorted(map(json.loads, log.read_text().splitlines()), key=lambda row: row["doc_id"])
    return float(score), [row["resps"][0][0] for row in rows]


def compare(folder: Path, url: str, per_task: int) -> int:
    """Print a table with a row for each of lm-eval's clients; the number of rows that differ."""
    asked = samples(per_task)
    own = ask(url, asked)
    own_score = sum(map(check, asked, own)) / len(asked)
    print(f"{len(asked)} prompts; asked by ourselves: {own_score:.4f} exact")
    num_different = 0
    for run in sorted(path for path in folder.iterdir() if path.is_dir()):
        score, texts = harness_answers(run)
        checked = sum(map(check, asked, texts)) / len(asked)
        same = sum(a.strip() == b.strip() for a, b in zip(texts, own, strict=True))
        print(
            f"{run.name}: lm-eval says {score:.4f}, our check of its answers {checked:.4f}, "
            f"{same} of {len(asked)} texts as asked by ourselves"
        )
        num_different += abs(score - checked) > 1e-9
    return num_different


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    commands = parser.add_subparsers(dest="command", required=True)
    for name in ("write", "choices", "compare"):
        command = commands.add_parser(name)
        command.add_argument("path", type=Path)
        if name == "compare":
            command.add_argument("url")
        command.add_argument("--per-task", type=int, default=10)
    args = parser.parse_args()
    if args.command == "write":
        write(args.path, args.per_task)
    elif args.command == "choices":
        write_choices(args.path, args.per_task)
    else:
        raise SystemExit(compare(args.path, args.url, args.per_task) != 0)


if __name__ == "__main__":
    main()
