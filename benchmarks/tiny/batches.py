"""From samples to padded batches of about 4096 token positions.

A pool of samples is encoded, sorted by length, cut into batches and the batches are shuffled, so
little is lost to padding. Pool ``i`` of a seed is always the same: a run resumes at a pool.
Suffixes: B sequences, T positions.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from random import Random
from typing import Literal

import torch
from tokenizers import Tokenizer
from torch import Tensor

from .chat import render
from .drafts import HOLE, lay_draft
from .model import Shape
from .sample import Sample
from .splits import draw_many
from .tasks.registry import MIXTURES
from .tokenizer import EOS_ID, PAD_ID

Objective = Literal["ar", "diffusion"]
BLOCK = 16
NUM_COPIES = 2
POOL = 1024
BATCH_TOKENS = 4096
GAP_SHARE, MAX_GAPS = {"needle": 1.0, "rag": 0.5}, 4
"""Samples whose positions have gaps; other tasks: one in eight."""
SYSTEM_PROMPTS = ("You are a helpful assistant.", "Answer with the result alone.")


@dataclass(frozen=True)
class Encoded:
    """A prompt and its answer (with EOS) as token ids.

    ``draft`` lies on the positions from the prompt's end on. ``gaps`` are places, in blocks, with
    the number of positions that are left out there.
    """

    prompt: list[int]
    answer: list[int]
    draft: list[int] = field(default_factory=list)
    gaps: dict[int, int] = field(default_factory=dict)

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
    position_BT: Tensor
    draft_BT: Tensor  # HOLE where nothing is drafted
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


def _draw_gaps(rng: Random, num_blocks: int, length: int) -> dict[int, int]:
    """Places where positions are left out, so that far ones are seen in short sequences."""
    room = rng.randrange(Shape().max_position_embeddings - length)
    places = rng.sample(range(1, num_blocks), min(num_blocks - 1, rng.randint(1, MAX_GAPS)))
    shares = [rng.random() for _ in places]
    return {
        place: int(room * share / sum(shares)) for place, share in zip(places, shares, strict=True)
    }


def _noised(tokenizer: Tokenizer, sample: Sample, rng: Random) -> Encoded:
    """A sample with its draft laid, and with gaps in its positions."""
    plain = encode(tokenizer, sample)
    prompt, answer = plain.prompt, plain.answer
    draft = tokenizer.encode(sample.draft).ids if sample.draft else []
    laid = lay_draft(answer, draft, len(prompt), BLOCK, rng) if draft else []
    share = GAP_SHARE.get(sample.task, 0.125)
    num_blocks = len(prompt) // BLOCK
    has_gaps = num_blocks > 1 and rng.random() < share
    gaps = _draw_gaps(rng, num_blocks, plain.filled_length) if has_gaps else {}
    return Encoded(prompt, answer, laid, gaps)


def collate(items: list[Encoded]) -> Batch:
    """Pad to the longest; between the answer and the end of its block stands EOS."""
    length = max(item.filled_length for item in items)
    rows, drafts = [], []
    steps_BT = torch.ones(len(items), length, dtype=torch.long)
    steps_BT[:, 0] = 0
    for row, item in enumerate(items):
        tokens = item.prompt + item.answer
        tokens += [EOS_ID] * (item.filled_length - len(tokens))
        rows.append(tokens + [PAD_ID] * (length - len(tokens)))
        drafts.append(([HOLE] * len(item.prompt) + item.draft + [HOLE] * length)[:length])
        for block, gap in item.gaps.items():
            steps_BT[row, block * BLOCK] += gap
    prompts = torch.tensor([len(item.prompt) for item in items])
    answers = torch.tensor([len(item.answer) for item in items])
    filled = torch.tensor([item.filled_length for item in items])
    return Batch(
        torch.tensor(rows),
        steps_BT.cumsum(1).clamp_max(Shape().max_position_embeddings - 1),
        torch.tensor(drafts),
        prompts,
        prompts + answers,
        filled,
    )


def pool_batches(
    tokenizer: Tokenizer, seed: str, pool: int, objective: Objective, mixture: str = "eleven"
) -> Iterator[Batch]:
    """The batches of one pool, drawn by the weights of a mixture."""
    rng = Random(f"{seed}/{pool}/system")
    samples = draw_many(f"{seed}/{pool}", POOL, weights=MIXTURES[mixture])
    items = [_noised(tokenizer, _with_system_prompt(sample, rng), rng) for sample in samples]
    items.sort(key=lambda item: (item.num_positions(objective), len(item.prompt)))
    groups: list[list[Encoded]] = [[]]
    for item in items:
        if (len(groups[-1]) + 1) * item.num_positions(objective) > BATCH_TOKENS:
            groups.append([])
        groups[-1].append(item)
    rng.shuffle(groups)
    return map(collate, groups)
