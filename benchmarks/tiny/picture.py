"""A picture of one answer as its blocks fill in, from the bundled model.

    python -m benchmarks.tiny.picture

One line a forward: what was masked, what it accepted, what had stood before. Writes
docs/plots/block.png.
"""

import argparse
from dataclasses import dataclass
from pathlib import Path

import matplotlib
import torch
from tokenizers import Tokenizer as Vocabulary
from torch import Tensor

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.patches import Rectangle

from .batches import BLOCK
from .chat import render
from .checkpoint import load_model
from .decode import accept
from .model import TinyModel
from .paths import MODELS_DIR, PLOTS_DIR
from .tokenizer import EOS_ID, MASK_ID, load_tokenizer

QUESTION = "Convert this CSV to JSON:\ncity,food,age\ncairo,pear,53\nbern,melon,31\ndelhi,plum,58"
MASKED, ACCEPTED, STANDS, NEVER = "#d9dde3", "#2f7ed8", "#dbe9f9", "#ffffff"


@dataclass(frozen=True)
class Forward:
    """The canvas after a forward."""

    start: int
    """Of its block, from the start of the prompt."""
    tokens_L: list[int]
    accepted_L: list[bool]


@torch.inference_mode()
def trace(model: TinyModel, prompt: list[int], threshold: float) -> list[Forward]:
    """Every forward of an answer; without a cache, so each sees the whole sequence again."""
    tokens_T = torch.tensor(prompt)
    forwards: list[Forward] = []
    start = len(prompt) // BLOCK * BLOCK
    while True:
        fill = torch.full((start + BLOCK - len(tokens_T),), MASK_ID)
        tokens_T = torch.cat((tokens_T, fill))
        is_answer_T = torch.arange(len(tokens_T)) >= len(prompt)
        while not _is_done(tokens_T[start:], is_answer_T[start:]):
            forwards.append(_forward(model, tokens_T, is_answer_T, start, threshold))
        if (tokens_T[len(prompt) :] == EOS_ID).any():
            return forwards
        start += BLOCK


def _is_done(tokens_L: Tensor, is_answer_L: Tensor) -> bool:
    """No mask is left, or none in front of the end."""
    masked_L = tokens_L == MASK_ID
    is_end_L = (tokens_L == EOS_ID) & is_answer_L & (masked_L.cumsum(0) == 0)
    return bool(is_end_L.any() or not masked_L.any())


def _forward(
    model: TinyModel, tokens_T: Tensor, is_answer_T: Tensor, start: int, threshold: float
) -> Forward:
    position_T = torch.arange(len(tokens_T))
    mask_TT = position_T[:, None] // BLOCK >= position_T // BLOCK
    hidden = model(tokens_T[None], position_T[None], mask_TT[None, None])
    predicted, accepted = accept(
        model.lm_head(hidden[:, start:]),
        tokens_T[None, start:],
        is_answer_T[None, start:],
        threshold,
    )
    tokens_T[start:] = torch.where(accepted[0], predicted[0], tokens_T[start:])
    return Forward(start, tokens_T[start:].tolist(), accepted[0].tolist())


def _label(tokenizer: Vocabulary, token: int) -> str:
    """A token's text, white space made visible."""
    if token in (MASK_ID, EOS_ID):
        return "" if token == MASK_ID else "end"
    text = tokenizer.decode([token])
    if text.startswith("\n"):  # an indented line
        return f"⏎{len(text) - 1 or ''}"
    return text.replace(" ", "·")


def draw(forwards: list[Forward], num_prompt: int, path: Path) -> None:
    """One row a forward."""
    tokenizer = load_tokenizer()
    figure, axes = plt.subplots(figsize=(12, 0.46 * len(forwards) + 1.1), layout="constrained")
    for row, forward in enumerate(forwards):
        for column, (token, accepted) in enumerate(
            zip(forward.tokens_L, forward.accepted_L, strict=True)
        ):
            is_prompt = forward.start + column < num_prompt
            color = ACCEPTED if accepted else MASKED if token == MASK_ID else STANDS
            color = NEVER if is_prompt else color
            axes.add_patch(Rectangle((column, row), 0.94, 0.86, color=color, linewidth=0))
            text = _label(tokenizer, token)
            axes.text(
                column + 0.47,
                row + 0.43,
                "" if is_prompt else text,
                ha="center",
                va="center",
                fontsize=9 if len(text) < 9 else 7,
                family="monospace",
                color="white" if accepted else "#30506f",
            )
        num = sum(forward.accepted_L)
        axes.text(-0.15, row + 0.43, f"forward {row + 1}", ha="right", va="center", fontsize=9)
        axes.text(BLOCK + 0.1, row + 0.43, f"+{num}", ha="left", va="center", fontsize=9)
    axes.set(xlim=(-1.6, BLOCK + 0.8), ylim=(len(forwards), 0))
    axes.axis("off")
    total = sum(sum(forward.accepted_L) for forward in forwards)
    handles = [Rectangle((0, 0), 1, 1, color=color) for color in (MASKED, ACCEPTED, STANDS)]
    figure.legend(
        handles,
        ("masked", "accepted by this forward", "accepted before"),
        loc="outside upper center",
        ncols=3,
        frameon=False,
        title=f"{total} tokens in {len(forwards)} forwards, blocks of {BLOCK}",
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=130)
    plt.close(figure)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default=str(MODELS_DIR / "tiny-diffusion"))
    parser.add_argument("--question", default=QUESTION)
    parser.add_argument("--threshold", type=float, default=0.995)
    parser.add_argument("--plot", type=Path, default=PLOTS_DIR / "block.png")
    arguments = parser.parse_args()
    messages = [{"role": "user", "content": arguments.question}]
    prompt = load_tokenizer().encode(render(messages, [])).ids
    forwards = trace(load_model(arguments.model), prompt, arguments.threshold)
    draw(forwards, len(prompt), arguments.plot)
    print(f"{len(forwards)} forwards; written: {arguments.plot}")


if __name__ == "__main__":
    main()
