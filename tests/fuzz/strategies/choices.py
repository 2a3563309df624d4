"""Lists of choices."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from tests.fuzz.case import Case
from tests.fuzz.strategies import texts

HOSTILE: list[Any] = [
    [],
    [""],
    ["", "a"],
    ["a"] * 50,
    [f"choice {n}" for n in range(5000)],
    ["x" * 5000],
    ["a" * n for n in range(1, 200)],
    ["é", "ß"],
    ["\ud800"],
    ["\x00"],
    [1, 2],
    [None],
    "abc",
    {"a": 1},
    ["a\nb", "a\\b", 'a"b', "(a|b)*", "[a]"],
    ["<|im_end|>", "<|MASK|>"],
]


@st.composite
def choice_cases(draw: st.DrawFn) -> Case:
    alphabet = st.text(st.sampled_from("abcé 😀ß\"'\\\n数(|"), min_size=1, max_size=12)
    ordinary = st.lists(st.one_of(texts.words, alphabet), min_size=1, max_size=6)
    choice = draw(st.one_of(ordinary, ordinary, st.sampled_from(HOSTILE)))
    body: dict[str, Any] = {
        "max_tokens": draw(st.sampled_from([16, 64])),
        "temperature": draw(st.sampled_from([0, 1.5])),
        "seed": draw(st.integers(0, 99)),
        "structured_outputs": {"choice": choice},
    }
    # A text is held to what it may be, whatever the list's form.
    constraint = {"choice": choice} if isinstance(choice, list) else {}
    if draw(st.booleans()):
        body["prompt"] = draw(texts.prompts)
        return Case("choice", "/v1/completions", body, constraint)
    body["messages"] = [{"role": "user", "content": draw(texts.prompts)}]
    return Case("choice", "/v1/chat/completions", body, constraint)
