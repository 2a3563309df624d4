"""Long prompts: the time to the first text, forwards for the prompt, and what a step costs then.

    python benchmarks/prefill.py --docs docs
    python benchmarks/prefill.py --lengths 1024 8192 --budget 2048

Runs ``LLM()`` in this process, one request at a time and no prefix cached, on a random SDAR
checkpoint whose context is as long as the longest prompt (or on ``--model``). A step accepts one
token, so that steps are many and alike.

forwards   engine steps before the first one with a canvas; the prompt's last chunk shares that one
first text from the request to its first tokens: the prompt, and all steps of the first block
step       the mean of the steps after that, and how much of it is the network's
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # for the packages of this folder, when run as a script

from rich import box  # noqa: E402
from rich.console import Console  # noqa: E402
from rich.table import Table  # noqa: E402

from benchmarks.serving import machine, markdown  # noqa: E402
from benchmarks.serving.spans import Spans  # noqa: E402

ENVIRONMENT = {
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_LOGGING_LEVEL": "ERROR",
}
LENGTHS = (1024, 2048, 8192, 32_768)
NUM_TOKENS = 48
BLOCK = 8
PLOT = "plots/prefill.png"
Row = dict[str, float]


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--model", type=Path, help="a checkpoint of any family (default: a random one)")
    add("--lengths", type=int, nargs="+", default=list(LENGTHS), metavar="N")
    add("--budget", type=int, default=4096, metavar="N", help="tokens of a step (default: 4096)")
    add("--threads", type=int, default=1, metavar="N", help="of the model (default: 1)")
    add("--repeats", type=int, default=3, metavar="N", help="the median is reported")
    add("--json", type=Path, metavar="FILE", help="write every number here")
    add("--docs", type=Path, metavar="FOLDER", help="also write a section of FOLDER/benchmarks.md")
    return parser.parse_args()


def random_checkpoint(folder: Path, max_len: int) -> Path:
    """Two layers of the released format; what is measured does not depend on the weights."""
    from tests.checkpoints import sdar

    return sdar.write(folder, block_size=BLOCK, max_position_embeddings=max_len)


class Bench:
    """One engine, stepped by hand."""

    def __init__(self, model: Path, max_len: int, budget: int) -> None:
        from vllm import LLM

        llm = LLM(
            str(model),
            dtype="bfloat16",
            max_model_len=max_len,
            max_num_batched_tokens=budget,
            max_num_seqs=1,
            kv_cache_memory_bytes=256 << 20,
            enable_prefix_caching=False,
            skip_tokenizer_init=True,
            disable_log_stats=True,
        )
        self.engine = llm.llm_engine
        core = self.engine.engine_core.engine_core
        self.block: int = llm.model_config.diffusion_plan.canvas_length
        self.spans = Spans("wall")
        self.spans.wrap(core.model_executor.driver_worker.worker.model_runner.model, "forward", "f")

    def measure(self, name: str, length: int) -> Row:
        """One request, from its arrival to its end."""
        from vllm import SamplingParams

        from vllm_diffusion.metrics import decode_metrics

        rng = random.Random(length)
        prompt = {"prompt_token_ids": [rng.randrange(10, 500) for _ in range(length)]}
        params = SamplingParams(
            temperature=0,
            max_tokens=NUM_TOKENS,
            ignore_eos=True,
            detokenize=False,
            extra_args={"diffusion_threshold": 1.0},
        )
        begin = time.perf_counter()
        self.engine.add_request(name, prompt, params)
        first, steps, completion = 0.0, [], None
        while self.engine.has_unfinished_requests():
            self.spans.take()
            start = time.perf_counter()
            outputs = self.engine.step()
            now = time.perf_counter()
            if first:
                steps.append((1e3 * (now - start), self.spans.take()["f"]))
            for output in outputs:
                completion = output.outputs[0]
                first = first or (now - begin if completion.token_ids else 0.0)
        return {
            "forwards": decode_metrics(completion).num_prefill_forwards,
            "first": first,
            "step": statistics.median(step for step, _ in steps),
            "network": statistics.median(network for _, network in steps),
        }


def measure(model: Path, arguments: argparse.Namespace) -> tuple[int, dict[str, Row]]:
    """The block length, and the median of each number by length."""
    longest = max(arguments.lengths)
    bench = Bench(model, longest + 2 * NUM_TOKENS, arguments.budget)
    bench.measure("warm", min(arguments.lengths))
    rows = {}
    for length in arguments.lengths:
        found = [bench.measure(f"{length}-{n}", length) for n in range(arguments.repeats)]
        rows[str(length)] = {
            name: statistics.median(row[name] for row in found) for name in found[0]
        }
    return bench.block, rows


def cells(result: dict[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Header and rows of the table."""
    header = ["prompt", "forwards", "one a block", "first text, s", "ms a step", "of it network"]
    rows = [
        [
            f"{int(length):,}",
            f"{row['forwards']:.0f}",
            f"{int(length) // result['block']:,}",
            f"{row['first']:.2f}",
            f"{row['step']:.2f}",
            f"{row['network']:.2f}",
        ]
        for length, row in result["rows"].items()
    ]
    return header, rows


def section(result: dict[str, Any]) -> str:
    """The section of docs/benchmarks.md."""
    header, rows = cells(result)
    return f"""## Long prompts

{markdown.provenance(result["machine"])}

{result["model"]}, blocks of {result["block"]}, bfloat16, one request at a time, no prefix cached,
a token a step; median of {result["repeats"]} requests. A step takes {result["budget"]:,} tokens.

* forwards: for the prompt alone. Its last chunk shares a forward with the first canvas.
* one a block: what an engine needs that computes a prompt block by block, as SGLang does.
* first text: the prompt, and all steps of the first block.
* ms a step: after that, and the network's part of it. What is left is the engine, which does not
  grow with the prompt.

{markdown.table(header, rows)}

![Time to the first text, and milliseconds a step, by the prompt's length]({PLOT})
"""


def draw(result: dict[str, Any], path: Path) -> None:
    """Both curves into a PNG file."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    rows = {int(length): row for length, row in result["rows"].items()}
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3.8), layout="constrained")
    left.plot(list(rows), [row["first"] for row in rows.values()], "o-", color="#21618c")
    for length, row in rows.items():
        note = f"{row['forwards']:.0f} forwards"
        left.annotate(note, (length, row["first"]), (6, -10), textcoords="offset points", size=8)
    left.set(xscale="log", yscale="log", ylabel="seconds", title="Time to the first text")
    right.plot(
        list(rows), [row["step"] for row in rows.values()], "o-", color="#21618c", label="step"
    )
    network = [row["network"] for row in rows.values()]
    right.plot(list(rows), network, "s--", color="#888888", label="of it the network")
    right.set(xscale="log", ylabel="milliseconds", title="A denoising step", ylim=(0, None))
    right.legend(frameon=False)
    for axes in (left, right):
        axes.set(xlabel="prompt tokens", xticks=list(rows), xticklabels=[f"{n:,}" for n in rows])
        axes.minorticks_off()
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=130)
    plt.close(figure)


def main() -> int:
    arguments = parse_arguments()
    environment = ENVIRONMENT | {"OMP_NUM_THREADS": str(arguments.threads)}
    os.environ.update(environment)
    console = Console()
    facts = machine.describe("benchmarks/prefill.py", environment)
    if warning := machine.busy_warning(facts):
        console.print(f"[yellow]Warning: {warning}.")
    with tempfile.TemporaryDirectory(prefix="prefill-") as folder:
        max_len = max(arguments.lengths) + 2 * NUM_TOKENS
        model = arguments.model or random_checkpoint(Path(folder), max_len)
        block, rows = measure(model, arguments)
    result = {
        "machine": facts,
        "model": arguments.model.name if arguments.model else "A random SDAR of two layers",
        "block": block,
        "budget": arguments.budget,
        "repeats": arguments.repeats,
        "rows": rows,
    }
    header, lines = cells(result)
    table = Table(*header, box=box.SIMPLE_HEAD, title="Long prompts")
    for line in lines:
        table.add_row(*line)
    console.print(table)
    if arguments.json:
        arguments.json.write_text(json.dumps(result, indent=1) + "\n")
    if arguments.docs:
        draw(result, arguments.docs / PLOT)
        markdown.replace_section(arguments.docs / "benchmarks.md", "prefill", section(result))
    return 0


if __name__ == "__main__":
    sys.exit(main())
