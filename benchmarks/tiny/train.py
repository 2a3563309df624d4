"""Train one stage, or continue it where it stopped.

    python -m benchmarks.tiny.train base --objective ar --budget 5e6
    python -m benchmarks.tiny.train diffusion --objective diffusion --init base --budget 40e6
    python -m benchmarks.tiny.train twin --objective ar --init base --budget 40e6

The budget counts rows of the network. Checkpoint and log go to ``build/tiny/STAGE.{pt,jsonl}``;
the checkpoint is written after each pool of samples, and running the command again continues.
"""

import argparse
import os
import time
from typing import Any

import torch
from tqdm import tqdm

from .batches import BLOCK, NUM_COPIES, Batch, Objective, pool_batches
from .checkpoint import append_log, checkpoint_path, load_model
from .evaluate import quick_accuracy
from .loss import ar_loss, diffusion_loss
from .model import TinyModel, compile_pointwise
from .optim import Optimizer, schedule
from .paths import BUILD_DIR
from .tasks.registry import MIXTURES
from .tokenizer import load_tokenizer

ENTROPY_WEIGHT, ENTROPY_FROM = 0.15, 0.25


def count_rows(batch: Batch, objective: Objective) -> int:
    """Rows of the network a batch takes, padding included."""
    batch_size, length = batch.tokens_BT.shape
    if objective == "ar":
        return batch_size * (int(batch.answer_end_B.max()) - 1)
    start_B = batch.prompt_B // BLOCK * BLOCK
    return batch_size * (length - BLOCK + NUM_COPIES * int((batch.filled_B - start_B).max()))


class Run:
    """The state of one stage: model, optimizer, position in the data, tokens used."""

    def __init__(
        self,
        stage: str,
        objective: Objective,
        budget: int,
        init: str | None,
        peak: float = 1.0,
        mixture: str = "eleven",
    ) -> None:
        self.stage, self.objective, self.budget = stage, objective, budget
        self.peak, self.mixture = peak, mixture
        self.tokenizer = load_tokenizer()
        self.model = load_model(init).train() if init else TinyModel().bfloat16()
        self.optimizer = Optimizer(self.model)
        self.progress: dict[str, Any] = {"pool": 0, "tokens": 0, "samples": 0, "seconds": 0.0}
        if checkpoint_path(stage).exists():
            state = torch.load(checkpoint_path(stage), weights_only=False)
            self.optimizer.load_state_dict(state["optimizer"])
            self.progress = state["progress"]

    def save(self) -> None:
        """Write the checkpoint; the old one stays whole until the new one is."""
        path = checkpoint_path(self.stage)
        state = {"optimizer": self.optimizer.state_dict(), "progress": self.progress}
        torch.save(state, path.with_suffix(".tmp"))
        os.replace(path.with_suffix(".tmp"), path)

    def step(self, batch: Batch, generator: torch.Generator) -> tuple[float, float]:
        """One update; returns loss and token accuracy."""
        share = self.progress["tokens"] / self.budget
        if self.objective == "ar":
            loss, accuracy = ar_loss(self.model, batch)
        else:
            entropy_weight = ENTROPY_WEIGHT if share > ENTROPY_FROM else 0.0
            loss, accuracy = diffusion_loss(self.model, batch, generator, entropy_weight)
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step(self.peak * schedule(share))
        self.progress["tokens"] += count_rows(batch, self.objective)
        self.progress["samples"] += len(batch.tokens_BT)
        return loss.item(), accuracy.item()

    def pool(self, bar: "tqdm[Any]") -> None:
        """Train on one pool of samples."""
        pool = self.progress["pool"]
        generator = torch.Generator().manual_seed(pool)
        losses, accuracies = [], []
        # Twin and diffusion draw the same samples in the same order.
        seed = "base" if self.stage == "base" else "main"
        for batch in pool_batches(self.tokenizer, seed, pool, self.objective, self.mixture):
            began, before = time.monotonic(), self.progress["tokens"]
            loss, accuracy = self.step(batch, generator)
            self.progress["seconds"] += time.monotonic() - began
            losses.append(loss)
            accuracies.append(accuracy)
            bar.update(self.progress["tokens"] - before)
            bar.set_postfix(loss=f"{loss:.3f}", accuracy=f"{accuracy:.3f}")
            if self.progress["tokens"] >= self.budget:
                return  # a few batches are no fair mean for the log
        self.progress["pool"] += 1
        means = {"loss": sum(losses) / len(losses), "accuracy": sum(accuracies) / len(accuracies)}
        append_log(self.stage, self.progress, means)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("stage", help="name of the checkpoint")
    parser.add_argument("--objective", choices=("ar", "diffusion"), required=True)
    parser.add_argument("--budget", type=float, required=True, help="rows of the network")
    parser.add_argument("--init", help="stage or model folder to start from")
    parser.add_argument("--peak", type=float, default=1.0, help="factor on the learning rates")
    parser.add_argument("--mixture", choices=MIXTURES, default="eleven", help="tasks/registry.py")
    parser.add_argument("--evaluate-every", type=float, default=3e6, help="rows, 0 for never")
    parser.add_argument("--compile", action="store_true", help="fuse; needs a C++ compiler")
    args = parser.parse_args()
    BUILD_DIR.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    if args.compile:
        compile_pointwise()
    run = Run(args.stage, args.objective, int(args.budget), args.init, args.peak, args.mixture)
    next_evaluation = run.progress["tokens"] + args.evaluate_every
    bar = tqdm(total=run.budget, initial=run.progress["tokens"], unit="tok", mininterval=5)
    while run.progress["tokens"] < run.budget:
        run.pool(bar)
        run.save()
        is_done = run.progress["tokens"] >= run.budget
        if args.evaluate_every and (is_done or run.progress["tokens"] >= next_evaluation):
            next_evaluation += args.evaluate_every
            result = quick_accuracy(run.model, run.tokenizer, run.objective)
            append_log(run.stage, run.progress, result)
    bar.close()


if __name__ == "__main__":
    main()
