"""What a schema costs and gains: the same extraction prompts with and without one.

    python benchmarks/structured.py --docs docs

Decodes the bundled model's JSON task (test prompts) greedily in ``LLM()``: with no constraint, with
the answer's JSON schema where each request brings a new one, and with schemas seen before. A
threshold of 1 accepts one token a step.
"""

from __future__ import annotations

import argparse
import itertools
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

from benchmarks.serving import machine, markdown  # noqa: E402
from benchmarks.tiny.prompts import check, load_prompts  # noqa: E402
from benchmarks.tiny.sample import Sample  # noqa: E402
from vllm_diffusion.metrics import DecodeMetrics, decode_metrics  # noqa: E402

MODEL = ROOT / "examples" / "models" / "tiny-diffusion"
KINDS = ("none", "new", "seen")
HEADER = (
    "threshold",
    "at a time",
    "schema",
    "exact",
    "valid",
    "tokens/forward",
    "tokens/s",
    "of none",
    "ms/step",
    "ms/step more",
)


@dataclass(slots=True)
class Run:
    """All answers of one setting in one pass."""

    num_exact: int = 0
    num_valid: int = 0
    metrics: list[DecodeMetrics] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def num_tokens(self) -> int:
        return sum(m.num_tokens for m in self.metrics)

    @property
    def num_forwards(self) -> int:
        return sum(m.num_forwards for m in self.metrics)

    @property
    def tokens_per_forward(self) -> float:
        return self.num_tokens / self.num_forwards

    @property
    def tokens_per_second(self) -> float:
        return self.num_tokens / self.seconds

    def ms_per_step(self, concurrency: int) -> float:
        """Of the engine; requests that are decoded together share its steps."""
        return 1000 * self.seconds * concurrency / self.num_forwards


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


def decode(
    llm: Any, samples: list[Sample], threshold: float, concurrency: int, marks: list[str] | None
) -> Run:
    """One pass.

    Args:
        marks: a title for each schema; a schema with a title of its own is a new one. ``None``
            asks without schemas.
    """
    from vllm import SamplingParams
    from vllm.sampling_params import StructuredOutputsParams

    schemas = [schema_of(sample) for sample in samples]
    params = [
        SamplingParams(
            temperature=0,
            max_tokens=160,
            structured_outputs=StructuredOutputsParams(json=schema | {"title": marks[i]})
            if marks
            else None,
            extra_args={"diffusion_policy": "confidence", "diffusion_threshold": threshold},
        )
        for i, schema in enumerate(schemas)
    ]
    prompts = [sample.prompt_messages for sample in samples]
    step = len(samples) if concurrency > 1 else 1
    run = Run()
    began = time.perf_counter()
    answers = [
        answer
        for at in range(0, len(samples), step)
        for answer in llm.chat(prompts[at : at + step], params[at : at + step], use_tqdm=False)
    ]
    run.seconds = time.perf_counter() - began
    for sample, schema, answer in zip(samples, schemas, answers, strict=True):
        text = answer.outputs[0].text
        run.num_exact += check(sample, text)
        run.num_valid += is_valid(text, schema)
        run.metrics.append(decode_metrics(answer.outputs[0]))
    return run


Key = tuple[float, int, str]


def measure(llm: Any, samples: list[Sample], arguments: argparse.Namespace) -> dict[Key, list[Run]]:
    """Every setting, its kinds in turn, so that a slow minute meets all of them."""
    settings = list(itertools.product(arguments.thresholds, arguments.concurrency))
    runs: dict[Key, list[Run]] = {}
    total = len(settings) * arguments.repeats
    turns = itertools.product(settings, range(arguments.repeats))
    for (threshold, concurrency), turn in track(turns, "decoding", total=total):
        seen = [str(i) for i in range(len(samples))]
        new = [f"{threshold:g} {concurrency} {turn} {i}" for i in seen]
        for kind, marks in zip(KINDS, (None, new, seen), strict=True):
            run = decode(llm, samples, threshold, concurrency, marks)
            runs.setdefault((threshold, concurrency, kind), []).append(run)
    return runs


def middle(runs: list[Run]) -> Run:
    """The run of median speed."""
    return sorted(runs, key=lambda run: run.seconds)[len(runs) // 2]


def cells(runs: dict[Key, list[Run]], num_samples: int) -> list[list[str]]:
    rows = []
    for (threshold, concurrency, kind), repeats in runs.items():
        run, free = middle(repeats), middle(runs[threshold, concurrency, "none"])
        each = run.ms_per_step(concurrency)
        rows.append(
            [
                f"{threshold:g}",
                str(concurrency),
                kind,
                f"{run.num_exact / num_samples:.1%}",
                f"{run.num_valid / num_samples:.1%}",
                f"{run.tokens_per_forward:.2f}",
                f"{run.tokens_per_second:.0f}",
                f"{run.tokens_per_second / free.tokens_per_second:.2f}",
                f"{each:.2f}",
                f"{each - free.ms_per_step(concurrency):.2f}",
            ]
        )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--thresholds", type=float, nargs="+", default=[1.0, 0.999, 0.995, 0.9])
    parser.add_argument("--concurrency", type=int, nargs="+", default=[1, 16], metavar="N")
    parser.add_argument("--num-prompts", type=int, default=100, metavar="N")
    parser.add_argument("--repeats", type=int, default=3, metavar="N", help="passes; the median")
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
    if warning := machine.busy_warning(facts):
        Console().print(f"[yellow]Warning: {warning}.")
    samples = [s for s in load_prompts("test", arguments.num_prompts) if s.task == "json"]
    llm = LLM(
        str(MODEL),
        max_num_seqs=max(arguments.concurrency),
        max_model_len=1024,
        kv_cache_memory_bytes=256 << 20,
        enable_prefix_caching=False,
    )
    warm = [str(i) for i in range(len(samples))]
    for concurrency in arguments.concurrency:  # also has the schemas seen
        decode(llm, samples, 0.9, concurrency, warm)
        decode(llm, samples, 0.9, concurrency, None)
    rows = cells(measure(llm, samples, arguments), len(samples))
    print(markdown.table(HEADER, rows))
    if arguments.docs:
        text = f"""## JSON with and without a schema

{markdown.provenance(facts)}

{len(samples)} test prompts of the bundled model's extraction task, greedy, in `LLM()`; median of
{arguments.repeats} passes. No prefix is cached.

* schema: `none`; `new`: each request brings a schema that was never seen, and waits until it is
  compiled; `seen`: compiled before.
* tokens/forward counts every commit and the prompt. A block of 16 takes one forward at least.
* of none: tokens/s over those without a schema, at the same threshold and concurrency.
* ms/step: time over the engine's steps, front end and tokenizer included; `more` is the difference
  to `none`. In the rows `seen` it holds no compilation.

{markdown.table(HEADER, rows)}
"""
        markdown.replace_section(arguments.docs / "benchmarks.md", "structured", text)


if __name__ == "__main__":
    main()
