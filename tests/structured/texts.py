"""Regular expressions and context-free grammars, drawn from a seed, with an independent judge."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random

from lark import Lark
from lark.exceptions import LarkError

ATOMS = (
    "[a-z]",
    "[0-9]",
    "x",
    "(yes|no|maybe)",
    "é",
    "[^a-z]",
    "\\d",
    "\\.",
    " ",
    "(ab|cd)",
    "[A-F0-9]",
)
COUNTS = ("", "", "", "?", "*", "+", "{2}", "{1,3}", "{4}")


def regex(rng: Random) -> str:
    """A few atoms with counts, and now and then a choice between two such rows."""
    row = "".join(rng.choice(ATOMS) + rng.choice(COUNTS) for _ in range(rng.randrange(1, 6)))
    return row if rng.random() < 0.7 else f"({row}|{regex(rng)})"


def regexes(count: int, seed: int = 0) -> Iterator[str]:
    for index in range(count):
        yield regex(Random(f"regex/{seed}/{index}"))


GRAMMARS = (
    'start: sum\nsum: term ("{a}" term)*\nterm: DIGITS | "(" sum ")"\nDIGITS: /[0-9]{{1,{n}}}/\n',
    'start: pair\npair: "{a}" pair "{b}" | "{c}"\n',
    'start: "SELECT " cols " FROM " NAME\ncols: NAME (", " NAME)*\nNAME: /[a-z]{{1,{n}}}/\n',
    'start: node\nnode: "<{c}>" (node | TEXT)* "</{c}>"\nTEXT: /[a-z]+/\n',
    'start: item ("{b}" item)+\nitem: "{a}" | "{c}" | /[0-9]{{{n}}}/\n',
)


def grammars(count: int, seed: int = 0) -> Iterator[str]:
    """Sums with brackets, nested pairs, queries, markup and lists, with signs that vary."""
    for index in range(count):
        rng = Random(f"grammar/{seed}/{index}")
        a, b, c = rng.sample(["+", "-", "*", "ab", ";", "::", "é", "=>"], 3)
        yield GRAMMARS[index % len(GRAMMARS)].format(a=a, b=b, c=c, n=rng.randrange(1, 5))


def parses(grammar: str, text: str) -> bool:
    """Is the text in the language, as Lark's Earley parser sees it?"""
    try:
        Lark(grammar, parser="earley").parse(text)
    except LarkError:
        return False
    return True
