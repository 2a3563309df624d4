"""How far the approximate KV caches change a full-attention model's text, and what they save.

    python benchmarks/cache_agreement.py                               # random weights
    python benchmarks/cache_agreement.py --model DIR --prompts FILE    # a real checkpoint

Decodes the same prompts greedily with ``diffusion_kv_cache`` exact, prefix and dual in ``LLM()``,
one request at a time, and compares each output with the exact one, position by position. Nothing
is timed: rows are tokens that went through the network.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # for the packages of this folder, when run as a script

from rich import box  # noqa: E402
from rich.console import Console  # noqa: E402
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn  # noqa: E402
from rich.table import Table  # noqa: E402

from benchmarks.serving import machine, markdown  # noqa: E402
from benchmarks.serving.server import ServerError, check_model  # noqa: E402
from vllm_diffusion.metrics import DecodeMetrics, decode_metrics  # noqa: E402
from vllm_diffusion.request.params import KV_CACHES  # noqa: E402

Tokens = Sequence[int]
HEADER = (
    "cache",
    "tokens equal",
    "outputs equal",
    "forwards",
    "approximate",
    "rows/forward",
    "rows/output",
)


@dataclass(slots=True)
class Run:
    """All outputs of one cache."""

    outputs: list[Tokens] = field(default_factory=list)
    metrics: list[DecodeMetrics] = field(default_factory=list)
    num_rows: int = 0
    """Tokens that went through the network, in all."""


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--model", type=Path, metavar="DIR", help="default: a random LLaDA of two layers")
    add("--prompts", type=Path, metavar="FILE", help="one a line; default: random tokens")
    add("--num-prompts", type=int, default=50, metavar="N")
    add("--prompt-tokens", type=int, default=32, metavar="N", help="of a random prompt")
    add("--output-tokens", type=int, default=64, metavar="N")
    add("--block-length", type=int, default=16, metavar="N")
    add("--fields", type=json.loads, default={}, metavar="JSON", help="more diffusion_* fields")
    add("--dtype", default="float32")
    add("--seed", type=int, default=0, metavar="N", help="of random prompts and weights")
    add("--docs", type=Path, metavar="FOLDER", help="also write a section of FOLDER/benchmarks.md")
    return parser.parse_args()


def load(folder: Path, arguments: argparse.Namespace) -> Any:
    """The engine, in this process so that its scheduler can be watched."""
    from vllm import LLM

    return LLM(
        str(folder),
        dtype=arguments.dtype,
        enforce_eager=True,
        max_num_seqs=1,
        max_model_len=1024,
        kv_cache_memory_bytes=256 << 20,
        skip_tokenizer_init=arguments.prompts is None,
        disable_log_stats=True,
    )


def read_prompts(llm: Any, arguments: argparse.Namespace) -> list[list[int]]:
    """Token ids; those of a file as the checkpoint's chat template frames them, if it has one."""
    if arguments.prompts is None:
        rng = random.Random(arguments.seed)
        longest = llm.model_config.get_vocab_size() - 16  # special tokens are at the end
        return [
            [rng.randrange(10, longest) for _ in range(arguments.prompt_tokens)]
            for _ in range(arguments.num_prompts)
        ]
    tokenizer = llm.get_tokenizer()
    lines = arguments.prompts.read_text(encoding="utf-8").splitlines()[: arguments.num_prompts]
    if not getattr(tokenizer, "chat_template", None):
        return [tokenizer.encode(line) for line in lines]
    framed = [
        tokenizer.apply_chat_template(
            [{"role": "user", "content": line}], add_generation_prompt=True, tokenize=False
        )
        for line in lines
    ]
    return [tokenizer.encode(text, add_special_tokens=False) for text in framed]


def decode(
    llm: Any,
    kv_cache: str,
    prompts: Sequence[Tokens],
    arguments: argparse.Namespace,
    advance: Callable[[], None],
) -> Run:
    """Every prompt with one cache."""
    from vllm import SamplingParams

    params = SamplingParams(
        temperature=0,
        max_tokens=arguments.output_tokens,
        ignore_eos=True,
        detokenize=False,
        extra_args={
            "diffusion_block_length": arguments.block_length,
            **arguments.fields,
            "diffusion_kv_cache": kv_cache,
        },
    )
    run = Run()
    scheduler = llm.llm_engine.engine_core.engine_core.scheduler
    schedule = type(scheduler).schedule

    def counting(*args: Any, **kwargs: Any) -> Any:
        output = schedule(scheduler, *args, **kwargs)
        run.num_rows += output.total_num_scheduled_tokens
        return output

    scheduler.schedule = counting
    for prompt in prompts:
        (request,) = llm.generate({"prompt_token_ids": list(prompt)}, params, use_tqdm=False)
        run.outputs.append(request.outputs[0].token_ids)
        run.metrics.append(decode_metrics(request.outputs[0]))
        advance()
    del scheduler.schedule
    return run


def compare(run: Run, exact: Run) -> dict[str, float]:
    """The numbers of one row. All outputs are equally long."""
    pairs = list(zip(run.outputs, exact.outputs, strict=True))
    same = [a == b for one, other in pairs for a, b in zip(one, other, strict=True)]
    num_forwards = sum(metrics.num_forwards for metrics in run.metrics)
    return {
        "tokens_equal": sum(same) / len(same),
        "outputs_equal": sum(list(one) == list(other) for one, other in pairs) / len(pairs),
        "forwards": num_forwards / len(pairs),
        "approximate": sum(m.num_approximate_forwards for m in run.metrics) / num_forwards,
        "rows_per_forward": run.num_rows / num_forwards,
        "rows_per_output": run.num_rows / len(pairs),
    }


def cells(rows: dict[str, dict[str, float]]) -> list[list[str]]:
    """The table under ``HEADER``."""
    return [
        [
            name,
            f"{row['tokens_equal']:.1%}",
            f"{row['outputs_equal']:.1%}",
            f"{row['forwards']:.1f}",
            f"{row['approximate']:.1%}",
            f"{row['rows_per_forward']:.1f}",
            f"{row['rows_per_output']:.0f}",
        ]
        for name, row in rows.items()
    ]


RANDOM_WEIGHTS = """
The weights are random: this says that the caches are at work and save rows, and that the text is
far from chance. It says nothing about a trained model. No token is sure here, so the smallest
change of K and V turns some, and each of these turns others: take it as a lower bound, and
measure your checkpoint with `--model` and `--prompts`.
"""


def section(rows: dict[str, dict[str, float]], facts: Any, arguments: argparse.Namespace) -> str:
    """The section of docs/benchmarks.md."""
    what = arguments.model.name if arguments.model else "a random LLaDA of two layers"
    prompts = "lines of a file" if arguments.prompts else f"{arguments.prompt_tokens} random tokens"
    return f"""## Agreement of the approximate caches with exact decoding

{markdown.provenance(facts)}

{arguments.num_prompts} prompts ({prompts}) to {what}, {arguments.dtype}, greedy;
{arguments.output_tokens} tokens in blocks of {arguments.block_length}, one request at a time.
{"" if arguments.model else RANDOM_WEIGHTS}
* cache: `diffusion_kv_cache`.
* tokens equal: to those of exact decoding, position by position; outputs equal: all of them.
* forwards: of one output; approximate: the share of them that reused K and V.
* rows: tokens that a forward computed.

{markdown.table(HEADER, cells(rows))}
"""


def main() -> int:
    arguments = parse_arguments()
    environment = {"VLLM_ENABLE_V1_MULTIPROCESSING": "0", "VLLM_NO_USAGE_STATS": "1"}
    os.environ.update(environment)
    console = Console()
    facts = machine.describe("benchmarks/cache_agreement.py", environment)
    with tempfile.TemporaryDirectory() as temporary:
        if arguments.model:
            try:
                check_model(arguments.model)
            except ServerError as error:
                console.print(f"cache_agreement.py: {error}", style="red", markup=False)
                return 1
            folder = arguments.model
        else:
            from tests.checkpoints import llada

            folder = llada.write(Path(temporary), seed=arguments.seed)
        llm = load(folder, arguments)
        prompts = read_prompts(llm, arguments)
        arguments.num_prompts = len(prompts)
        runs: dict[str, Run] = {}
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
        with Progress(*columns, console=console) as progress:
            for kv_cache in KV_CACHES:
                task = progress.add_task(kv_cache, total=len(prompts))
                runs[kv_cache] = decode(
                    llm, kv_cache, prompts, arguments, partial(progress.advance, task)
                )
    rows = {name: compare(run, runs["exact"]) for name, run in runs.items()}
    table = Table(*HEADER, box=box.SIMPLE_HEAD, title="Agreement with exact decoding", padding=0)
    for row in cells(rows):
        table.add_row(*row)
    console.print(table)
    if arguments.docs:
        markdown.replace_section(
            arguments.docs / "benchmarks.md", "caches", section(rows, facts, arguments)
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
