"""Forms never seen before: fields and functions of any name.

The other tasks draw from fixed lists, and a model may learn where a list's entry stands in an
answer. Here any word, and sometimes an invented one, may name a field or a function, so the names
have to be read in the prompt, as with the schemas and the tools of a stranger.
"""

import json
from random import Random

from ..sample import Sample, ask
from .lexicon import (
    FIELDS,
    NUMBER_FIELDS,
    WORDS,
    Value,
    draw_record,
    draw_value,
    invent_word,
)
from .tools import declare_fields, format_call

RECORD_SHARE = 0.35
"""Calls whose message is one of the task ``json``: the model has to answer it either way."""

VERBS = "get set find save send book make take log tag".split()


def _field_name(rng: Random) -> str:
    kind = rng.random()
    if kind < 0.4:
        return rng.choice(list(FIELDS))
    if kind < 0.8:
        return rng.choice(WORDS)
    if kind < 0.9:
        return invent_word(rng)
    return f"{rng.choice(WORDS)}_{rng.choice(('id', 'name', 'size'))}"


def _value(rng: Random, name: str) -> Value:
    if name in FIELDS and rng.random() < 0.7:
        return draw_value(rng, name)
    kind = rng.random()
    if kind < 0.3:
        return rng.randint(1, 10 ** rng.randint(1, 4))
    return invent_word(rng) if kind < 0.4 else rng.choice(WORDS)


def draw_facts(rng: Random, num_fields: int) -> dict[str, Value]:
    """Distinct fields in random order; no value is the name of a field."""
    names: set[str] = set()
    while len(names) < num_fields:
        names.add(_field_name(rng))
    facts: dict[str, Value] = {}
    for name in rng.sample(sorted(names), num_fields):
        while (value := _value(rng, name)) in names:
            pass
        facts[name] = value
    return facts


def _tell(facts: dict[str, Value]) -> str:
    return ", ".join(f"{name} is {value}" for name, value in facts.items())


def extract(rng: Random) -> Sample:
    """Extract fields of any name from a sentence that has more."""
    facts = draw_facts(rng, rng.randint(2, 6))
    wanted = rng.sample(list(facts), rng.randint(1, len(facts)))
    names = ", ".join(wanted)
    question = rng.choice(
        (
            f"Text: {_tell(facts)}.\nReturn JSON with the fields {names}.",
            f"Return {names} as JSON.\nText: {_tell(facts)}.",
        )
    )
    return ask("extract", question, json.dumps({name: facts[name] for name in wanted}))


def function_name(rng: Random) -> str:
    """A name that a stranger might give a function."""
    kind = rng.random()
    if kind < 0.2:
        return rng.choice(("extract", "answer", "record", "Output", "submit", invent_word(rng)))
    noun = invent_word(rng) if kind < 0.4 else rng.choice(WORDS)
    return f"{rng.choice(VERBS)}_{noun}"


def _told_and_wanted(rng: Random) -> tuple[dict[str, Value], list[str]]:
    """What a message tells, and the fields that the call needs."""
    if rng.random() < RECORD_SHARE:
        facts = draw_record(rng, rng.randint(5, 8), max_numbers=1)
        return facts, rng.sample(list(facts), rng.randint(4, len(facts)))
    facts = draw_facts(rng, rng.randint(1, 6))
    return facts, rng.sample(list(facts), rng.randint(1, min(5, len(facts))))


def call(rng: Random) -> Sample:
    """Call a function of any name with arguments that the message tells."""
    facts, wanted = _told_and_wanted(rng)
    name = function_name(rng)
    offered = {name: wanted}
    told = _tell(facts)
    kind = rng.random()
    if kind < 0.4:
        question = f"Text: {told}.\nReturn JSON with the fields {', '.join(wanted)}."
    elif kind < 0.55:
        question = f"Text: {told}."
    else:
        question = rng.choice((f"Text: {told}.\nCall {name}.", f"Call {name}: {told}."))
        for _ in range(rng.choice((0, 0, 1, 2))):  # others, that the message does not name
            fields = [*facts, *(_field_name(rng) for _ in range(2))]
            others = dict.fromkeys(rng.sample(fields, rng.randint(1, min(4, len(fields)))))
            offered.setdefault(function_name(rng), list(others))
    types = {
        field: "integer"
        if isinstance(facts.get(field), int) or field in NUMBER_FIELDS
        else "string"
        for fields in offered.values()
        for field in fields
    }
    names = rng.sample(list(offered), len(offered))
    tools = [declare_fields(one, {field: types[field] for field in offered[one]}) for one in names]
    answer = format_call(name, {field: facts[field] for field in wanted})
    return ask("call", question, answer, tools)
