"""A causal context and a bidirectional canvas: Nemotron-Labs-Diffusion (NVIDIA, 2026).

The same weights decode in three ways: block diffusion (``generate``), one token at a time
(``autoregressive``), and that with the canvas as drafter (``self_speculate``).
"""

from collections.abc import Collection, Sequence

import torch
from torch import Tensor

from tests.parity.references.choose import (
    Answer,
    Network,
    Rule,
    choose,
    filled,
    lead,
    settled,
    without,
)


def canvas_mask(length: int, start: int) -> Tensor:
    """Bool (T, T): causal, but from ``start`` on every token sees every other."""
    mask = torch.ones(length, length, dtype=torch.bool).tril()
    mask[start:] = True
    return mask


def look(network: Network, tokens: list[int], start: int, mask_id: int) -> Tensor:
    """Logits of the tokens from ``start`` on, which are the canvas."""
    mask = canvas_mask(len(tokens), start)
    return without(mask_id, network.logits(tokens, mask)[start:])


def look_causally(network: Network, tokens: list[int], start: int, mask_id: int) -> Tensor:
    """Logits of the tokens from ``start`` on, each of which predicts the next one."""
    mask = canvas_mask(len(tokens), len(tokens))
    return without(mask_id, network.logits(tokens, mask)[start:])


@torch.inference_mode()
def generate(
    network: Network,
    prompt: Sequence[int],
    max_tokens: int,
    *,
    mask_id: int,
    block: int,
    policy: str = "confidence",
    threshold: float = 0.9,
    steps: int | None = None,
    stop_ids: Collection[int] = (),
    max_len: int = 1024,
) -> Answer:
    """Decode greedily, block by block from the prompt's end.

    A block starts as its autoregressive first token and masks. When it has converged, it becomes
    causal context.
    """
    rule = Rule(policy, threshold, block, steps)
    known, count, slack = list(prompt), 0, float("inf")
    last = min(len(prompt) + max_tokens, max_len)
    while True:
        start = len(known)
        row = look_causally(network, known, start - 1, mask_id)
        canvas: list[int | None] = [int(row.argmax())]
        canvas += [None] * (min(block, max_len - start) - 1)
        end = min(len(canvas), last - start)
        count, slack = count + 1, min(slack, lead(row))
        step = 0
        while (done := settled(canvas, 0, end, stop_ids)) is None:
            logits = look(network, known + filled(canvas, mask_id), start, mask_id)
            masked = [i for i, token in enumerate(canvas) if token is None]
            accepted, gap = choose(policy, threshold, rule.floor(step), masked, logits)
            for i in accepted:
                canvas[i] = int(logits[i].argmax())
            step, slack = step + 1, min(slack, gap)
        count += step
        known += filled(canvas[:done], mask_id)
        if known[-1] in stop_ids or len(known) >= last:
            return Answer(known[len(prompt) :], count, slack)


@torch.inference_mode()
def self_speculate(
    network: Network,
    prompt: Sequence[int],
    max_tokens: int,
    *,
    mask_id: int,
    block: int,
    stop_ids: Collection[int] = (),
    max_len: int = 1024,
) -> Answer:
    """Linear self-speculation: a canvas drafts, a causal forward verifies. Lossless.

    A round starts from a last token whose successor is not known. The canvas of that token and
    masks drafts in one forward; the causal forward over the draft says what comes after each of
    its tokens, and is believed as long as the draft said so too, and once more.
    """
    known, count, slack = list(prompt), 1, float("inf")
    last = min(len(prompt) + max_tokens, max_len)
    row = look_causally(network, known, len(known) - 1, mask_id)
    known.append(int(row.argmax()))
    slack = lead(row)
    while known[-1] not in stop_ids and len(known) < last:
        start = len(known) - 1
        num_drafted = min(block, max_len - start) - 1
        canvas = look(network, known + [mask_id] * num_drafted, start, mask_id)[1:]
        draft = canvas.argmax(-1).tolist()
        causal = look_causally(network, known + draft, start, mask_id)
        count += 2
        for i, token in enumerate(causal.argmax(-1).tolist()):
            known.append(token)
            slack = min(slack, lead(causal[i]))
            if token in stop_ids or len(known) >= last or i == num_drafted:
                break
            slack = min(slack, lead(canvas[i]))
            if token != draft[i]:
                break
    return Answer(known[len(prompt) :], count, slack)


@torch.inference_mode()
def autoregressive(
    network: Network,
    prompt: Sequence[int],
    max_tokens: int,
    *,
    mask_id: int,
    stop_ids: Collection[int] = (),
    max_len: int = 1024,
) -> Answer:
    """Decode greedily, one token a step."""
    known, slack = list(prompt), float("inf")
    last = min(len(prompt) + max_tokens, max_len)
    while len(known) < last and (len(known) == len(prompt) or known[-1] not in stop_ids):
        row = look_causally(network, known, len(known) - 1, mask_id)
        known.append(int(row.argmax()))
        slack = min(slack, lead(row))
    return Answer(known[len(prompt) :], len(known) - len(prompt), slack)
