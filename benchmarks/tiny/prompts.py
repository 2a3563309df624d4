"""Fixed evaluation prompts, and the check of an answer.

    from benchmarks.tiny.prompts import check, load_prompts

    for sample in load_prompts("validation", per_task=10):
        text = ask_server(sample.prompt_messages, sample.tools)
        is_right = check(sample, text)

The first ``n`` prompts of a task are the same whatever ``per_task`` is.
"""

from collections.abc import Iterable
from random import Random
from typing import Literal

from .sample import Sample
from .splits import draw
from .tasks.registry import TASKS

EVAL_SEED = "evaluation"


def load_prompts(
    split: Literal["validation", "test"], per_task: int, tasks: Iterable[str] = TASKS
) -> list[Sample]:
    """``per_task`` distinct prompts of each of ``tasks``, interleaved by task."""
    columns: list[list[Sample]] = []
    for task in tasks:
        rng = Random(f"{EVAL_SEED}/{split}/{task}")
        found: dict[str, Sample] = {}
        while len(found) < per_task:
            sample = draw(rng, task, split)
            found.setdefault(f"{sample.prompt_messages}{sample.tools}", sample)
        columns.append(list(found.values()))
    return [sample for row in zip(*columns, strict=True) for sample in row]


def check(sample: Sample, text: str) -> bool:
    """Whether the text is the right answer, up to surrounding white space."""
    return text.strip() == sample.answer.strip()
