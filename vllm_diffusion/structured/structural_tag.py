"""Structural tags, as xgrammar defines the format: tool calls between markers, and free text.

Read into one tree; said as an expression where every part is regular, as a Lark grammar of
llguidance otherwise. Formats that neither can say are refused by name.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from typing import Any

from vllm_diffusion.quote import quoted
from vllm_diffusion.structured.constraint import RefusedError
from vllm_diffusion.structured.json_schema.to_regex import NotRegularError
from vllm_diffusion.structured.regex_ast import EMPTY, Alt, Node, Repeat, Seq, anchored, literal
from vllm_diffusion.structured.regex_ast import parse as parse_regex
from vllm_diffusion.structured.regex_json import to_rust

Format = dict[str, Any]
SchemaToNode = Callable[[Any], Node]
SchemaToGrammar = Callable[[Any], str]

MAX_PARTS = 2000
MAX_REPEAT = 1000


def normalised(spec: Any) -> Format:
    """The tag's format; the older form with structures and triggers as the newer one.

    Raises:
        RefusedError: it is neither.
    """
    if isinstance(spec, dict) and isinstance(spec.get("format"), dict):
        return dict(spec["format"])
    if isinstance(spec, dict) and isinstance(spec.get("structures"), list):
        tags = []
        for part in spec["structures"]:
            if not isinstance(part, dict) or not isinstance(part.get("begin"), str):
                raise RefusedError("structures of a structural tag have begin, schema and end")
            content = {"type": "json_schema", "json_schema": part.get("schema", True)}
            tags.append({"type": "tag", "begin": part["begin"], "content": content,
                         "end": part.get("end", "")})  # fmt: skip
        return {"type": "triggered_tags", "triggers": spec.get("triggers", []), "tags": tags}
    raise RefusedError("a structural tag has a format, or structures and triggers")


def markers_of(spec: Format) -> tuple[bytes, ...]:
    """What parsers look for at the end of a call: see ``markers``."""
    if spec.get("type") == "tag":
        tags = [spec]
    elif spec.get("type") in ("tags_with_separator", "triggered_tags"):
        tags = spec["tags"] if isinstance(spec.get("tags"), list) else []
    else:
        return ()
    found: dict[bytes, None] = {}
    for tag in tags:
        is_json = isinstance(tag, dict) and isinstance(tag.get("content"), dict)
        if is_json and tag["content"].get("type") == "json_schema":
            for end in _ends(tag):
                if len(marker := end.lstrip("}] \n")) > 1:
                    found[marker.encode()] = None
    return tuple(found)


class Reader:
    """Walks a format; what its leaves become is the caller's."""

    def __init__(self) -> None:
        self.parts = 0

    def kind(self, node: Any) -> str:
        self.parts += 1
        if not isinstance(node, dict) or not isinstance(node.get("type"), str):
            raise RefusedError("each format of a structural tag has a type")
        if self.parts > MAX_PARTS:
            raise RefusedError(f"a structural tag has at most {MAX_PARTS} formats")
        return str(node["type"])


def _text(node: Format, key: str) -> str:
    value = node.get(key)
    if not isinstance(value, str):
        raise RefusedError(f"{key}={quoted(value)} of a structural tag must be a text")
    return value


def _separator(node: Format) -> str:
    return _text({"separator": "", **node}, "separator")


def _list(node: Format, key: str) -> list[Any]:
    value = node.get(key)
    if not isinstance(value, list) or not value:
        raise RefusedError(f"{key} of a structural tag must be a list that is not empty")
    return value


def _ends(tag: Format) -> list[str]:
    end = tag.get("end", "")
    ends = end if isinstance(end, list) else [end]
    if not ends or not all(isinstance(one, str) for one in ends):
        raise RefusedError("end of a tag must be a text or texts; tokens are not served")
    return ends


def _tags(node: Format) -> list[Format]:
    tags = _list(node, "tags")
    if not all(isinstance(tag, dict) and isinstance(tag.get("content"), dict) for tag in tags):
        raise RefusedError("tags of a structural tag have begin, content and end")
    return tags


def _schema(node: Format) -> Any:
    if node.get("style", "json") != "json":
        raise RefusedError(
            f"style={quoted(node['style'])} of a structural tag is not served; take a parser of "
            "tool calls that writes JSON"
        )
    return node.get("json_schema", True)


class ToNode(Reader):
    """A structural tag as an expression.

    Args:
        of_schema: of a JSON schema; raises ``NotRegularError``.
        nesting: levels of an expression's groups.
    """

    def __init__(self, of_schema: SchemaToNode, nesting: int) -> None:
        super().__init__()
        self.of_schema, self.nesting = of_schema, nesting

    def of(self, node: Any) -> Node:
        kind = self.kind(node)
        if kind == "const_string":
            return literal(_text(node, "value"))
        if kind == "json_schema":
            return self.of_schema(_schema(node))
        if kind == "regex":
            return anchored(parse_regex(_text(node, "pattern"), self.nesting), is_search=False)
        if kind == "sequence":
            return Seq(tuple(self.of(part) for part in _list(node, "elements")))
        if kind == "or":
            return Alt(tuple(self.of(part) for part in _list(node, "elements")))
        if kind == "tag":
            return self._tag(node)
        if kind == "tags_with_separator":
            one = Alt(tuple(self._tag(tag) for tag in _tags(node)))
            more = Repeat(Seq((literal(_separator(node)), one)), 0, None)
            whole: Node = one if node.get("stop_after_first") else Seq((one, more))
            return whole if node.get("at_least_one") else Alt((EMPTY, whole))
        if kind in ("optional", "plus", "star", "repeat"):
            low, high = _repeats(node, kind)
            return Repeat(self.of(node.get("content")), low, high)
        raise NotRegularError

    def _tag(self, tag: Format) -> Node:
        ends = _ends(tag)
        content = self.of(tag["content"])
        return Seq((literal(_text(tag, "begin")), content, Alt(tuple(map(literal, ends)))))


def _repeats(node: Format, kind: str) -> tuple[int, int | None]:
    if kind != "repeat":
        return (1 if kind == "plus" else 0), (1 if kind == "optional" else None)
    low, high = node.get("min", 0), node.get("max")
    if type(low) is not int or type(high) is not int or not 0 <= low <= high <= MAX_REPEAT:
        raise RefusedError(f"repeat of a structural tag counts from 0 to {MAX_REPEAT}")
    return low, high


class ToLark(Reader):
    """A structural tag as a Lark grammar.

    Args:
        of_schema: what stands behind ``%json``.
        of_grammar: a grammar of the client's in EBNF, as a Lark grammar.
        nesting: levels of an expression's groups.
    """

    def __init__(self, of_schema: SchemaToGrammar, nesting: int) -> None:
        super().__init__()
        self.of_schema, self.nesting = of_schema, nesting
        self.rules: list[str] = []

    def grammar(self, node: Any) -> str:
        start = self.of(node)
        return "\n".join(["%llguidance {}", f"start: {start}", *self.rules, ""])

    def _rule(self, body: str, prefix: str = "part", suffix: str = "") -> str:
        name = f"{prefix}_{len(self.rules)}"
        self.rules.append(f"{name}{suffix}: {body}")
        return name

    def of(self, node: Any) -> str:
        kind = self.kind(node)
        if kind == "const_string":
            return _lark(_text(node, "value"))
        if kind == "json_schema":
            return self._rule(f"%json {self.of_schema(_schema(node))}")
        if kind == "regex":
            expression = anchored(
                parse_regex(_text(node, "pattern"), self.nesting), is_search=False
            )
            return self._rule(_terminal(to_rust(expression)), "TEXT")
        if kind == "any_text":
            return self._free(self._excludes(node))
        if kind == "sequence":
            return self._sequence(_list(node, "elements"))
        if kind == "or":
            return self._rule(" | ".join(self.of(part) for part in _list(node, "elements")))
        if kind == "tag":
            return self._tag(node)
        if kind == "tags_with_separator":
            one = self._rule(" | ".join(self._tag(tag) for tag in _tags(node)))
            more = f"({_lark(_separator(node))} {one})*"
            whole = one if node.get("stop_after_first") else f"{one} {more}"
            return self._rule(whole if node.get("at_least_one") else f'"" | {whole}')
        if kind == "triggered_tags":
            return self._triggered(node)
        if kind in ("optional", "plus", "star", "repeat"):
            low, high = _repeats(node, kind)
            count = f"{{{low},{'' if high is None else high}}}"
            return self._rule(f"({self.of(node.get('content'))}){count}")
        raise RefusedError(f"type={quoted(kind)} of a structural tag is not served")

    def _sequence(self, parts: list[Any]) -> str:
        """A text behind free text is where that ends: the lexer takes as much as fits."""
        out: list[str] = []
        for part, following in itertools.zip_longest(parts, parts[1:]):
            behind = _text(following, "value") if _is(following, "const_string") else ""
            if out and out[-1] == "":
                out[-1] = '""'  # is in what stands before it
            elif behind and _is(part, "any_text"):
                out += [self._until([behind], self._excludes(part)), ""]
                continue
            else:
                out.append(self.of(part))
        return self._rule(" ".join(out))

    def _tag(self, tag: Format, skipped: int = 0) -> str:
        """Args: skipped: characters of its begin that are there already."""
        begin, ends = _lark(_text(tag, "begin")[skipped:]), _ends(tag)
        if _is(tag["content"], "any_text") and all(ends):
            return self._rule(f"{begin} {self._until(ends, self._excludes(tag['content']))}")
        content = self.of(tag["content"])
        return self._rule(f"{begin} {content} ({' | '.join(map(_lark, ends))})")

    def _excludes(self, node: Format) -> list[str]:
        if node.get("max_tokens") is not None or node.get("max_chars") is not None:
            raise RefusedError("a bounded any_text of a structural tag is not served")
        excludes = node.get("excludes") or []
        if not all(isinstance(text, str) and text for text in excludes):
            raise RefusedError("excludes of a structural tag must be texts")
        return list(excludes)

    def _free(self, excludes: list[str]) -> str:
        """Any text without some texts in it."""
        without = "".join(f" & ~{_holding(text, '.*')}" for text in excludes)
        return self._rule(r"/(?s:.*)/" + without, "TEXT")

    def _until(self, ends: list[str], excludes: list[str]) -> str:
        """Any text without some texts in it, and the first of its ends."""
        without = "".join(f" & ~{_holding(text, '.+')}" for text in excludes)
        ending = "|".join(to_rust(literal(end)) for end in ends)
        text = self._rule(f"{_terminal(f'(?s:.*)(?:{ending})')}{without}", "TEXT")
        return self._rule(text, suffix="[lazy]")

    def _triggered(self, node: Format) -> str:
        """Free text; behind a trigger the rest of one of its tags."""
        triggers = _list(node, "triggers")
        if not all(isinstance(trigger, str) and trigger for trigger in triggers):
            raise RefusedError("triggers of a structural tag must be texts")
        excludes = self._excludes(node)
        free = self._free([*triggers, *excludes])
        tags: dict[str, list[str]] = {}
        for tag in _tags(node):
            begin = _text(tag, "begin")
            fitting = [trigger for trigger in triggers if begin.startswith(trigger)]
            if not fitting:
                raise RefusedError(
                    f"begin={quoted(begin)} of a tag starts with none of the triggers"
                )
            trigger = min(fitting, key=len)
            tags.setdefault(trigger, []).append(self._tag(tag, len(trigger)))
        ways = []
        for trigger, rests in tags.items():
            others = [text for text in triggers if text != trigger]
            ways.append(f"{self._until([trigger], [*others, *excludes])} ({' | '.join(rests)})")
        one = self._rule(" | ".join(ways))
        if node.get("stop_after_first"):
            return self._rule(one + ("" if node.get("at_least_one") else f" | {free}"))
        return self._rule(f"({one}){'+' if node.get('at_least_one') else '*'} {free}")


def _is(node: Any, kind: str) -> bool:
    return isinstance(node, dict) and node.get("type") == kind


def _holding(text: str, rest: str) -> str:
    return _terminal(f"(?s:.*){to_rust(literal(text))}(?s:{rest})")


def _lark(text: str) -> str:
    return json.dumps(text)


def _terminal(expression: str) -> str:
    return "/" + expression.replace("/", "\\/") + "/"
