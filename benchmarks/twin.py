"""Diffusion against its autoregressive twin: same prompts, same engine, same server.

    python benchmarks/twin.py --json result.json
    python benchmarks/twin.py --quick

Measures the engines without a server first, then both models behind ``vllm serve`` through the
OpenAI client, with each executor. The full run writes a section of docs/benchmarks.md and
docs/plots/twin.png; a quick one writes the same files under build/twin.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # for the packages of this folder, when run as a script

from rich.console import Console  # noqa: E402
from rich.progress import (  # noqa: E402
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
)

from benchmarks.serving import machine, markdown, plot, results, tables  # noqa: E402
from benchmarks.serving.engine import EngineError  # noqa: E402
from benchmarks.serving.measure import Protocol, measure_engines, measure_servers  # noqa: E402
from benchmarks.serving.server import ServerError, check_model  # noqa: E402
from benchmarks.serving.settings import DEFAULT, Setting, diffusion_settings  # noqa: E402
from benchmarks.tiny.prompts import load_prompts  # noqa: E402

BUILD = Path("build/twin")


def parse_arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--json", type=Path, metavar="FILE", help="write every number here")
    add("--quick", action="store_true", help="a look in two minutes: few prompts, one pass")
    add("--per-task", type=int, metavar="N", help="prompts a task for accuracy (50; quick: 3)")
    add("--speed-per-task", type=int, metavar="N", help="prompts a task for speed (10; quick: 1)")
    add("--repeats", type=int, metavar="N", help="timing passes (3; quick: 1)")
    add("--concurrency", type=int, nargs="+", metavar="N", help="(1 4 16 64; quick: 1 4)")
    add(
        "--thresholds",
        nargs="+",
        metavar="T",
        help="of the diffusion model; 1 accepts one token a step, 'default' is the model's own "
        "(1 0.999 default 0.99; quick: 1 default)",
    )
    add("--max-tokens", type=int, default=160, metavar="N", help="most tokens of an answer")
    add("--diffusion", type=Path, default=Path("examples/models/tiny-diffusion"), metavar="FOLDER")
    add("--twin", type=Path, default=Path("examples/models/tiny-ar"), metavar="FOLDER")
    add("--no-servers", action="store_true", help="the engines alone")
    add("--threads", type=int, default=1, metavar="N", help="of each model's worker (1)")
    add("--server-args", default="", metavar="FLAGS", help="more flags for all servers")
    add("--start-timeout", type=float, default=300, metavar="S", help="for a server to start")
    add(
        "--docs",
        type=Path,
        metavar="FOLDER",
        help=f"where benchmarks.md and plots/twin.png go (docs; quick: {BUILD})",
    )
    arguments = parser.parse_args(argv)
    quick: dict[str, Any] = {
        "per_task": 3,
        "speed_per_task": 1,
        "repeats": 1,
        "concurrency": [1, 4],
        "thresholds": ["1", "default"],
        "docs": BUILD,
    }
    full: dict[str, Any] = {
        "per_task": 50,
        "speed_per_task": 10,
        "repeats": 3,
        "concurrency": [1, 4, 16, 64],
        "thresholds": ["1", "0.999", "default", "0.99"],
        "docs": Path("docs"),
    }
    for name, value in (quick if arguments.quick else full).items():
        if getattr(arguments, name) is None:
            setattr(arguments, name, value)
    for name in ("per_task", "speed_per_task", "repeats", "max_tokens"):
        if getattr(arguments, name) < 1:
            parser.error(f"--{name.replace('_', '-')} must be at least 1")
    arguments.concurrency = sorted(set(arguments.concurrency))
    if arguments.concurrency[0] < 1:
        parser.error("--concurrency must be at least 1")
    return arguments


def engine_options(arguments: argparse.Namespace) -> dict[str, Any]:
    """The same for all models."""
    return {
        "dtype": "bfloat16",
        "max_model_len": 1024,
        "max_num_seqs": max(arguments.concurrency),
        "kv_cache_memory_bytes": 256 << 20,
        "enable_prefix_caching": False,
    }


def server_flags(arguments: argparse.Namespace) -> list[str]:
    """The same options, and the fields of responses that a measurement reads."""
    return [
        *("--dtype", "bfloat16", "--max-model-len", "1024"),
        *("--max-num-seqs", str(max(arguments.concurrency))),
        *("--kv-cache-memory-bytes", str(256 << 20)),
        *("--no-enable-prefix-caching", "--enable-per-request-metrics"),
        *arguments.server_args.split(),
    ]


def protocol_of(arguments: argparse.Namespace) -> Protocol:
    return Protocol(
        speed_samples=load_prompts("test", arguments.speed_per_task),
        accuracy_samples=load_prompts("test", arguments.per_task),
        concurrencies=arguments.concurrency,
        repeats=arguments.repeats,
        max_tokens=arguments.max_tokens,
        engine_options=engine_options(arguments),
        server_flags=server_flags(arguments),
        environment={
            "VLLM_CPU_OMP_THREADS_BIND": "nobind",
            "OMP_NUM_THREADS": str(arguments.threads),
            "VLLM_USE_AOT_COMPILE": "0",
            "VLLM_NO_USAGE_STATS": "1",
        },
    )


def run(arguments: argparse.Namespace, console: Console) -> dict[str, Any]:
    """Measure both twins.

    Raises:
        EngineError, ServerError: one of them does not start, or ends.
    """
    for model in (arguments.diffusion, arguments.twin):
        check_model(model)
    diffusion = diffusion_settings(arguments.diffusion, arguments.thresholds)
    twin = Setting(arguments.twin, None)
    settings = [*diffusion, twin, Setting(arguments.twin, None, has_drafts=True)]
    served = [*diffusion_settings(arguments.diffusion, [DEFAULT]), twin]
    protocol = protocol_of(arguments)
    facts = machine.describe("benchmarks/twin.py", protocol.environment)
    if warning := machine.busy_warning(facts):
        console.print(f"[yellow]Warning: {warning}.")
    start = time.perf_counter()
    columns = [
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    ]
    total = protocol.num_engine_passes(len(settings))
    if not arguments.no_servers:
        total += protocol.num_server_passes(len(served)) + 2 * len(served)
    servers: list[results.Row] = []
    with Progress(*columns, console=console) as progress:
        task = progress.add_task("engines: starting", total=total)

        def on_pass(text: str) -> None:
            progress.update(task, description=text, advance=1)

        engines = [results.engine_row(m) for m in measure_engines(settings, protocol, on_pass)]
        if not arguments.no_servers:
            measured = measure_servers(served, protocol, on_pass, BUILD, arguments.start_timeout)
            servers = [results.server_row(one) for one in measured]
            results.add_speed_ups(servers)
    results.add_speed_ups(engines)
    return {
        "machine": facts,
        "seconds": round(time.perf_counter() - start, 1),
        "engine_options": protocol.engine_options,
        "server_flags": protocol.server_flags,
        "prompts": {
            "split": "test",
            "accuracy_per_task": arguments.per_task,
            "speed_per_task": arguments.speed_per_task,
            "num_accuracy": len(protocol.accuracy_samples),
            "num_speed": len(protocol.speed_samples),
            "repeats": arguments.repeats,
            "max_tokens": arguments.max_tokens,
        },
        "engines": engines,
        "servers": servers,
    }


def main() -> int:
    arguments = parse_arguments()
    console = Console()
    # So that `with serve(...)` ends the server then, too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        result = run(arguments, console)
    except (EngineError, ServerError, ValueError) as error:
        console.print(f"twin.py: {error}", style="red", markup=False, highlight=False)
        return 1
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    for table in tables.all_tables(result["engines"], result["servers"]):
        console.print(table)
    if arguments.json:
        arguments.json.write_text(json.dumps(result, indent=1) + "\n")
    facts = result["machine"]
    picture = arguments.docs / "plots" / "twin.png"
    caption = f"{facts['cpu']}, {facts['num_cores']} cores, {facts['date']}, {facts['commit']}"
    plot.draw(result["engines"], caption, picture)
    page = arguments.docs / "benchmarks.md"
    markdown.replace_section(page, "twin", markdown.twin_section(result, "plots/twin.png"))
    console.print(f"{result['seconds']:.0f} s in all; written: {page}, {picture}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
