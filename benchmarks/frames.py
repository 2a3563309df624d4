"""What watching costs: tokens a second of eight requests, of which none, one or all are watched.

    python benchmarks/frames.py

``LLM()`` in this process, the bundled model, greedy; the passes alternate, and the median of each
kind is told. CPU time of this thread, which other work on the machine hardly changes.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # for the packages of this folder, when run as a script

from rich.console import Console  # noqa: E402
from rich.progress import track  # noqa: E402
from rich.table import Table  # noqa: E402

from benchmarks.tiny.prompts import load_prompts  # noqa: E402
from vllm_diffusion.server.watching import WATCHING, Channel  # noqa: E402

REQUESTS = 8


def one_pass(llm: Any, prompts: list[Any], num_watched: int) -> tuple[float, int]:
    """CPU seconds and frames of all prompts, ``REQUESTS`` at a time."""
    from vllm import SamplingParams

    engine, params = llm.llm_engine, SamplingParams(temperature=0, max_tokens=160)
    num_frames, seconds = 0, 0.0
    for first in range(0, len(prompts), REQUESTS):
        channels = []
        for number, prompt in enumerate(prompts[first : first + REQUESTS]):
            channel = Channel(most=1 << 16) if number < num_watched else None
            WATCHING.set(channel)
            engine.add_request(f"{first}-{number}", {"prompt_token_ids": prompt}, params)
            channels.append(channel)
        WATCHING.set(None)
        began = time.thread_time()
        while engine.has_unfinished_requests():
            engine.step()
        seconds += time.thread_time() - began
        for channel in filter(None, channels):
            num_frames += len(channel.take())
            channel.close()
    return seconds, num_frames


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="examples/models/tiny-diffusion")
    parser.add_argument("--num-prompts", type=int, default=64, metavar="N")
    parser.add_argument("--repeats", type=int, default=9, metavar="N")
    arguments = parser.parse_args()
    os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"
    from vllm import LLM

    memory = {"max_model_len": 1024, "kv_cache_memory_bytes": 1 << 28}
    llm = LLM(arguments.model, max_num_seqs=REQUESTS, enable_prefix_caching=False, **memory)
    llm.llm_engine.output_processor.isolates = True
    per_task = -(-arguments.num_prompts // 10)
    samples = [s for s in load_prompts("test", per_task) if not s.tools][: arguments.num_prompts]
    tokenizer = llm.get_tokenizer()
    prompts = [
        tokenizer.apply_chat_template(s.prompt_messages, add_generation_prompt=True, tokenize=True)
        for s in samples
    ]
    prompts = [list(getattr(prompt, "input_ids", prompt)) for prompt in prompts]
    kinds = (0, 1, REQUESTS)
    for kind in kinds:
        one_pass(llm, prompts, kind)
    spent: dict[int, list[float]] = {kind: [] for kind in kinds}
    frames = dict.fromkeys(kinds, 0)
    for _ in track(range(arguments.repeats), "passes"):
        for kind in kinds:
            seconds, frames[kind] = one_pass(llm, prompts, kind)
            spent[kind].append(seconds)
    table = Table("watched", "CPU ms a pass", "least, most", "frames", "more than none")
    none = statistics.median(spent[0])
    for kind in kinds:
        median = statistics.median(spent[kind])
        least, most = min(spent[kind]), max(spent[kind])
        table.add_row(
            f"{kind} of {REQUESTS}",
            f"{1000 * median:.0f}",
            f"{1000 * least:.0f}, {1000 * most:.0f}",
            str(frames[kind]),
            f"{100 * (median / none - 1):+.1f} %",
        )
    Console().print(table)


if __name__ == "__main__":
    main()
