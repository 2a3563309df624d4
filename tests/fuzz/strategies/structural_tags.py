"""Structural tags: free text with schemas between tags."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import strategies as st

from tests.fuzz.case import Case
from tests.fuzz.strategies import texts
from tests.fuzz.strategies.json_schemas import broken, ordinary

HOSTILE: list[Any] = [
    "",
    "{}",
    "[]",
    "not json",
    5,
    {"type": "structural_tag"},
    {"type": "structural_tag", "structures": [], "triggers": []},
    {"type": "structural_tag", "structures": [{}], "triggers": [""]},
    {"structures": [{"begin": "<a>", "schema": {}, "end": "</a>"}], "triggers": ["<b"]},
    {"type": "structural_tag", "format": {"type": "nothing"}},
    {"type": "structural_tag", "format": {"type": "any_text"}},
    {"type": "structural_tag", "format": {"type": "json_schema", "json_schema": {}}},
]


@st.composite
def tag_cases(draw: st.DrawFn) -> Case:
    names = draw(st.lists(st.sampled_from("abcd"), min_size=1, max_size=3, unique=True))
    schemas = st.one_of(ordinary(1), ordinary(1), broken())
    structures = [
        {"begin": f"<{name}>", "schema": draw(schemas), "end": f"</{name}>"} for name in names
    ]
    tags: Any = {"type": "structural_tag", "structures": structures, "triggers": ["<"]}
    constraint: dict[str, Any] = {"tags": structures}
    if draw(st.integers(0, 3)) == 0:
        tags, constraint = draw(st.sampled_from(HOSTILE)), {}
    body: dict[str, Any] = {
        "max_tokens": draw(st.sampled_from([100, 200])),
        "temperature": draw(st.sampled_from([0, 1.5])),
        "seed": draw(st.integers(0, 99)),
    }
    if draw(st.booleans()) and isinstance(tags, dict):
        body |= {"messages": [{"role": "user", "content": "hi"}], "response_format": tags}
        return Case("tags", "/v1/chat/completions", body, constraint)
    said = json.dumps(tags) if isinstance(tags, dict) else tags
    body |= {"prompt": draw(texts.prompts), "structured_outputs": {"structural_tag": said}}
    return Case("tags", "/v1/completions", body, constraint)
