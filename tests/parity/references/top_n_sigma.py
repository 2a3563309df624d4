"""Top-n-sigma sampling (arXiv 2411.07641) under parallel refinement, in plain loops.

One request, one row at a time, with the shaped reference's rows and candidates.
"""

from collections.abc import Callable, Sequence
from math import sqrt

import torch
from torch import Tensor

from tests.parity.references.shaped import INF, Look, Wishes, candidate, shape


def cut(x: Tensor, num_sigma: float) -> tuple[Tensor, float]:
    """The row without what is too far from its largest logit, and how clearly."""
    logits = x.double().tolist()
    possible = [logit for logit in logits if logit > -INF]
    mean = sum(possible) / len(possible)
    sigma = sqrt(sum((logit - mean) ** 2 for logit in possible) / len(possible))
    lowest = max(possible) - num_sigma * sigma
    room = min(abs(logit - lowest) for logit in possible)
    return torch.where(x.double() < lowest, -INF, x), room


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
    num_sigma: float,
) -> tuple[list[int], float]:
    """Tokens, the surest candidate a step; and how far the closest decision was from another."""
    prompt, output, slack = list(prompt), [], INF
    while True:
        known = prompt + output
        canvas: list[int | None] = [None] * width(len(known))
        end, step, done = min(len(canvas), max_tokens - len(output)), 0, None
        while done is None:
            logits = look(known, canvas)
            logits[:, mask_id] = -INF
            found = []
            for i, token in enumerate(canvas):
                if token is None:
                    row = shape(logits[i], i, prompt, output, canvas, wishes)
                    left, room = cut(row, num_sigma)
                    token, gap = candidate(left, len(known) + i, step, wishes)
                    # How sure the model is of it: the row before anything was left out.
                    found.append((float(row.softmax(-1)[token]), -i, token))
                    slack = min(slack, room, gap)
            found.sort(reverse=True)
            if len(found) > 1:
                slack = min(slack, found[0][0] - found[1][0])
            canvas[-found[0][1]] = found[0][2]
            step += 1
            for i in range(end):
                if canvas[i] is None:
                    break
                if canvas[i] in stop_ids or i == end - 1:
                    done = i + 1
                    break
        output += [token for token in canvas[:done] if token is not None]
        if output[-1] in stop_ids or len(output) >= max_tokens:
            return output, slack
