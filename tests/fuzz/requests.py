"""Random requests for engines in this process: what one is asked, as plain values."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from random import Random
from typing import TYPE_CHECKING, Any

from tests.parity.cases import random_tokens
from vllm_diffusion.request.sampling import SAMPLING_PARSERS

if TYPE_CHECKING:
    from tests.parity.engines import Engine
    from tests.parity.families import Family


def _form(name: str, value: dict[str, Any]) -> dict[str, Any]:
    """An object that must have this key: nothing of it is the model's choice."""
    return {"json": {"type": "object", "properties": {name: value}, "required": [name]}}


LONG_NAME = "a name of é that fills more than one block"
CONSTRAINTS: tuple[dict[str, Any], ...] = (
    {"regex": "[a-f]{5,20}"},
    {"regex": "(ab|c)+é"},
    {"regex": "the same for everybody: [a-f]+"},
    {"choice": ["yes", "no", "émile"]},
    {"choice": ["one long text in two forms: no", "one long text in two forms: yes"]},
    {"json": {"type": "array", "items": {"type": "integer"}, "maxItems": 4}},
)
FORMS: tuple[dict[str, Any], ...] = (
    _form("é", {"type": "string", "maxLength": 8}),
    _form("name", {"type": "string", "maxLength": 12}),
    _form(LONG_NAME, {"type": "string", "maxLength": 12}),
    _form(LONG_NAME, {"enum": [1, "x"]}),
)
"""Where whole blocks leave no choice, which has its own way through a step."""
WORDS: tuple[dict[str, Any], ...] = (
    {"diffusion_keywords": ["ab"]},
    {"diffusion_keywords": ["k", "é"], "diffusion_max_chars": 40},
    {"diffusion_without": ["e", "ab"]},
    {"diffusion_min_chars": 10},
)
SAMPLING: tuple[dict[str, Any], ...] = (
    {"repetition_penalty": 1.3},
    {"presence_penalty": 0.7, "frequency_penalty": 0.2},
    {"logit_bias": {"40": 4.0, "41": -3.0}},
    {"min_tokens": 6},
    {"top_k": 5, "top_p": 0.8},
    {"min_p": 0.1},
    {"top_n_sigma": 1.0},
    {"bad_words": ["e", "th"]},
    {"stop_token_ids": [44, 45, 46, 47]},
    {"ignore_eos": True},
)


@dataclass(frozen=True)
class Asked:
    """One request; ``fields`` is JSON, so that requests can be keys."""

    length: int
    prompt: int
    """Seed of the prompt; few, so that prompts share prefixes."""
    max_tokens: int
    fields: str = "{}"
    extra: str = "{}"
    constraint: str = ""

    def add_to(self, engine: Engine, name: str) -> None:
        """Queue it; one that is refused is left out."""
        from vllm.exceptions import VLLMValidationError
        from vllm.sampling_params import StructuredOutputsParams

        fields = json.loads(self.fields)
        if self.constraint:
            fields["structured_outputs"] = StructuredOutputsParams(**json.loads(self.constraint))
        if "logit_bias" in fields:
            fields["logit_bias"] = {int(key): bias for key, bias in fields["logit_bias"].items()}
        try:
            engine.add(
                name,
                random_tokens(self.length, self.prompt),
                max_tokens=self.max_tokens,
                extra_args=json.loads(self.extra) or None,
                **fields,
            )
        except (VLLMValidationError, ValueError):
            # Fields of a family that has no such thing: no request, and the same one when alone.
            return

    def smaller(self) -> Iterator[Asked]:
        """The same request with one thing less."""
        if self.max_tokens > 4:
            yield replace(self, max_tokens=self.max_tokens // 2)
        if self.length > 4:
            yield replace(self, length=self.length // 2)
        for name in ("fields", "extra"):
            said = json.loads(getattr(self, name))
            # Without these two the text would be another one each time.
            for key in sorted(said.keys() - {"seed", "temperature"}):
                less = {other: value for other, value in said.items() if other != key}
                yield replace(self, **{name: json.dumps(less)})
        if self.constraint:
            yield replace(self, constraint="")


def draw_request(family: Family, rng: Random, max_len: int) -> Asked:
    """A request that fits into ``max_len`` tokens."""
    length = rng.choice([rng.randint(1, 20), rng.randint(1, 90)])
    mode = rng.choice(family.modes)
    extra = {f"diffusion_{key}": value for key, value in mode.fields.items()}
    fields: dict[str, Any] = {
        "temperature": rng.choice([0.0, 0.0, 0.7, 1.3]),
        "seed": rng.randrange(1000),
    }
    constraint = ""
    max_tokens = rng.choice([rng.randint(1, 24), rng.randint(1, 70)])
    turn = rng.random()
    if turn < 0.4:
        constraint = json.dumps(rng.choice(rng.choice([CONSTRAINTS, FORMS])))
        if extra.get("diffusion_policy") == "self_speculation":
            extra = {}  # which takes no constraints
        max_tokens = rng.randint(60, 100)  # what cannot fit would be refused
    elif turn < 0.5:
        extra |= rng.choice(WORDS)
        max_tokens = max(max_tokens, 30)
    elif turn < 0.75:
        for name, value in rng.choice(SAMPLING).items():
            # What vLLM's parameters lack travels beside ours.
            (extra if name in SAMPLING_PARSERS else fields)[name] = value
    return Asked(
        length,
        rng.randrange(3),
        min(max_tokens, max_len - length),
        json.dumps(fields),
        json.dumps(extra),
        constraint,
    )
