"""SQL statements from a short order."""

from random import Random

from ..sample import Sample, ask
from .lexicon import FIELDS, Value, draw_record, draw_value

TABLES = ("users", "rooms", "books")


def quote(value: Value) -> str:
    """A literal: numbers bare, words in single quotes."""
    return str(value) if isinstance(value, int) else f"'{value}'"


def sql(rng: Random) -> Sample:
    """An INSERT of two rows, or a SELECT with conditions."""
    table = rng.choice(TABLES)
    if rng.random() < 0.5:
        keys = rng.sample(list(FIELDS), rng.randint(2, 3))
        rows = [[draw_value(rng, key) for key in keys] for _ in range(2)]
        said = "; ".join(" ".join(map(str, row)) for row in rows)
        lines = [
            f"INSERT INTO {table} ({', '.join(keys)}) VALUES ({', '.join(map(quote, row))});"
            for row in rows
        ]
        return ask("sql", f"Insert {', '.join(keys)} into {table}: {said}.", "\n".join(lines))
    conditions = draw_record(rng, rng.randint(2, 4))
    columns = rng.sample(list(FIELDS), rng.randint(2, 3))
    order = rng.choice(list(FIELDS))
    said = " and ".join(f"{key} is {value}" for key, value in conditions.items())
    question = f"Select {', '.join(columns)} from {table} where {said}, by {order}."
    where = "\nAND ".join(f"{key} = {quote(value)}" for key, value in conditions.items())
    answer = f"SELECT {', '.join(columns)}\nFROM {table}\nWHERE {where}\nORDER BY {order};"
    return ask("sql", question, answer)
