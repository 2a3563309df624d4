"""Throughput of one rank, of a pipeline of two and of two tensor ranks, by requests at a time.

    python benchmarks/ranks.py [--at 1 4 16] [--only PP=2] [--docs docs]

Each is an ``LLM()`` in a process of its own, whose ranks are processes of one thread, on a random
SDAR checkpoint wide enough that the network takes most of a step. A pipeline keeps two steps under
way: with two requests or more each rank has one.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # for the packages of this folder, when run as a script

from rich.console import Console  # noqa: E402

from benchmarks.serving import machine, markdown  # noqa: E402

ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "VLLM_LOGGING_LEVEL": "ERROR",
    "VLLM_NO_USAGE_STATS": "1",
}
LAYOUTS: dict[str, dict[str, int]] = {
    "one rank": {},
    "PP=2": {"pipeline_parallel_size": 2},
    "TP=2": {"tensor_parallel_size": 2},
}
SHAPE: dict[str, Any] = {
    "hidden_size": 512,
    "intermediate_size": 1536,
    "num_hidden_layers": 8,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "head_dim": 64,
    "block_size": 16,
    "vocab_size": 2048,
}
NUM_TOKENS = 64
PROMPT = 48


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--at", type=int, nargs="+", default=[1, 4, 16], metavar="N", help="requests at a time")
    add("--only", nargs="+", choices=LAYOUTS, default=list(LAYOUTS))
    add("--repeats", type=int, default=3, metavar="N", help="the median is reported")
    add("--docs", type=Path, metavar="FOLDER", help="also write a section of FOLDER/benchmarks.md")
    add("--measure", nargs=2, help=argparse.SUPPRESS)  # in a process of its own: layout, model
    return parser.parse_args()


def measure(layout: str, model: str, arguments: argparse.Namespace) -> dict[str, list[float]]:
    """Output tokens per second, by requests at a time."""
    from vllm import LLM, SamplingParams

    llm = LLM(
        model,
        dtype="bfloat16",
        enforce_eager=True,
        max_model_len=256,
        max_num_seqs=max(arguments.at),
        kv_cache_memory_bytes=64 << 20,
        enable_prefix_caching=False,
        skip_tokenizer_init=True,
        disable_log_stats=True,
        distributed_executor_backend="mp",
        **LAYOUTS[layout],
    )
    params = SamplingParams(
        temperature=0,
        max_tokens=NUM_TOKENS,
        ignore_eos=True,
        detokenize=False,
        extra_args={"diffusion_policy": "static", "diffusion_max_steps": 4},
    )
    rng, rates = random.Random(0), {}
    for at in arguments.at:
        found = []
        for _ in range(arguments.repeats + 1):
            prompts: Any = [
                {"prompt_token_ids": [rng.randrange(10, 2000) for _ in range(PROMPT)]}
                for _ in range(at)
            ]
            begin = time.perf_counter()
            llm.generate(prompts, params, use_tqdm=False)
            found.append(at * NUM_TOKENS / (time.perf_counter() - begin))
        rates[str(at)] = found[1:]  # the first one warms up
    return rates


def measure_apart(layout: str, model: Path) -> dict[str, list[float]]:
    """``measure`` in a fresh process.

    Raises:
        RuntimeError: it failed, with what it wrote.
    """
    done = subprocess.run(
        [sys.executable, __file__, *sys.argv[1:], "--measure", layout, str(model)],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"{layout}: {done.stderr[-3000:]}")
    result: dict[str, list[float]] = json.loads(done.stdout.splitlines()[-1])
    return result


def as_table(rates: dict[str, dict[str, list[float]]], at: list[int]) -> str:
    header = ["tokens/s", *(f"{n} at a time" for n in at)]
    rows = [
        [
            layout,
            *(
                f"{statistics.median(found):.0f} ({min(found):.0f}-{max(found):.0f})"
                for found in by_number.values()
            ),
        ]
        for layout, by_number in rates.items()
    ]
    return markdown.table(header, rows)


def section(facts: dict[str, Any], table: str, repeats: int) -> str:
    """The section of docs/benchmarks.md."""
    return f"""## One rank, a pipeline, tensor parallelism

{markdown.provenance(facts)}

A random SDAR of {SHAPE["num_hidden_layers"]} layers, {SHAPE["hidden_size"]} wide, bfloat16, blocks
of {SHAPE["block_size"]} in 4 steps each; {NUM_TOKENS} tokens behind prompts of {PROMPT}; a rank
is a process of one thread. Output tokens per second, median of {repeats} passes (range).

{table}
"""


def main() -> int:
    arguments = parse_arguments()
    os.environ.update(ENVIRONMENT)
    if arguments.measure:
        print(json.dumps(measure(*arguments.measure, arguments)), flush=True)
        os._exit(0)  # nothing may be written behind the result
    from tests.checkpoints import sdar

    console = Console()
    facts = machine.describe("benchmarks/ranks.py", ENVIRONMENT)
    if warning := machine.busy_warning(facts):
        console.print(f"[yellow]Warning: {warning}.")
    with tempfile.TemporaryDirectory(prefix="ranks-") as folder:
        model = sdar.write(Path(folder), **SHAPE)
        rates = {}
        for layout in arguments.only:
            with console.status(f"measuring {layout}"):
                rates[layout] = measure_apart(layout, model)
    table = as_table(rates, arguments.at)
    console.print(table)
    if arguments.docs:
        text = section(facts, table, arguments.repeats)
        markdown.replace_section(arguments.docs / "benchmarks.md", "ranks", text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
