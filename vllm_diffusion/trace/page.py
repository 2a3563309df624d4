"""A trace as one page: no outside resources, and text that is only ever text."""

from __future__ import annotations

import json
from importlib.resources import files
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vllm_diffusion.trace.record import Trace

PLACE = "/*TRACE*/null"


def page(trace: Trace) -> str:
    """The page's HTML."""
    steps = [
        [[p.text, p.state, p.prob, p.other, p.other_prob] for p in step] for step in trace.steps
    ]
    data = json.dumps({"steps": steps, "text": trace.text}, ensure_ascii=True)
    # A text may hold what ends a script.
    data = data.replace("<", "\\u003c")
    template = files(__package__).joinpath("replay.html").read_text(encoding="utf-8")
    assert template.count(PLACE) == 1
    return template.replace(PLACE, data)
