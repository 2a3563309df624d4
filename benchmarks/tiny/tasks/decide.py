"""Questions with a closed set of answers, in the words of ``POST /v1/decisions``."""

from random import Random
from typing import Any

from vllm_diffusion.decisions import system_one
from vllm_diffusion.decisions.prompts import content, labels_of

from ..sample import Sample, Task, ask
from .letters import letter
from .lexicon import FIELDS, NUMBER_FIELDS, Value, draw_record
from .records import json
from .sql import sql
from .words import copy, reverse, spell

ROUTES: dict[str, tuple[str, Task]] = {
    "copy": ("repeat words", copy),
    "reverse": ("write backwards", reverse),
    "spell": ("spell digits", spell),
    "json": ("fields of a text", json),
    "letter": ("write a letter", letter),
    "sql": ("insert or select", sql),
}
"""What a router chooses between: a description, and the task that such a message belongs to."""


def _told(record: dict[str, Value]) -> str:
    return ", ".join(f"{name} is {value}" for name, value in record.items())


def _other(rng: Random, name: str, value: Value) -> str:
    while (other := rng.choice(FIELDS[name])) == value:
        pass
    return other


def _tame(rng: Random) -> tuple[str, dict[str, Any], int]:
    """Yes or no: whether a field has a value."""
    record = draw_record(rng, rng.randint(3, 6), max_numbers=0)
    name = rng.choice(list(record))
    is_so = rng.random() < 0.5
    value = record[name] if is_so else _other(rng, name, record[name])
    text = rng.choice((f"Is the {name} {value}?", f"{name} is {value}."))
    return _told(record), {"type": "noul", "instructions": text}, 0 if is_so else 1


def _which(rng: Random) -> tuple[str, dict[str, Any], int]:
    """A choice between values of a field."""
    record = draw_record(rng, rng.randint(3, 6), max_numbers=0)
    name = rng.choice(list(record))
    others = [value for value in FIELDS[name] if value != record[name]]
    options = [str(record[name]), *rng.sample(others, min(len(others), rng.randint(1, 5)))]
    rng.shuffle(options)
    text = rng.choice((f"Which {name}?", f"What is the {name}?"))
    criteria = dict.fromkeys(options)
    return (
        _told(record),
        {"type": "choice", "instructions": text, "criteria": criteria},
        options.index(str(record[name])),
    )


def _level(rng: Random) -> tuple[str, dict[str, Any], int]:
    """A level: a number in tens."""
    record = draw_record(rng, rng.randint(3, 6), max_numbers=1)
    numbers = [name for name in record if name in NUMBER_FIELDS]
    if not numbers:
        return _level(rng)
    levels = ["low", "middle", "high"]
    level = (int(record[numbers[0]]) - 10) // 30
    text = f"How high is the {numbers[0]}?"
    return _told(record), {"type": "score", "instructions": text, "criteria": levels}, level


def _route(rng: Random) -> tuple[str, dict[str, Any], int]:
    """Which kind of work a message asks for."""
    names = rng.sample(list(ROUTES), rng.randint(2, len(ROUTES)))
    right = rng.randrange(len(names))
    state = ROUTES[names[right]][1](rng).prompt_messages[0]["content"]
    criteria = {name: ROUTES[name][0] for name in names}
    question = {"type": "choice", "instructions": "What is asked for?", "criteria": criteria}
    return state, question, right


def decide(rng: Random) -> Sample:
    """One question about a record, or about a message."""
    make = rng.choices((_tame, _which, _level, _route), (3, 4, 1, 2))[0]
    state, question, right = make(rng)
    decision = system_one.read({"state": state, "questions": {"asked": question}})
    asked = decision.questions[0]
    order = range(len(asked.options))
    return ask("decide", content(decision, asked, order), labels_of(asked)[right])
