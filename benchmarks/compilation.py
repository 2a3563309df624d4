"""What constraints cost: compilation, and each denoising step, at small and large vocabularies.

    python benchmarks/compilation.py --docs docs
    make real-tokens ARGS='--docs docs'

Without ``--tokenizer`` vocabularies are made here, of every byte and of words of random letters up
to the size asked for: one of 151,936 tokens needs no download. A step is one block of 16 open
positions of one request, greedy, without its forward pass. xgrammar compiles the same schema beside
it, where it can. With ``--tokenizer`` see ``benchmarks/constraints``.
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
from rich.progress import track  # noqa: E402
from rich.table import Table  # noqa: E402

from benchmarks.constraints import report  # noqa: E402
from benchmarks.constraints.ours import matcher_of, mechanism_of  # noqa: E402
from benchmarks.constraints.vocabularies import MASK, STOP, made_up  # noqa: E402
from benchmarks.serving import machine, markdown  # noqa: E402
from vllm_diffusion.structured.compiled import Compiled  # noqa: E402
from vllm_diffusion.structured.compiler import Compiler  # noqa: E402
from vllm_diffusion.structured.constraint import Constraint, RefusedError  # noqa: E402
from vllm_diffusion.structured.dfa_matcher import TokenDfaMatcher  # noqa: E402
from vllm_diffusion.structured.limits import Limits  # noqa: E402
from vllm_diffusion.structured.vocabulary import Vocabulary  # noqa: E402

LENGTH = 16
TEXT = {"type": "string"}
PERSON = {
    "type": "object",
    "properties": {
        "name": TEXT,
        "age": {"type": "integer", "minimum": 0, "maximum": 150},
        "tags": {"type": "array", "items": TEXT},
        "kind": {"enum": ["cat", "dog", "bird"]},
    },
    "required": ["name", "age", "tags", "kind"],
    "additionalProperties": False,
}
TREE = {
    "type": "object",
    "properties": {"value": {"type": "number"}, "next": {"type": "array", "items": {"$ref": "#"}}},
    "required": ["value"],
    "additionalProperties": False,
}
EMAIL = r"[a-zA-Z0-9._%+-]+@[a-zA-Z0-9.-]+\.[a-zA-Z]{2,}"
CASES: dict[str, Constraint] = {
    "schema, four members": Constraint("json", json.dumps(PERSON)),
    "schema, string of 200": Constraint("json", json.dumps(TEXT | {"maxLength": 200})),
    "schema, recursive": Constraint("json", json.dumps(TREE)),
    "any object": Constraint("json_object", ""),
    "expression, e-mail": Constraint("regex", EMAIL),
    "expression, 2,047 states": Constraint("regex", "[ab]{2046}"),
    "expression beyond": Constraint("regex", "(a?b?){0,2000}"),
    "2,000 choices": Constraint("choice", json.dumps([f"item{n:06}" for n in range(2000)])),
}
HEADER = ("vocabulary", "constraint", "mechanism", "compile ms", "xgrammar ms", "KiB", "step ms")


def best_of(call: Callable[[], Any], count: int = 7) -> float:
    """Milliseconds."""
    found = []
    for _ in range(count):
        began = time.perf_counter()
        call()
        found.append(time.perf_counter() - began)
    return 1000 * min(found)


def step_of(compiled: Compiled, words: Vocabulary) -> float:
    from vllm_diffusion.worker.constrained import Constraints

    if compiled.tokens is not None:
        constraints, start = Constraints(MASK), matcher_of(compiled, words)
        assert isinstance(start, TokenDfaMatcher)
        logits = torch.randn(LENGTH, words.size, generator=torch.Generator().manual_seed(0)) * 3
        one = {"num_rows_B": LENGTH, "row_start_B": 0, "width_B": LENGTH}
        canvases: Any = SimpleNamespace(**{key: np.array([value]) for key, value in one.items()})
        tokens = torch.zeros(1, LENGTH, dtype=torch.int64)
        masked = torch.ones(1, LENGTH, dtype=torch.bool)
        left = [len(compiled.ending) + 100]
        return best_of(
            lambda: constraints.texts(logits, canvases, [0], [start], left, tokens, masked)
        )
    matcher = matcher_of(compiled, words)
    bits = np.zeros(words.num_words, dtype=np.uint32)
    path = compiled.ending[:LENGTH]

    def follow() -> None:
        here = matcher.fork()
        for token in path:
            here.fill(bits)
            here.accept(token)

    return best_of(follow) / max(len(path), 1)


def xgrammar_of(constraint: Constraint, words: Vocabulary) -> str:
    import xgrammar

    info = xgrammar.TokenizerInfo(
        words.spelled, vocab_type=xgrammar.VocabType.RAW, stop_token_ids=[STOP]
    )
    compiler = xgrammar.GrammarCompiler(info, max_threads=1, cache_enabled=False)
    began = time.perf_counter()
    if constraint.kind != "json":
        return ""
    compiler.compile_json_schema(constraint.spec, any_whitespace=False)
    return f"{1000 * (time.perf_counter() - began):.0f}"


def row(size: int, name: str, words: Vocabulary, compiler: Compiler) -> list[str]:
    constraint = CASES[name]
    began = time.perf_counter()
    try:
        compiled = compiler.compile(constraint)
    except RefusedError:
        return [
            f"{size:,}",
            name,
            "refused",
            f"{1000 * (time.perf_counter() - began):.0f}",
            "",
            "",
            "",
        ]
    spent = 1000 * (time.perf_counter() - began)
    mechanism = mechanism_of(compiled)
    step = f"{step_of(compiled, words):.2f}"
    kib = f"{compiled.num_bytes >> 10:,}"
    return [f"{size:,}", name, mechanism, f"{spent:.0f}", xgrammar_of(constraint, words), kib, step]


def bounds(sizes: list[int]) -> list[list[str]]:
    rows = []
    for size in sizes:
        words = made_up(size)
        compiler = Compiler(words, Limits(seconds=60))
        _ = words.bytes_VB, words.longer, words.ll_tokenizer
        rows += [row(size, name, words, compiler) for name in track(CASES, f"{size:,} tokens")]
    return rows


def show(header: tuple[str, ...], rows: list[list[str]]) -> None:
    table = Table(*header)
    for cells in rows:
        table.add_row(*cells)
    Console(width=180).print(table)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sizes", type=int, nargs="+", help="tokens; 512, 49152 and 151936 if not")
    parser.add_argument("--tokenizer", type=Path, help="a tokenizer.json, whose tokens are taken")
    parser.add_argument("--docs", type=Path, metavar="FOLDER", help="write into its pages")
    arguments = parser.parse_args()
    facts = machine.describe("benchmarks/compilation.py", {"OMP_NUM_THREADS": "1"})
    torch.set_num_threads(1)
    if arguments.tokenizer is None:
        rows = bounds(arguments.sizes or [512, 49_152, 151_936])
        show(HEADER, rows)
        page, section = "limits.md", "compilation"
        text = f"{markdown.provenance(facts)}\n\n{markdown.table(HEADER, rows)}"
    else:
        found = report.tables(arguments.tokenizer, arguments.sizes or [None, 151_936])
        for header, rows in found.tables:
            show(header, rows)
        print(found.note)
        page, section = "structured.md", "real tokens"
        text = report.page(markdown.provenance(facts), found)
    if arguments.docs:
        markdown.replace_section(arguments.docs / page, section, text)


if __name__ == "__main__":
    main()
