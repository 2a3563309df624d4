"""What an automaton over tokens costs a step: greedy, and with a temperature of 1.

    python benchmarks/constrained_step.py

One block of 16 open positions of one request at 151,936 tokens, without its forward pass, one
thread. Milliseconds of CPU time, the least and the median of many: other work on the machine counts
as little as it can.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # for the packages of this folder, when run as a script

import numpy as np  # noqa: E402
import torch  # noqa: E402
from rich.console import Console  # noqa: E402
from rich.table import Table  # noqa: E402

from benchmarks.constraints.ours import LENGTH  # noqa: E402
from benchmarks.constraints.schemas import EMAIL, TASKS  # noqa: E402
from benchmarks.constraints.vocabularies import MASK, STOP, made_up  # noqa: E402
from vllm_diffusion.denoise.sample import Cut, Draws  # noqa: E402
from vllm_diffusion.sampling.top_k_top_p import TopKTopP  # noqa: E402
from vllm_diffusion.structured.compiler import Compiler  # noqa: E402
from vllm_diffusion.structured.constraint import Constraint  # noqa: E402
from vllm_diffusion.structured.dfa_matcher import TokenDfaMatcher, TokenDfaTables  # noqa: E402
from vllm_diffusion.structured.limits import Limits  # noqa: E402
from vllm_diffusion.structured.token_dfa import automaton_of  # noqa: E402
from vllm_diffusion.worker.constrained import Constraints  # noqa: E402
from vllm_diffusion.worker.constrained_draws import Drawing  # noqa: E402

CASES = {
    "schema, three enums": Constraint("json", json.dumps(TASKS["enums, 400 codes"].schema)),
    "expression, e-mail": Constraint("regex", EMAIL),
    "2,000 choices": Constraint("choice", json.dumps([f"choice {n}" for n in range(2000)])),
}


def spent(call: Callable[[], object], count: int) -> str:
    found = []
    for _ in range(count):
        began = time.thread_time()
        call()
        found.append(1000 * (time.thread_time() - began))
    return f"{min(found):.2f} / {sorted(found)[count // 2]:.2f}"


def draws_of(vocab_size: int, top_p: float) -> Draws:
    row, ones = np.arange(LENGTH), torch.ones(LENGTH)
    row_N = torch.from_numpy(row)
    zeros = torch.zeros_like(row_N)
    all_N, values = ones.bool(), (zeros + vocab_size, top_p * ones)
    return Draws(
        row_N=row_N,
        temperature_N=ones,
        seed_N=zeros,
        position_N=row_N,
        step_N=zeros,
        cuts=(Cut(TopKTopP.leave, values, all_N),) if top_p < 1 else (),
        rows=row,
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--size", type=int, default=151_936)
    parser.add_argument("--count", type=int, default=30)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    words = made_up(arguments.size)
    compiler = Compiler(words, Limits(seconds=60))
    noise = torch.randn(LENGTH, words.size, generator=torch.Generator().manual_seed(0)) * 3
    one = {"num_rows_B": LENGTH, "row_start_B": 0, "width_B": LENGTH}
    canvases: Any = SimpleNamespace(**{key: np.array([value]) for key, value in one.items()})
    tokens = torch.zeros(1, LENGTH, dtype=torch.int64)
    masked = torch.ones(1, LENGTH, dtype=torch.bool)
    table = Table("constraint", "logits", "greedy ms", "temperature 1 ms", "and top-p 0.9 ms")
    for name, constraint in CASES.items():
        compiled = compiler.compile(constraint)
        assert compiled.tokens is not None
        tables = TokenDfaTables(automaton_of(compiled.tokens, (STOP,)), words.num_words)
        start, left = TokenDfaMatcher(tables), [len(compiled.ending) + 100]
        for dtype in (torch.float32, torch.bfloat16):
            constraints, logits = Constraints(MASK), noise.to(dtype)

            def step(
                draws: Draws | None,
                logits: torch.Tensor = logits,
                constraints: Constraints = constraints,
                start: TokenDfaMatcher = start,
                left: list[int] = left,
            ) -> object:
                drawing = None if draws is None else Drawing(draws, lambda _: None, MASK)
                return constraints.texts(
                    logits, canvases, [0], [start], left, tokens, masked, drawing
                )

            ways = (None, draws_of(words.size, 1.0), draws_of(words.size, 0.9))
            counts = (arguments.count, arguments.count, 3)
            cells = [
                spent(lambda draws=draws, step=step: step(draws), count)  # type: ignore[misc]
                for draws, count in zip(ways, counts, strict=True)
            ]
            table.add_row(name, str(dtype).removeprefix("torch."), *cells)
    Console().print(table)


if __name__ == "__main__":
    main()
