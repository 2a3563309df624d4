"""What clients send, ordinary, odd and hostile: hypothesis strategies of ``Case``."""

from __future__ import annotations

from hypothesis import strategies as st

from tests.fuzz.case import Case
from tests.fuzz.strategies.choices import choice_cases
from tests.fuzz.strategies.fields import field_cases
from tests.fuzz.strategies.grammars import grammar_cases
from tests.fuzz.strategies.json_schemas import schema_cases
from tests.fuzz.strategies.regexes import regex_cases
from tests.fuzz.strategies.structural_tags import tag_cases
from tests.fuzz.strategies.tools import tool_cases

STRUCTURED: dict[str, st.SearchStrategy[Case]] = {
    "schema": schema_cases(),
    "regex": regex_cases(),
    "choice": choice_cases(),
    "grammar": grammar_cases(),
    "tags": tag_cases(),
    "tools": tool_cases(),
}
FIELDS: dict[str, st.SearchStrategy[Case]] = {"fields": field_cases()}
ALL = STRUCTURED | FIELDS

WEIGHTS = {"schema": 6, "regex": 3, "choice": 1, "grammar": 1, "tags": 1, "tools": 2, "fields": 6}
"""How often a run draws each kind, beside the others."""
