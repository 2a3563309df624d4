"""Grammars, in Lark's and in GBNF's notation; the judge reads Lark's of the same rules."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from tests.fuzz.case import Case
from tests.fuzz.strategies import texts

HOSTILE = [
    "root ::= a\na ::= b\nb ::= a",
    "root ::= root",
    'root ::= "a" root',
    'root ::= root "a" | "b"',
    "root ::= undefined",
    'root ::= "a" root "b" | ""',
    "start: start",
    'start: "a" start',
    "start: <|im_end|>",
    "start: UNDEFINED",
    'start: "a"{1000000}',
    "start: /(a?b?){0,2000}/",
    "start: /[/",
    "",
    "\x00",
    "\ud800",
    "not a grammar",
    "root ::= [^",
    'root ::= "\\x',
    "root ::= " + "(" * 300 + '"a"' + ")" * 300,
    "start: " + "(" * 300 + '"a"' + ")" * 300,
    "root ::= (a | b)*\na ::= [ab]*\nb ::= [bc]*",
    "\n".join(f'r{n} ::= "a" r{n + 1} | "b" r{n + 1}' for n in range(500)),
    "%import common.NUMBER\nstart: NUMBER",
    '%ignore " "\nstart: "a" "b"',
]

LITERALS = ["a", "b", "ab", "(", ")", "+", "é", ";", "let ", "😀"]
RULES = ("start", "one", "two")


def _quoted(literal: str) -> str:
    return f'"{literal}"'


@st.composite
def rules(draw: st.DrawFn) -> list[list[list[str]]]:
    """Alternatives of each rule: rows of literals, character ranges and other rules."""
    found = []
    for number in range(len(RULES)):
        later = RULES[number + 1 :]
        symbol = st.one_of(
            st.sampled_from([_quoted(literal) for literal in LITERALS]),
            st.sampled_from(["[a-z]", "[0-9]"]),
            *([st.sampled_from(later)] * 2 if later else []),
        )
        row = st.lists(symbol, min_size=1, max_size=3)
        found.append(draw(st.lists(row, min_size=1, max_size=3)))
    if draw(st.booleans()):
        # A rule that comes back to itself, in brackets, with the way out that stands there.
        found[0].append(['"("', "start", '")"'])
    return found


def as_lark(of: list[list[list[str]]]) -> str:
    """Ranges are terminals there."""
    lines = []
    for name, rows in zip(RULES, of, strict=True):
        said = [" ".join(f"/{s}/" if s.startswith("[") else s for s in row) for row in rows]
        lines.append(f"{name}: {' | '.join(said)}")
    return "\n".join(lines) + "\n"


def as_gbnf(of: list[list[list[str]]]) -> str:
    lines = []
    for name, rows in zip(RULES, of, strict=True):
        said = " | ".join(" ".join("root" if s == "start" else s for s in row) for row in rows)
        lines.append(f"{'root' if name == 'start' else name} ::= {said}")
    return "\n".join(lines) + "\n"


@st.composite
def grammar_cases(draw: st.DrawFn) -> Case:
    constraint: dict[str, Any] = {}
    if draw(st.integers(0, 3)):
        of = draw(rules())
        grammar = draw(st.sampled_from([as_lark, as_gbnf]))(of)
        constraint = {"lark": as_lark(of)}
    else:
        grammar = draw(st.sampled_from(HOSTILE))
    body: dict[str, Any] = {
        "prompt": draw(texts.prompts),
        "max_tokens": draw(st.sampled_from([64, 128])),
        "temperature": draw(st.sampled_from([0, 1.5])),
        "seed": draw(st.integers(0, 99)),
        "structured_outputs": {"grammar": grammar},
    }
    return Case("grammar", "/v1/completions", body, constraint)
