"""Regular expressions, ordinary ones and hostile ones."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from tests.fuzz.case import Case
from tests.fuzz.strategies import texts

PATTERNS = [
    "^[a-c]{3}-[0-9]{4}$",
    "^(red|green|blue)$",
    "^[A-Z][a-z]*$",
    r"^\d{4}-\d{2}-\d{2}$",
    "^[^0-9]{2,5}$",
    "^.+$",
    "a",
    "^a",
    "b$",
    r"^\S+@\S+\.\S+$",
    "^[A-Z]{2}[0-9]{1,6}$",
    "^é+ß?$",
]
ATOMS = (
    *("a", "b", "x", "é", "ß", "😀", "数", " ", r"\.", r"\d", r"\w", r"\s", r"\D", "."),
    *("[a-z]", "[0-9]", "[^a-z]", "[A-Fa-f0-9]", r"[\w-]", "[é-ü]", "(yes|no|maybe)", "(ab|cd)"),
    *(r"\n", r"\t", r"\\", r"\"", "'", "{}", r"\u00e9", "(?:x|yz)", "(?:é|e)", "[^\n]"),
)
COUNTS = ("", "", "", "?", "*", "+", "{2}", "{1,3}", "{4}", "{0,9}", "{2,}", "*?", "+?")
HOSTILE = [
    "(" * 200 + "a" + ")*" * 200,
    "(?:[^a]{1,2}[^b]{0,2}){300}",
    "(a?b?){0,2000}",
    "(a{1000}){1000}",
    "(a+)+b",
    "(a|aa)+$",
    ".{100000}",
    "x(é|é)*😀😀",
    "(?=a)b",
    "(?!a)a",
    r"\bword\b",
    r"(a)\1",
    r"\Aab\Z",
    "a$b",
    "^^a$$",
    "[]",
    "[^]",
    "(",
    "a{3,1}",
    "*",
    "",
    "a" * 3000,
    "(?i)ABC",
    "(?<name>a)",
    "(?P<name>a)",
    r"\p{L}+",
    r"[\ud800-\udfff]",
    "\ud800",
    r"[a-z]{1,64}@[a-z]{1,255}\.[a-z]{2,24}",
    "|".join(f"word{n}" for n in range(500)),
    r"[^\x00-\x7f]{3}",
    "(.*a){20}",
    "a|b|",
    "\x00",
]


def _row(items: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    counted = st.tuples(items, st.sampled_from(COUNTS)).map("".join)
    return st.lists(counted, min_size=1, max_size=4).map("".join)


def ordinary() -> st.SearchStrategy[str]:
    """Rows and choices of atoms with counts."""
    atoms = st.sampled_from(ATOMS)

    def nest(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
        return st.one_of(
            st.lists(inner, min_size=2, max_size=3).map(lambda many: f"({'|'.join(many)})"),
            inner.map(lambda one: f"(?:{one})"),
            _row(inner.map(lambda one: f"(?:{one})")),
        )

    return _row(st.recursive(atoms, nest, max_leaves=6))


@st.composite
def regex_cases(draw: st.DrawFn) -> Case:
    regex = draw(st.one_of(ordinary(), ordinary(), st.sampled_from([*PATTERNS, *HOSTILE])))
    body: dict[str, Any] = {
        "prompt": draw(texts.prompts),
        "max_tokens": draw(st.sampled_from([32, 64, 200])),
        "temperature": draw(st.sampled_from([0, 1.0, 1.5])),
        "seed": draw(st.integers(0, 99)),
        "structured_outputs": {"regex": regex},
    }
    if draw(st.integers(0, 3)) == 0:
        body["vllm_xargs"] = {"diffusion_max_steps": draw(st.integers(1, 4))}
    if draw(st.integers(0, 5)) == 0:
        body["stream"] = True
    return Case("regex", "/v1/completions", body, {"regex": regex})
