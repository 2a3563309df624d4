"""Decode fields of requests and servers, the words of a text, plans: with torch alone."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from tests.refusals.record import Case
from vllm_diffusion.family.record import FamilyRecord
from vllm_diffusion.family.rows import (
    FAST_DLLM_V2,
    LLADA,
    LLADA2,
    NEMOTRON_LABS,
    SDAR,
    STABLE_DIFFCODER,
)
from vllm_diffusion.request.lexical import read_lexical
from vllm_diffusion.request.parsed import parse
from vllm_diffusion.request.plan import DecodePlan, make_plan
from vllm_diffusion.request.sampling import read_sampling
from vllm_diffusion.structured.limits import read_limits

FOLDERS = (
    *("request/params.py", "request/plan.py", "request/lexical.py", "request/sampling.py"),
    "request/seed_canvas.py",
    "structured/limits.py",
)
ODD: tuple[Any, ...] = (None, True, "x", "é" * 300, -1, float("nan"), 10**400, [1], {"a": 1})

FIELDS: list[tuple[FamilyRecord, dict[str, Any]]] = [
    *((SDAR, {"policy": value}) for value in (*ODD, "self_speculation")),
    *((SDAR, {"threshold": value}) for value in (*ODD, 1.5)),
    (SDAR, {"policy": "entropy", "threshold": 1001}),
    *((SDAR, {"max_steps": value}) for value in (*ODD, 0, 1.0)),
    *((SDAR, {"block_length": value}) for value in (*ODD, 0, 3, 64)),
    (LLADA2, {"block_length": 8}),
    *((FAST_DLLM_V2, {"sub_block_length": value}) for value in (*ODD, 0, 5)),
    (SDAR, {"sub_block_length": 2}),
    *((LLADA2, {"preset": value}) for value in ODD),
    *((SDAR, {name: 1}) for name in ("preset", "edit_threshold", "max_post_steps")),
    (SDAR, {"preset": "quality"}),
    *((LLADA2, {"edit_threshold": value}) for value in (*ODD, 1.1)),
    *((LLADA2, {"max_post_steps": value}) for value in ODD),
    *((LLADA, {"kv_cache": value}) for value in ODD),
    (SDAR, {"kv_cache": "exact"}),
    *((LLADA, {"guidance_scale": value}) for value in (*ODD, 101)),
    (SDAR, {"guidance_scale": 1}),
    *((SDAR, {"effort": value}) for value in ODD),
    *((SDAR, {name: 1}) for name in ("treshold", "foo", "")),
    # What is laid.
    *((SDAR, {"seed_canvas": value}) for value in (*ODD[1:-2], {"a": 1}, [5, True], [-1], [2**31])),
    *((SDAR, {"seed_canvas": [5, 3, 6], "pinned": value}) for value in (*ODD[1:], [3], [0, 1])),
    (SDAR, {"pinned": [0]}),
    *((SDAR, {name: value}) for name in ("read_only", "constrained")
      for value in ("x", 2, -1, [1])),
    *((SDAR, {"canvas_length": value}) for value in (*ODD[1:], 0, 3, 64)),
    (SDAR, {"canvas_length": 8, "block_length": 4}),
    (LLADA2, {"canvas_length": 8}),
    *((SDAR, {"draft": value}) for value in (*ODD[1:-2], {"a": 1}, [5, 3], [-1])),
    (SDAR, {"draft": [5], "seed_canvas": [6]}),
    (SDAR, {"draft": [5], "pinned": [0]}),
    (SDAR, {"draft": [5], "read_only": True}),
    # Together.
    (LLADA, {"guidance_scale": 1, "kv_cache": "dual"}),
    (LLADA2, {"effort": "low", "preset": "speed"}),
    (NEMOTRON_LABS, {"effort": "low", "policy": "self_speculation"}),
    *((FAST_DLLM_V2, {"policy": name})
      for name in ("maskgit_plus", "topk_margin", "topk_entropy", "origin")),
]  # fmt: skip

WORDS: list[dict[str, Any]] = [
    *({"keywords": value} for value in (*ODD, [""], ["\ud800"], ["a"] * 9)),
    *({"without": value} for value in (*ODD, [""], ["\udfff"], ["a"] * 65)),
    *({"min_chars": value} for value in (*ODD, 65537)),
    *({"max_chars": value} for value in (*ODD, 0, 65537)),
    {"min_chars": 5, "max_chars": 4},
    {"keywords": ["hello"], "max_chars": 4},
    {"keywords": ["hello"], "without": ["ell"]},
    {"keywords": ["a" * 5000, *"bcdefgh"]},
    {"without": ["a" * 70000]},
]

PLANS: list[tuple[FamilyRecord, dict[str, Any]]] = [
    (SDAR, {"mask_id": None}),
    (SDAR, {"mask_id": 512}),
    (SDAR, {"mask_id": -1}),
    (SDAR, {"block_length": None}),
    (SDAR, {"block_length": 3}),
    (LLADA, {"canvas_length": 513}),
    (SDAR, {"canvas_length": 8, "options": {"block_length": 4}}),
    (SDAR, {"max_denoising_steps": 8, "options": {"max_steps": 4}}),
    (SDAR, {"options": {"tau": 1}}),
    (SDAR, {"options": {"kv_cache": "dual"}}),
    (SDAR, {"options": {"effort": "huge"}}),
    (SDAR, {"generation": {"diffusion_treshold": 0.5}}),
    (SDAR, {"generation": {"diffusion_threshold": "high"}}),
    (STABLE_DIFFCODER, {"generation": {"diffusion_policy": "self_speculation"}}),
    (LLADA2, {"preset": "quality", "options": {"policy": "self_speculation"}}),
]

LIMITS: list[Any] = [
    *({"structured_limits": value} for value in (5, "x", [1])),
    {"structured_limits": {"colour": 1}},
    *({"structured_limits": {"states": value}} for value in (0, -1, "x", None, True)),
    {"structured_limits": {"seconds": 0}},
]


def plan_of(record: FamilyRecord, **changes: Any) -> DecodePlan:
    settings: dict[str, Any] = {
        "mask_id": 3, "block_length": 32, "vocab_size": 512, "generation": {}, "options": {},
    }  # fmt: skip
    return make_plan(record, **settings | changes)


def named(value: Any) -> str:
    """A case's name: what was sent, cut where it is long."""
    text = ascii(value)
    return text if len(text) <= 120 else f"{text[:100]}... ({len(text)} characters)"


def cases(_: Path) -> Iterator[Case]:
    for record, fields in FIELDS:
        sent = {f"diffusion_{name}": value for name, value in fields.items()}
        call = partial(parse, sent, plan_of(record))
        yield Case(f"request to {record.architecture}: {named(sent)}", call)
    for fields in WORDS:
        sent = {f"diffusion_{name}": value for name, value in fields.items()}
        yield Case(f"words: {named(sent)}", partial(read_lexical, sent))
    for value in (*ODD[1:], 101):
        sent = {"top_n_sigma": value}
        yield Case(f"sampling: {named(sent)}", partial(read_sampling, sent))
    for record, changes in PLANS:
        yield Case(f"plan of {record.architecture}: {changes}", partial(plan_of, record, **changes))
    for options in LIMITS:
        yield Case(f"limits: {options}", partial(read_limits, options))
