"""Train, validation and test prompts, disjoint by construction.

The split of a prompt is a function of its text alone, and samples that fall into another split
than the one asked for are drawn again. No prompt can therefore be in two splits.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping
from random import Random
from typing import Literal

from .sample import Sample
from .tasks.registry import EVERY_TASK, WEIGHTS

Split = Literal["train", "validation", "test"]


def split_of(sample: Sample) -> Split:
    """90 % train, 5 % validation, 5 % test, by a hash of what was asked."""
    text = json.dumps([sample.prompt_messages[-1], sample.tools], sort_keys=True)
    bucket = int.from_bytes(hashlib.md5(text.encode()).digest()[:4], "big") % 100
    if bucket < 90:
        return "train"
    return "validation" if bucket < 95 else "test"


def draw(rng: Random, task: str, split: Split) -> Sample:
    """The next sample of a task that belongs to the split."""
    make = EVERY_TASK[task]
    while split_of(sample := make(rng)) != split:
        pass
    return sample


def draw_many(
    seed: str, num_samples: int, split: Split = "train", weights: Mapping[str, float] = WEIGHTS
) -> Iterator[Sample]:
    """Samples of tasks drawn by their weights; the seed alone decides which."""
    rng = Random(seed)
    names, shares = [*weights], [*weights.values()]
    for _ in range(num_samples):
        yield draw(rng, rng.choices(names, shares)[0], split)
