"""Edits: a text and an instruction, and the whole text as it should be.

The text is the request's draft: a server lays it on the canvas, and the model keeps what the
instruction leaves alone. The prompt is the instruction, an empty line, then the text.
"""

import json
from random import Random

from ..sample import Message, Sample
from .code import check_lines, class_lines, filter_lines, getter_lines, sum_lines
from .letters import letter
from .lexicon import FIELDS, WORDS, draw_record, draw_words, invent_word
from .sql import sql

Change = tuple[str, str, str]
"""An instruction, the text before and the text after."""


def prompt(instruction: str, text: str) -> str:
    """What the user says."""
    return f"{instruction}\n\n{text}"


def _new_word(rng: Random, text: str) -> str:
    """A word that the text has not, invented one time in five."""
    while True:
        word = invent_word(rng) if rng.random() < 0.2 else rng.choice(WORDS)
        if word not in text:
            return word


def _program(rng: Random) -> tuple[str, list[str]]:
    """A program, and names in it that stand for themselves wherever they stand."""
    name, *fields = draw_words(rng, rng.randint(3, 5))
    kind = rng.randrange(5)
    if kind == 0:
        lines = class_lines(name, fields)
    elif kind == 1:
        lines = sum_lines(name, fields)
    elif kind == 2:
        lines, name = getter_lines(fields), fields[0]
    elif kind == 3:
        lines, fields = filter_lines(name, fields[0], rng.randint(10, 99)), fields[:1]
    else:
        lines = check_lines(name, fields)
    return "\n".join(lines), [name, *fields]


def _replace(rng: Random) -> Change:
    """Another word in place of one, everywhere."""
    kind = rng.random()
    if kind < 0.4:
        text, names = _program(rng)
    elif kind < 0.7:
        words = draw_words(rng, rng.randint(8, 20))
        names = words[: rng.randint(1, 3)]
        for name in names:  # more than one place to change
            words.insert(rng.randrange(len(words)), name)
        text = " ".join(words)
    elif kind < 0.85:
        text = letter(rng).answer
        names = [word for word in WORDS[20:] if f" {word}" in text][:1]
    else:
        record = draw_record(rng, rng.randint(4, 7), max_numbers=1)
        text = json.dumps(record)
        names = [value for value in record.values() if isinstance(value, str)]
    old = rng.choice(names or [text.split()[1].strip(",.:")])
    new = _new_word(rng, text)
    # A word within another ("rose" in "roses") would make two readings.
    if any(old in other and old != other for other in [*WORDS, *FIELDS] if other in text):
        return _replace(rng)
    return (
        rng.choice((f"Replace {old} with {new}.", f"Rename {old} to {new}.")),
        text,
        text.replace(old, new),
    )


def _set_value(rng: Random) -> Change:
    """Other values of one or two fields."""
    record = draw_record(rng, rng.randint(4, 7), max_numbers=1)
    names = rng.sample(list(record), rng.choice((1, 1, 2)))
    changed = dict(record)
    for name in names:
        while changed[name] == record[name]:
            changed[name] = (
                rng.randint(10, 99) if isinstance(record[name], int) else rng.choice(FIELDS[name])
            )
    told = " and ".join(f"{name} to {changed[name]}" for name in names)
    return f"Set {told}.", *_written(rng, record, changed)


def _add_field(rng: Random) -> Change:
    """One more field at the end."""
    record = draw_record(rng, rng.randint(4, 7), max_numbers=1)
    *kept, name = record
    before = {key: record[key] for key in kept}
    return f"Add {name} {record[name]}.", *_written(rng, before, record)


def _remove_field(rng: Random) -> Change:
    """One field less."""
    record = draw_record(rng, rng.randint(4, 7), max_numbers=1)
    name = rng.choice(list(record))
    after = {key: value for key, value in record.items() if key != name}
    return f"Remove {name}.", *_written(rng, record, after)


def _written(rng: Random, before: dict[str, object], after: dict[str, object]) -> tuple[str, str]:
    """Both records in the same form."""
    if rng.random() < 0.5:
        return json.dumps(before), json.dumps(after)
    return tuple("\n".join(f"{k}: {v}" for k, v in record.items()) for record in (before, after))  # type: ignore[return-value]


def _other_number(rng: Random) -> Change:
    """Another number in a statement."""
    text = sql(rng).answer
    digits = [word for word in text.replace("(", " ").replace(")", " ").split() if word.isdigit()]
    if not digits:
        return _replace(rng)
    old = rng.choice(digits)
    if text.count(old) > 1:
        return _replace(rng)
    while (new := str(rng.randint(10, 99))) == old:
        pass
    return f"Replace {old} with {new}.", text, text.replace(old, new)


def edit(rng: Random) -> Sample:
    """A small change of a small text."""
    kind = rng.random()
    if kind < 0.5:
        instruction, before, after = _replace(rng)
    elif kind < 0.7:
        instruction, before, after = _set_value(rng)
    elif kind < 0.8:
        instruction, before, after = _add_field(rng)
    elif kind < 0.9:
        instruction, before, after = _remove_field(rng)
    else:
        instruction, before, after = _other_number(rng)
    messages: list[Message] = [{"role": "user", "content": prompt(instruction, before)}]
    return Sample("edit", messages, after, draft=before)
