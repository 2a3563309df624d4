"""From samples to padded batches of about 4096 token positions.

A pool of samples is encoded, sorted by length, cut into batches and the batches are shuffled, so
little is lost to padding. Pool ``i`` of a seed is always the same: a run resumes at a pool.
Suffixes: B sequences, T positions.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from random import Random
from typing import Literal

import torch
from tokenizers import Tokenizer
from torch import Tensor

from .chat import render
from .sample import Sample
from .splits import draw_many
from .tasks.registry import OPEN_WEIGHTS, WEIGHTS
from .tokenizer import EOS_ID, PAD_ID

Objective = Literal["ar", "diffusion"]
BLOCK = 16
NUM_COPIES = 2
POOL = 1024
BATCH_TOKENS = 4096
SYSTEM_PROMPTS = ("You are a helpful assistant.", "Answer with the result alone.")


@dataclass(frozen=True)
class Encoded:
    """A prompt and its answer (with EOS) as token ids."""

    prompt: list[int]
    answer: list[int]

    @property
    def filled_length(self) -> int:
        """Length up to the end of the last block."""
        return -(-(len(self.prompt) + len(self.answer)) // BLOCK) * BLOCK

    def num_positions(self, objective: Objective) -> int:
        """Rows of the network this sample costs in training."""
        if objective == "ar":
            return len(self.prompt) + len(self.answer) - 1
        first_block = len(self.prompt) // BLOCK * BLOCK
        return self.filled_length - BLOCK + NUM_COPIES * (self.filled_length - first_block)


@dataclass(frozen=True)
class Batch:
    """Tokens filled with EOS after the answer, up to the longest sequence of the batch."""

    tokens_BT: Tensor
    prompt_B: Tensor  # prompt lengths
    answer_end_B: Tensor  # one past the first EOS
    filled_B: Tensor  # end of the last block


def encode(tokenizer: Tokenizer, sample: Sample) -> Encoded:
    """Prompt and answer apart, as they meet at inference."""
    prompt = tokenizer.encode(render(sample.prompt_messages, sample.tools)).ids
    return Encoded(prompt, [*tokenizer.encode(sample.answer).ids, EOS_ID])


def _with_system_prompt(sample: Sample, rng: Random) -> Sample:
    if rng.random() > 0.06:
        return sample
    system = {"role": "system", "content": rng.choice(SYSTEM_PROMPTS)}
    return Sample(sample.task, [system, *sample.prompt_messages], sample.answer, sample.tools)


def collate(items: list[Encoded]) -> Batch:
    """Pad to the longest; between the answer and the end of its block stands EOS."""
    length = max(item.filled_length for item in items)
    rows = []
    for item in items:
        tokens = item.prompt + item.answer
        tokens += [EOS_ID] * (item.filled_length - len(tokens))
        rows.append(tokens + [PAD_ID] * (length - len(tokens)))
    prompts = torch.tensor([len(item.prompt) for item in items])
    answers = torch.tensor([len(item.answer) for item in items])
    filled = torch.tensor([item.filled_length for item in items])
    return Batch(torch.tensor(rows), prompts, prompts + answers, filled)


def pool_batches(
    tokenizer: Tokenizer, seed: str, pool: int, objective: Objective, *, is_open: bool = False
) -> Iterator[Batch]:
    """The batches of one pool; an open one has forms of any name as well."""
    rng = Random(f"{seed}/{pool}/system")
    samples = draw_many(f"{seed}/{pool}", POOL, weights=OPEN_WEIGHTS if is_open else WEIGHTS)
    items = [encode(tokenizer, _with_system_prompt(sample, rng)) for sample in samples]
    items.sort(key=lambda item: (item.num_positions(objective), len(item.prompt)))
    groups: list[list[Encoded]] = [[]]
    for item in items:
        if (len(groups[-1]) + 1) * item.num_positions(objective) > BATCH_TOKENS:
            groups.append([])
        groups[-1].append(item)
    rng.shuffle(groups)
    return map(collate, groups)
