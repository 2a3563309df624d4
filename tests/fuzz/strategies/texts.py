"""Texts, names and numbers that other strategies are made of."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

NAMES = (
    "name city date id tag note value items user email price count a b x é ß 数量 emoji😀".split()
)
ODD_NAMES = ["", " ", 'quo"te', "back\\slash", "line\nbreak", "a" * 70, "$ref", "__proto__", "\x00"]
WORDS = [
    "red",
    "green",
    "blue",
    "yes",
    "no",
    "oslo",
    "émile",
    "ß",
    "数",
    'say "hi"',
    "a/b",
    "",
    " ",
]
PROMPTS = [
    "hi",
    "Write a thank letter: sender eva, to omar, item lamp, city oslo, day friday.",
    "Extract the fields.",
    "Dear omar,\n\nthank you",
    "数量 é 😀",
]

names = st.one_of(st.sampled_from(NAMES), st.sampled_from(NAMES), st.sampled_from(ODD_NAMES))
ordinary_names = st.sampled_from(NAMES)
words = st.sampled_from(WORDS)
prompts = st.sampled_from(PROMPTS)
small = st.integers(0, 6)
numbers = st.one_of(
    st.integers(-100, 100),
    st.sampled_from([0.1, 0.5, -2.5, 1e-7, 1e22, 2**31, 2**53 + 1, 2**63, -(2**63) - 1, 10**20]),
)

scalars: st.SearchStrategy[Any] = st.one_of(
    words, st.integers(-20, 20), st.sampled_from([None, True, False, 0.5, -0.0, 1.0])
)
values: st.SearchStrategy[Any] = st.recursive(
    scalars,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(ordinary_names, inner, max_size=3)
    ),
    max_leaves=5,
)


def nested(depth: int, leaf: Any = 0) -> Any:
    """Lists in lists."""
    for _ in range(depth):
        leaf = [leaf]
    return leaf


HOSTILE: list[Any] = [
    None,
    True,
    False,
    "",
    " ",
    "x",
    "\ud800",
    "\x00",
    "💥" * 5,
    "z" * 3000,
    0,
    -1,
    -0.0,
    0.5,
    1e10,
    1e308,
    float("nan"),
    float("inf"),
    float("-inf"),
    2**31,
    2**63,
    10**20,
    -(10**20),
    [],
    {},
    [None],
    [1, "x"],
    ["\ud800"],
    ["a"] * 300,
    [[]],
    nested(60),
    nested(600),
    {"a": {"b": {}}},
    {"": ""},
    {"type": "object"},
    {"0": 1},
    {"5": float("nan")},
    {"-1": 1},
    {"99999999": 1},
    "null",
    "{}",
    "[1",
    "1",
]
"""Values that some field takes for another one."""
hostile = st.sampled_from(HOSTILE)
