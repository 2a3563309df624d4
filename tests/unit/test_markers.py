"""Ends of tags within texts, against searches of all short texts."""

from __future__ import annotations

import itertools

import pytest

from tests.unit.structured_inputs import LIMITS, dfa_of, vocabulary_of
from vllm_diffusion.structured.markers import completing, search_table, walk, without_inner

SHORT = [bytes(text) for n in range(7) for text in itertools.product(b"a</", repeat=n)]
MARKERS = [b"</", b"a</a", b"aa", b"<<a<<", b"a"]


def ends(marker: bytes, text: bytes) -> list[int]:
    """Where the marker is whole, overlapping ones included."""
    return [at for at in range(len(text) + 1) if text[:at].endswith(marker)]


@pytest.mark.parametrize("marker", MARKERS)
def test_every_marker_is_found(marker: bytes) -> None:
    table = search_table(marker)
    for text in SHORT:
        state, whole = walk(table, 0, text)
        assert whole == ends(marker, text)
        most = max(n for n in range(len(marker) + 1) if text.endswith(marker[:n]))
        assert state == most


@pytest.mark.parametrize("expression", ["[a</]*", "[a</]*</", "(a|</)*", "<[a</]*</a?", "a</a"])
@pytest.mark.parametrize("marker", MARKERS)
def test_a_marker_is_whole_where_a_text_may_end(marker: bytes, expression: str) -> None:
    dfa = dfa_of(expression)
    found = without_inner(dfa, marker, LIMITS)
    allowed = [
        text
        for text in SHORT
        if dfa.accepts(text) and all(dfa.accepts(text[:at]) for at in ends(marker, text))
    ]
    assert [text for text in SHORT if found is not None and found.accepts(text)] == allowed


def test_tokens_that_complete_a_marker() -> None:
    spelled = [b"a", b"<", b"</", b"/", b"/a", b"a</a", b"", b"</</"]
    for place in range(3):
        text = b"</"[:place]
        before = len(ends(b"</", text))
        expected = [t for t, one in enumerate(spelled) if len(ends(b"</", text + one)) > before]
        assert completing(b"</", place, vocabulary_of(spelled, [6])) == expected
