"""What a schema costs and gains: the same extraction prompts with and without one.

    python benchmarks/structured.py --docs docs

Decodes the bundled model's JSON task (test prompts) greedily in ``LLM()``, one request at a time,
with no constraint and with the answer's JSON schema, at several acceptance thresholds. A threshold
of 1 accepts one token a step.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # for the packages of this folder, when run as a script

from rich.console import Console  # noqa: E402
from rich.progress import track  # noqa: E402
from rich.table import Table  # noqa: E402

from benchmarks.serving import machine, markdown  # noqa: E402
from benchmarks.tiny.prompts import check, load_prompts  # noqa: E402
from benchmarks.tiny.sample import Sample  # noqa: E402
from vllm_diffusion.metrics import DecodeMetrics, decode_metrics  # noqa: E402

MODEL = ROOT / "examples" / "models" / "tiny-diffusion"
HEADER = ("threshold", "schema", "exact", "valid", "tokens/forward", "gain", "ms/forward")


@dataclass(slots=True)
class Run:
    """All answers of one setting."""

    num_exact: int = 0
    num_valid: int = 0
    metrics: list[DecodeMetrics] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def tokens_per_forward(self) -> float:
        return sum(m.num_tokens for m in self.metrics) / self.num_forwards

    @property
    def num_forwards(self) -> int:
        return sum(m.num_forwards for m in self.metrics)


def schema_of(sample: Sample) -> dict[str, Any]:
    """The fields that the prompt asks for, with the types of the right answer."""
    answer = json.loads(sample.answer)
    types = {str: "string", int: "integer"}
    return {
        "type": "object",
        "properties": {name: {"type": types[type(value)]} for name, value in answer.items()},
        "required": list(answer),
        "additionalProperties": False,
    }


def is_valid(text: str, schema: dict[str, Any]) -> bool:
    import jsonschema

    try:
        jsonschema.validate(json.loads(text), schema)
    except (json.JSONDecodeError, jsonschema.ValidationError):
        return False
    return True


def decode(llm: Any, samples: list[Sample], threshold: float, has_schema: bool) -> Run:
    from vllm import SamplingParams
    from vllm.sampling_params import StructuredOutputsParams

    run = Run()
    for sample in track(samples, f"threshold {threshold:g}{', schema' * has_schema}"):
        schema = schema_of(sample)
        params = SamplingParams(
            temperature=0,
            max_tokens=160,
            structured_outputs=StructuredOutputsParams(json=schema) if has_schema else None,
            extra_args={"diffusion_policy": "confidence", "diffusion_threshold": threshold},
        )
        began = time.perf_counter()
        (answer,) = llm.chat(sample.prompt_messages, params, use_tqdm=False)
        run.seconds += time.perf_counter() - began
        text = answer.outputs[0].text
        run.num_exact += check(sample, text)
        run.num_valid += is_valid(text, schema)
        run.metrics.append(decode_metrics(answer.outputs[0]))
    return run


def cells(runs: dict[tuple[float, bool], Run], num_samples: int) -> list[list[str]]:
    rows = []
    for (threshold, has_schema), run in runs.items():
        gain = run.tokens_per_forward / runs[threshold, False].tokens_per_forward
        rows.append(
            [
                f"{threshold:g}",
                "yes" if has_schema else "no",
                f"{run.num_exact / num_samples:.1%}",
                f"{run.num_valid / num_samples:.1%}",
                f"{run.tokens_per_forward:.2f}",
                f"{gain:.2f}",
                f"{1000 * run.seconds / run.num_forwards:.2f}",
            ]
        )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--thresholds", type=float, nargs="+", default=[1.0, 0.999, 0.99, 0.9])
    parser.add_argument("--num-prompts", type=int, default=100, metavar="N")
    parser.add_argument("--docs", type=Path, metavar="FOLDER", help="write FOLDER/benchmarks.md")
    arguments = parser.parse_args()
    environment = {
        "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
        "OMP_NUM_THREADS": "1",
        "VLLM_NO_USAGE_STATS": "1",
    }
    os.environ.update(environment)
    from vllm import LLM

    facts = machine.describe("benchmarks/structured.py", environment)
    samples = [s for s in load_prompts("test", arguments.num_prompts) if s.task == "json"]
    llm = LLM(str(MODEL), max_num_seqs=1, max_model_len=1024, kv_cache_memory_bytes=256 << 20)
    decode(llm, samples[:3], 0.9, True)  # the first request makes the compiler
    runs = {
        (threshold, has_schema): decode(llm, samples, threshold, has_schema)
        for threshold in arguments.thresholds
        for has_schema in (False, True)
    }
    rows = cells(runs, len(samples))
    table = Table(*HEADER)
    for row in rows:
        table.add_row(*row)
    Console().print(table)
    if arguments.docs:
        text = f"""## JSON with and without a schema

{markdown.provenance(facts)}

{len(samples)} test prompts of the bundled model's extraction task, greedy, one at a time. Tokens
per forward count every commit and the prompt; gain is over the same threshold without a schema.
A block of 16 takes one forward at least, so the gain shrinks where blocks take hardly more without
a schema. The milliseconds hold the front end, the grammar and its compilation.

{markdown.table(HEADER, rows)}
"""
        markdown.replace_section(arguments.docs / "benchmarks.md", "structured", text)


if __name__ == "__main__":
    main()
