"""What the engine adds to the model in one step, for diffusion and for its autoregressive twin.

    python benchmarks/step_overhead.py
    python benchmarks/step_overhead.py --clock cpu     # on a machine with other work

Runs ``LLM()`` in this process, a token a step, and splits each step in the steady state:

forward    the network
logits     the output layer
sampler    from logits to tokens; the denoising step of a diffusion model
runner     the model runner around these: inputs, attention metadata, bookkeeping
scheduler  scheduling, and the scheduler's update from the output
core       what is left of the engine core
front end  outputs to texts; another process when serving, so it is not in the overhead

Overhead is sampler, runner, scheduler and core together.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # for the packages of this folder, when run as a script

from rich import box  # noqa: E402
from rich.console import Console  # noqa: E402
from rich.table import Table  # noqa: E402

from benchmarks.serving import machine, markdown  # noqa: E402
from benchmarks.serving.server import LOG_TAIL_LINES, ServerError, check_model  # noqa: E402
from benchmarks.serving.spans import CLOCKS, Spans  # noqa: E402

MODEL_PARTS = ("forward", "logits")
ENGINE_PARTS = ("sampler", "runner", "scheduler", "core")
PARTS = (*MODEL_PARTS, *ENGINE_PARTS)
FRONT_END = "front end"
NUM_WARM_STEPS = 4  # the prompts' forwards, and what follows at once


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--diffusion", type=Path, default=Path("examples/models/tiny-diffusion"), metavar="FOLDER")
    add("--twin", type=Path, default=Path("examples/models/tiny-ar"), metavar="FOLDER")
    add("--batch", type=int, nargs="+", default=[1, 4], metavar="N")
    add("--threads", type=int, default=1, metavar="N", help="of the model (default: 1)")
    add("--prompt-tokens", type=int, default=48, metavar="N")
    add("--output-tokens", type=int, default=160, metavar="N")
    add("--repeats", type=int, default=5, metavar="N", help="the median one is reported")
    add(
        "--clock",
        choices=tuple(CLOCKS),
        default="wall",
        help="cpu counts this thread's time alone, which other work on the machine hardly changes; "
        "it needs --threads 1 (default: wall)",
    )
    add("--json", type=Path, metavar="FILE", help="write every number here")
    add("--docs", type=Path, metavar="FOLDER", help="also write a section of FOLDER/benchmarks.md")
    add("--measure", type=Path, help=argparse.SUPPRESS)  # in a process of its own, one model
    arguments = parser.parse_args()
    if arguments.clock == "cpu" and arguments.threads > 1:
        parser.error("--clock cpu needs --threads 1: it does not see the other threads' time")
    return arguments


def install(llm: Any, spans: Spans) -> None:
    """Wrap the seams between the parts; their names are the same in both model runners."""
    engine = llm.llm_engine
    core = engine.engine_core.engine_core
    runner = core.model_executor.driver_worker.worker.model_runner
    spans.wrap(runner.model, "forward", "forward")
    spans.wrap(runner.model, "compute_logits", "logits")
    spans.wrap(runner, "sample" if hasattr(runner, "sample") else "_sample", "sampler")
    for method in ("execute_model", "sample_tokens"):
        spans.wrap(runner, method, "runner")
    for method in ("schedule", "update_from_output"):
        spans.wrap(core.scheduler, method, "scheduler")
    spans.wrap(core, "step_fn", "core")
    spans.wrap(engine, "step", FRONT_END)


def measure_batch(llm: Any, spans: Spans, num_reqs: int, arguments: argparse.Namespace) -> Any:
    """Mean milliseconds of a step by part, one dict a repeat."""
    from vllm import SamplingParams

    is_diffusion = llm.model_config.architecture != "Qwen3ForCausalLM"
    params = SamplingParams(
        temperature=0,
        max_tokens=arguments.output_tokens,
        ignore_eos=True,
        extra_args={"diffusion_threshold": 1.0} if is_diffusion else None,
    )
    rng = random.Random(0)
    repeats = []
    for repeat in range(arguments.repeats + 1):
        for index in range(num_reqs):
            ids = [rng.randrange(10, 500) for _ in range(arguments.prompt_tokens)]
            llm.llm_engine.add_request(f"{repeat}-{index}", {"prompt_token_ids": ids}, params)
        steps = []
        while llm.llm_engine.has_unfinished_requests():
            spans.take()
            llm.llm_engine.step()
            steps.append(spans.take())
        steps = steps[NUM_WARM_STEPS:-1]
        if repeat > 0:  # the first one warms up
            repeats.append(
                {
                    part: statistics.mean(step.get(part, 0.0) for step in steps)
                    for part in (*PARTS, FRONT_END)
                }
            )
    return repeats


def measure(model: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    """Every batch size of one model: the repeat whose step time is the median."""
    from vllm import LLM

    llm = LLM(
        str(model),
        dtype="bfloat16",
        max_model_len=1024,
        max_num_seqs=max(arguments.batch),
        kv_cache_memory_bytes=256 << 20,
        enable_prefix_caching=False,
        disable_log_stats=True,
    )
    spans = Spans(arguments.clock)
    install(llm, spans)
    rows = {}
    for num_reqs in arguments.batch:
        repeats = measure_batch(llm, spans, num_reqs, arguments)
        for found in repeats:
            found["step"] = sum(found[part] for part in PARTS)
            found["overhead"] = sum(found[part] for part in ENGINE_PARTS)
        repeats.sort(key=lambda found: found["step"])
        row = repeats[len(repeats) // 2]
        row |= {"step_min": repeats[0]["step"], "step_max": repeats[-1]["step"]}
        rows[str(num_reqs)] = row
    return rows


def measure_apart(model: Path) -> dict[str, Any]:
    """``measure`` in a fresh process, since one process serves one model.

    Raises:
        ServerError: it failed; the message ends with what it wrote.
    """
    check_model(model)
    done = subprocess.run(
        [sys.executable, __file__, *sys.argv[1:], "--measure", str(model)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    lines = done.stdout.splitlines()
    if done.returncode != 0:
        tail = "\n".join(lines[-LOG_TAIL_LINES:])
        raise ServerError(f"measuring {model.name} failed with status {done.returncode}:\n{tail}")
    result: dict[str, Any] = json.loads(lines[-1])
    return result


def cells(result: dict[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Header and rows of the table."""
    columns = ["step", *PARTS, "overhead", FRONT_END]
    rows = [
        [f"{model}, batch {batch}", *(f"{row[column]:.2f}" for column in columns)]
        for model, by_batch in result["models"].items()
        for batch, row in by_batch.items()
    ]
    return ["ms", *columns], rows


def section(result: dict[str, Any]) -> str:
    """The section of docs/benchmarks.md."""
    header, rows = cells(result)
    return f"""## Engine overhead of a step

{markdown.provenance(result["machine"])}

Milliseconds of an engine step in the steady state, a token a step, by part; {result["clock"]} time.
Overhead is what the engine adds to the model: sampler, runner, scheduler and core.

{markdown.table(header, rows)}
"""


def main() -> int:
    arguments = parse_arguments()
    environment = {
        "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
        "OMP_NUM_THREADS": str(arguments.threads),
        "VLLM_NO_USAGE_STATS": "1",
    }
    os.environ.update(environment)
    if arguments.measure:
        print(json.dumps(measure(arguments.measure, arguments)), flush=True)
        os._exit(0)  # nothing may be written behind the result
    console = Console()
    facts = machine.describe("benchmarks/step_overhead.py", environment)
    warning = machine.busy_warning(facts)
    if warning and arguments.clock == "wall":
        console.print(f"[yellow]Warning: {warning}.")
    models = {}
    try:
        for model in (arguments.diffusion, arguments.twin):
            with console.status(f"measuring {model.name}"):
                models[model.name] = measure_apart(model)
    except ServerError as error:
        console.print(f"step_overhead.py: {error}", style="red", markup=False, highlight=False)
        return 1
    result = {"machine": facts, "clock": arguments.clock, "models": models}
    header, rows = cells(result)
    table = Table(*header, box=box.SIMPLE_HEAD, title=f"Engine step, ms ({arguments.clock} time)")
    for row in rows:
        table.add_row(*row)
    console.print(table)
    if arguments.json:
        arguments.json.write_text(json.dumps(result, indent=1) + "\n")
    if arguments.docs:
        markdown.replace_section(arguments.docs / "benchmarks.md", "step", section(result))
    return 0


if __name__ == "__main__":
    sys.exit(main())
