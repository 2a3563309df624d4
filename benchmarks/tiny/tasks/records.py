"""Tasks over key-value records: JSON by a field list, CSV to JSON, HTML tables."""

import json as jsonlib
from random import Random

from ..sample import Sample, ask
from .lexicon import FIELDS, draw_record, draw_value


def json(rng: Random) -> Sample:
    """Extract the named fields, in the order asked for, from a sentence that has more."""
    record = draw_record(rng, rng.randint(5, 8), max_numbers=1)
    wanted = rng.sample(list(record), rng.randint(4, len(record)))
    facts = ", ".join(f"{key} is {value}" for key, value in record.items())
    question = f"Text: {facts}.\nReturn JSON with the fields {', '.join(wanted)}."
    return ask("json", question, jsonlib.dumps({key: record[key] for key in wanted}))


def csv(rng: Random) -> Sample:
    """Turn CSV lines into a JSON list, one object a line."""
    header = rng.sample(list(FIELDS), rng.randint(2, 3))
    rows = [[draw_value(rng, key) for key in header] for _ in range(rng.randint(2, 4))]
    lines = [",".join(map(str, row)) for row in [header, *rows]]
    objects = [jsonlib.dumps(dict(zip(header, row, strict=True))) for row in rows]
    answer = "[" + ",\n".join(objects) + "]"
    return ask("csv", "Convert this CSV to JSON:\n" + "\n".join(lines), answer)


def html(rng: Random) -> Sample:
    """Turn key-value lines into an HTML table or a list."""
    record = draw_record(rng, rng.randint(3, 5))
    lines = "\n".join(f"{key}: {value}" for key, value in record.items())
    if rng.random() < 0.5:
        rows = [f"<tr><td>{key}</td><td>{value}</td></tr>" for key, value in record.items()]
        answer = "\n".join(["<table>", *rows, "</table>"])
        return ask("html", f"Make an HTML table:\n{lines}", answer)
    rows = [f"<li><b>{key}</b> {value}</li>" for key, value in record.items()]
    return ask("html", f"Make an HTML list:\n{lines}", "\n".join(["<ul>", *rows, "</ul>"]))
