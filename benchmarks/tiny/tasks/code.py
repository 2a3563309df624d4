"""Small Python programs written from a one-line order; every template has one right text."""

from random import Random

from ..sample import Sample, ask
from .lexicon import draw_words


def class_lines(name: str, fields: list[str]) -> list[str]:
    """A class whose constructor stores its arguments."""
    return [
        f"class {name}:",
        f"    def __init__(self, {', '.join(fields)}):",
        *(f"        self.{field} = {field}" for field in fields),
    ]


def sum_lines(name: str, fields: list[str]) -> list[str]:
    """A function that adds its arguments."""
    return [
        f"def {name}({', '.join(fields)}):",
        f"    total = {' + '.join(fields)}",
        f'    print("{name}", total)',
        "    return total",
    ]


def getter_lines(fields: list[str]) -> list[str]:
    """One getter method a field."""
    return [line for f in fields for line in (f"def get_{f}(self):", f"    return self.{f}")]


def filter_lines(name: str, item: str, limit: int) -> list[str]:
    """A loop that keeps the items above a limit."""
    return [
        f"def {name}(items):",
        "    result = []",
        f"    for {item} in items:",
        f"        if {item} > {limit}:",
        f"            result.append({item})",
        "    return result",
    ]


def check_lines(name: str, fields: list[str]) -> list[str]:
    """A function that refuses missing arguments."""
    lines = [f"def {name}({', '.join(fields)}):"]
    for field in fields:
        lines += [f"    if {field} is None:", f'        raise ValueError("{field}")']
    return lines


def code(rng: Random) -> Sample:
    """One of five templates with random identifiers."""
    name, *fields = draw_words(rng, rng.randint(3, 5))
    listed = ", ".join(fields)
    kind = rng.randrange(5)
    if kind == 0:
        order, lines = f"a class {name} with the fields {listed}", class_lines(name, fields)
    elif kind == 1:
        order, lines = f"a function {name} that adds {listed}", sum_lines(name, fields)
    elif kind == 2:
        order, lines = f"getters for {listed}", getter_lines(fields)
    elif kind == 3:
        limit = rng.randint(10, 99)
        order = f"a function {name} that keeps each {fields[0]} above {limit}"
        lines = filter_lines(name, fields[0], limit)
    else:
        order, lines = f"a function {name} that checks {listed}", check_lines(name, fields)
    return ask("code", f"Write {order}.", "\n".join(lines))
