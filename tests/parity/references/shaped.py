"""Sampling fields under parallel refinement, in plain loops: the yardstick of shaped requests.

Nothing of the package, not even its random numbers: SplitMix64 is written down again in NumPy.
One request, one row at a time.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

INF = float("inf")
GAMMA = 0x9E3779B97F4A7C15


@dataclass(frozen=True, kw_only=True)
class Wishes:
    """What a request says besides its prompt; the names are vLLM's."""

    logit_bias: dict[int, float] = field(default_factory=dict)
    allowed_token_ids: tuple[int, ...] = ()
    min_tokens: int = 0
    stop_token_ids: tuple[int, ...] = ()
    bad_words: tuple[tuple[int, ...], ...] = ()
    repetition_penalty: float = 1.0
    frequency_penalty: float = 0.0
    presence_penalty: float = 0.0
    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    seed: int = 0


@dataclass(frozen=True)
class Shaped:
    """What came of it."""

    tokens: list[int]
    steps: int
    slack: float
    """How far the closest decision was from another one."""
    raw_VT: list[Tensor]
    """Of each token, the log-probabilities at its acceptance: before shaping, and after."""
    shaped_VT: list[Tensor]


Look = Callable[[list[int], list[int | None]], Tensor]
"""Logits (L, V) of a canvas behind the known tokens."""


def completes(line: Sequence[int | None], word: Sequence[int]) -> list[int]:
    """Where the word begins in the line."""
    return [i for i in range(len(line)) if list(line[i : i + len(word)]) == list(word)]


def shape(
    logits_V: Tensor, i: int, prompt: list[int], output: list[int], canvas: list, w: Wishes
) -> Tensor:
    """The row of canvas position ``i``."""
    x = logits_V.clone()
    if w.allowed_token_ids:
        x = torch.full_like(x, -INF)
        x[list(w.allowed_token_ids)] = logits_V[list(w.allowed_token_ids)]
    for token, bias in w.logit_bias.items():
        x[token] += bias
    if len(output) + i < w.min_tokens:
        x[list(w.stop_token_ids)] = -INF
    said = Counter(output + [t for j, t in enumerate(canvas) if t is not None and j != i])
    for token in {*prompt, *said}:
        x[token] = (
            x[token] / w.repetition_penalty if x[token] > 0 else x[token] * w.repetition_penalty
        )
        x[token] -= w.frequency_penalty * said[token] + w.presence_penalty * (said[token] > 0)
    for word in w.bad_words:
        for token in set(word):
            line = [*output, *canvas[:i], token, *canvas[i + 1 :]]
            old = [*output, *canvas[:i], None, *canvas[i + 1 :]]
            if len(completes(line, word)) > len(completes(old, word)):
                x[token] = -INF
    return x


def gumbel(seed: int, position: int, step: int, size: int) -> np.ndarray:
    """Float32 noise of one row."""

    def mix(x):
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return x ^ (x >> np.uint64(31))

    with np.errstate(over="ignore"):
        key = mix(np.array([seed % 2**64], dtype=np.uint64) + np.uint64(GAMMA))
        key = mix(mix(key + np.uint64(position)) + np.uint64(step))
        bits = mix(key + np.arange(1, size + 1, dtype=np.uint64) * np.uint64(GAMMA))
    uniform = ((bits >> np.uint64(41)).astype(np.float64) + 0.5) / 2**23
    return -np.log(-np.log(uniform))


def candidate(x: Tensor, position: int, step: int, w: Wishes) -> tuple[int, float]:
    """The token that the row proposes, and how clearly."""
    x = x.double()
    gap = INF
    if w.temperature > 0:
        x = x / w.temperature
        if w.min_p > 0:
            room = x - (x.max() + np.log(w.min_p))
            gap = float(room.abs().min())
            x = torch.where(room < 0, -INF, x)
        ranked = x.argsort(descending=True)
        if w.top_k:
            x[ranked[w.top_k :]] = -INF
        probs, total = x.softmax(-1), 0.0
        for token in ranked.tolist():
            if total >= w.top_p:
                x[token] = -INF
            total += float(probs[token])
            gap = min(gap, abs(total - w.top_p) if w.top_p < 1 else INF)
        x = x + torch.from_numpy(gumbel(w.seed, position, step, len(x)))
    first, second = x.topk(2).values.tolist()
    return int(x.argmax()), min(gap, first - second)


@torch.inference_mode()
def generate(
    look: Look,
    prompt: Sequence[int],
    max_tokens: int,
    *,
    width: Callable[[int], int],
    mask_id: int,
    stop_ids: Sequence[int],
    wishes: Wishes,
    threshold: float,
) -> Shaped:
    """Decode with the confidence rule, one step accepting at least the surest position.

    Args:
        width: length of the canvas behind so many known tokens.
        stop_ids: of the request, the end of sequence among them.
    """
    prompt, output = list(prompt), []
    total, slack = 0, INF
    raw, shaped = [], []
    while True:
        known = prompt + output
        canvas: list[int | None] = [None] * width(len(known))
        notes: dict[int, tuple[Tensor, Tensor]] = {}
        end, step, done = min(len(canvas), max_tokens - len(output)), 0, None
        while done is None:
            logits = look(known, canvas)
            logits[:, mask_id] = -INF
            rows, tokens, sure = {}, {}, {}
            for i, token in enumerate(canvas):
                if token is None:
                    rows[i] = shape(logits[i], i, prompt, output, canvas, wishes)
                    tokens[i], gap = candidate(rows[i], len(known) + i, step, wishes)
                    sure[i] = float(rows[i].softmax(-1)[tokens[i]])
                    slack = min(slack, gap, abs(sure[i] - threshold))
            ranked = sorted(sure, key=lambda i: (-sure[i], i))
            # The order matters to words, and where the bound lets only the surest in.
            decides = ranked if wishes.bad_words or sure[ranked[0]] <= threshold else []
            decides = decides[: None if wishes.bad_words else 2]
            slack = min([slack, *(sure[a] - sure[b] for a, b in pairwise(decides))])
            new = {i for n, i in enumerate(ranked) if n == 0 or sure[i] > threshold}
            after = [tokens[i] if i in new else token for i, token in enumerate(canvas)]
            undone = set()
            for word in wishes.bad_words:
                for start in completes([*output, *after], word):
                    inside = range(start - len(output), start - len(output) + len(word))
                    undone.add(min(new.intersection(inside), key=lambda i: (sure[i], -i)))
            for i in new - undone:
                canvas[i] = tokens[i]
                notes[i] = (logits[i].log_softmax(-1), rows[i].log_softmax(-1))
            step, total = step + 1, total + 1
            for i in range(end):
                if canvas[i] is None:
                    break
                if canvas[i] in stop_ids or i == end - 1:
                    done = i + 1
                    break
        output += [token for token in canvas[:done] if token is not None]
        raw += [notes[i][0] for i in range(done)]
        shaped += [notes[i][1] for i in range(done)]
        if output[-1] in stop_ids or len(output) >= max_tokens:
            return Shaped(output, total, slack, raw, shaped)
