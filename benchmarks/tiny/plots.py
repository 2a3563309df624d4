"""Curves of the training logs, as PNG.

python -m benchmarks.tiny.plots
"""

import json
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

from .paths import BUILD_DIR, PLOTS_DIR

STAGES = {"base": "AR base", "diffusion": "diffusion", "twin": "AR twin"}


def read_log(stage: str) -> list[dict[str, float]]:
    """The lines of a stage; empty if it has not run."""
    path = BUILD_DIR / f"{stage}.jsonl"
    return [json.loads(line) for line in path.open()] if path.exists() else []


def draw_curve(key: str, label: str, path: Path) -> None:
    """One line a stage over the rows it has used."""
    figure, axes = plt.subplots(figsize=(7, 4))
    for stage, name in STAGES.items():
        lines = [line for line in read_log(stage) if key in line]
        if lines:
            axes.plot(
                [line["tokens"] / 1e6 for line in lines], [line[key] for line in lines], label=name
            )
    axes.set(xlabel="million rows of the network in this stage", ylabel=label)
    if key == "loss":
        axes.set_yscale("log")
    axes.grid(alpha=0.3)
    axes.legend()
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    plt.close(figure)


def draw_frontier(split: str, path: Path) -> None:
    """Accuracy against tokens per denoising step over the thresholds."""
    source = BUILD_DIR / f"diffusion-{split}.json"
    if not source.exists():
        return
    results: dict[str, Any] = json.loads(source.read_text())
    figure, axes = plt.subplots(figsize=(7, 4))
    pairs = [(name, result["mean"]) for name, result in results.items()]
    means = dict(sorted(pairs, key=lambda pair: pair[1]["tokens_per_step"]))
    speeds = [mean["tokens_per_step"] for mean in means.values()]
    accuracies = [mean["accuracy"] for mean in means.values()]
    axes.plot(speeds, accuracies, "o-")
    for name, speed, accuracy in zip(means, speeds, accuracies, strict=True):
        axes.annotate(
            name, (speed, accuracy), textcoords="offset points", xytext=(4, 5), fontsize=8
        )
    axes.set(xlabel="tokens per denoising step", ylabel="exact answers, %")
    axes.grid(alpha=0.3)
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    plt.close(figure)


def main() -> None:
    """All plots."""
    PLOTS_DIR.mkdir(parents=True, exist_ok=True)
    draw_curve("loss", "training loss", PLOTS_DIR / "tiny-loss.png")
    draw_curve(
        "validation", "exact answers on validation prompts, %", PLOTS_DIR / "tiny-accuracy.png"
    )
    draw_frontier("validation", PLOTS_DIR / "tiny-thresholds.png")


if __name__ == "__main__":
    main()
