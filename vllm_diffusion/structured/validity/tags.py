"""Texts against structural tags: where each format may end, found from the text alone.

A format turns the places where it may begin into those where it may end; a text is good where its
end is among them. Shares nothing with the automata and grammars that texts are made with.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from functools import lru_cache
from typing import Any

from vllm_diffusion.structured.limits import Limits
from vllm_diffusion.structured.structural_tag import normalised
from vllm_diffusion.structured.validity.json_text import (
    InvalidError,
    NotCheckedError,
    check_value,
    num_plain,
    read_value,
)
from vllm_diffusion.structured.validity.parameters import ends_of_parameters
from vllm_diffusion.structured.validity.pattern import ends_within, of_expression, of_grammar

MOST_WORK = 200_000
"""Places that are looked at."""
_CHEAP = frozenset("const_string json_schema sequence or tag tags_with_separator".split())
_REPEATS = {"optional": (0, 1), "plus": (1, -1), "star": (0, -1)}

Places = set[int]


def check_tag(spec: str, text: str, limits: Limits) -> None:
    """Check a text.

    Raises:
        InvalidError: no way to read it fits.
        NotCheckedError: a format that is not read here, or a bound.
    """
    if len(text) not in _Reader(text, limits).ends(normalised(json.loads(spec)), {0}):
        raise InvalidError("it does not follow the structural tag")


class _Reader:
    def __init__(self, text: str, limits: Limits) -> None:
        self.text, self.limits, self.work = text, limits, 0
        self.json_ends: dict[tuple[int, str], list[int]] = {}

    def ends(self, node: Any, starts: Places) -> Places:
        """Where a format may end that begins at one of these places."""
        self.work += 1 + len(starts)
        if self.work > MOST_WORK:
            raise NotCheckedError("there are too many ways to read the text")
        if not starts:
            return set()
        kind = node["type"]
        read = getattr(self, f"_{kind}", None)
        if kind in _REPEATS or kind == "repeat":
            low, high = _REPEATS.get(kind, (node.get("min"), node.get("max")))
            return self._repeated(node["content"], starts, low, high)
        if read is None:
            raise NotCheckedError(f"type={kind!r} is not checked")
        return set(read(node, starts))

    def _behind(self, texts: Iterable[str], starts: Places) -> Places:
        return {at + len(one) for one in texts for at in starts if self.text.startswith(one, at)}

    def _const_string(self, node: Any, starts: Places) -> Places:
        return self._behind([node["value"]], starts)

    def _regex(self, node: Any, starts: Places) -> Places:
        return self._matched(of_expression(node["pattern"], self.limits, False), starts)

    def _grammar(self, node: Any, starts: Places) -> Places:
        return self._matched(of_grammar(node["grammar"], self.limits), starts)

    def _matched(self, matcher: Any, starts: Places) -> Places:
        return {end for at in starts for end in ends_within(matcher, self.text, at)}

    def _qwen_xml_parameter(self, node: Any, starts: Places) -> Places:
        schema = node.get("json_schema", True)
        return {end for at in starts for end in ends_of_parameters(schema, self.text, at)}

    def _json_schema(self, node: Any, starts: Places) -> Places:
        if node.get("style") == "qwen_xml":
            return self._qwen_xml_parameter(node, starts)
        if node.get("style", "json") != "json":
            raise NotCheckedError("a style that is not checked")
        spec = json.dumps(node.get("json_schema", True))
        found: Places = set()
        for at in starts:
            if (at, spec) not in self.json_ends:
                self.json_ends[at, spec] = self._json_at(spec, at)
            found.update(self.json_ends[at, spec])
        return found

    def _json_at(self, spec: str, at: int) -> list[int]:
        try:
            _, end = json.JSONDecoder().raw_decode(self.text, at)
        except (ValueError, RecursionError):
            return []
        # A number may end before its last digit; nothing else has two ends.
        is_number = self.text[at] in "-0123456789"
        good = []
        for place in range(at + 1 if is_number else end, end + 1):
            try:
                check_value(spec, read_value(self.text[at:place]))
            except InvalidError:
                continue
            good.append(place)
        return good

    def _sequence(self, node: Any, starts: Places) -> Places:
        for part in node["elements"]:
            starts = self.ends(part, starts)
        return starts

    def _or(self, node: Any, starts: Places) -> Places:
        return set().union(*(self.ends(part, starts) for part in node["elements"]))

    def _tag(self, node: Any, starts: Places) -> Places:
        end = node.get("end", "")
        within = self.ends(node["content"], self._behind([node["begin"]], starts))
        return self._behind(end if isinstance(end, list) else [end], within)

    def _one_of(self, tags: Any, starts: Places) -> Places:
        return set().union(*(self.ends({"type": "tag", **tag}, starts) for tag in tags))

    def _tags_with_separator(self, node: Any, starts: Places) -> Places:
        found = set() if node.get("at_least_one") else set(starts)
        new = self._one_of(node["tags"], starts)
        while new:
            found |= new
            if node.get("stop_after_first"):
                break
            behind = self._behind([node.get("separator", "")], new)
            new = self._one_of(node["tags"], behind) - found
        return found

    def _any_text(self, node: Any, starts: Places) -> Places:
        return self._free(node.get("excludes") or [], starts, node.get("max_chars"))

    def _free(self, excludes: list[str], starts: Places, most: int | None = None) -> Places:
        """Behind free text, in which some texts may not be whole."""
        found: Places = set()
        for at in starts:
            first = [self.text.find(one, at) + len(one) - 1 for one in excludes
                     if self.text.find(one, at) >= 0]  # fmt: skip
            last = [] if most is None else [at + most]
            found.update(range(at, min([len(self.text), *first, *last]) + 1))
            self.work += len(found)
        return found

    def _dispatch(self, node: Any, starts: Places) -> Places:
        tags = [{"begin": begin, "content": content} for begin, content in node["rules"]]
        triggers = [begin for begin, _ in node["rules"]]
        stops = {"stop_after_first": not node.get("loop", True), "excludes": node.get("excludes")}
        return self._triggered_tags({"triggers": triggers, "tags": tags, **stops}, starts)

    def _triggered_tags(self, node: Any, starts: Places) -> Places:
        triggers, excludes = list(node["triggers"]), list(node.get("excludes") or [])
        seen: Places = set()
        found, new, is_first = set(), set(starts), True
        while new:
            free = self._free([*triggers, *excludes], new)
            if not (is_first and node.get("at_least_one")) and (
                is_first or not node.get("stop_after_first")
            ):
                found |= free
            elif not is_first:
                found |= new
            if not is_first and node.get("stop_after_first"):
                break
            seen |= new
            begins = {at for at in free if any(self.text.startswith(one, at) for one in triggers)}
            new, is_first = self._one_of(node["tags"], begins) - seen, False
        return found

    def _repeated(self, content: Any, starts: Places, low: int, high: int) -> Places:
        at, found, count = set(starts), set(starts) if low == 0 else set(), 0
        while at and (high < 0 or count < high):
            at = self.ends(content, at)
            count += 1
            if count >= low:
                if at <= found:
                    break
                found |= at
            elif count > self.limits.states:
                raise NotCheckedError("too many repetitions")
        return found


@lru_cache(maxsize=32)
def _num_cheap(spec: str) -> int | None:
    count, left = 0, [normalised(json.loads(spec))]
    while left:
        node = left.pop()
        count += 1
        if not isinstance(node, dict) or node.get("type", "tag") not in _CHEAP:
            return None
        if node.get("type") == "json_schema":
            schemas = num_plain(node.get("json_schema", True))
            if schemas is None or node.get("style", "json") != "json":
                return None
            count += schemas
        left += [*node.get("elements", ()), *node.get("tags", ())]
        if "content" in node:
            left.append(node["content"])
    return count


def is_cheap_tag(spec: str, most: int) -> bool:
    """Whether it holds at most so many formats and schemas, each of which is looked at briefly."""
    count = _num_cheap(spec)
    return count is not None and count <= most
