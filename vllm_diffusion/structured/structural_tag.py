"""Structural tags, as xgrammar defines the format: tool calls between markers, and free text.

Read into one tree; said as an expression where every part is regular, as a Lark grammar of
llguidance otherwise. Formats that neither can say are refused by name.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, TypeGuard

from vllm_diffusion.request.quote import quoted
from vllm_diffusion.structured.constraint import RefusedError
from vllm_diffusion.structured.grammar_text import lark_of
from vllm_diffusion.structured.json_schema.to_regex import NotRegularError
from vllm_diffusion.structured.qwen_xml import QwenXml, is_xml
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
    if node.get("style", "json") != "json" and not is_xml(node):
        raise RefusedError(
            f"style={quoted(node['style'])} of a structural tag is not served; take a parser of "
            "tool calls that writes JSON or Qwen's XML"
        )
    if node.get("excludes"):
        raise RefusedError("excludes of a json_schema in a structural tag are not served")
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
        if kind == "json_schema" and not is_xml(node):
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
    if type(low) is not int or type(high) is not int:
        raise RefusedError("repeat of a structural tag has a min and a max")
    if not 0 <= low <= (MAX_REPEAT if high == -1 else high) <= MAX_REPEAT:
        raise RefusedError(
            f"repeat of a structural tag counts from 0 to {MAX_REPEAT}, or to -1 for no end"
        )
    return low, None if high == -1 else high


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
        if is_xml(node) and kind in ("json_schema", "qwen_xml_parameter"):
            return QwenXml(_schema(node), self.of_schema, self._rule, self._until).grammar()
        if kind == "json_schema":
            return self._rule(f"%json {self.of_schema(_schema(node))}")
        if kind == "grammar":
            return self._rule(f"%lark {{\n{lark_of(_text(node, 'grammar'))}\n}}")
        if kind == "regex":
            expression = anchored(
                parse_regex(_text(node, "pattern"), self.nesting), is_search=False
            )
            return self._rule(_terminal(to_rust(expression)), "TEXT")
        if kind == "any_text":
            return self._free(self._excludes(node), _most(node))
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
        if kind == "dispatch":
            return self._dispatch(node)
        if kind in ("optional", "plus", "star", "repeat"):
            low, high = _repeats(node, kind)
            count = f"{{{low},{'' if high is None else high}}}"
            return self._rule(f"({self.of(node.get('content'))}){count}")
        raise RefusedError(
            f"type={quoted(kind)} of a structural tag is not served; say texts in the place of "
            "tokens"
        )

    def _sequence(self, parts: list[Any]) -> str:
        """What stands behind free text is where that ends: the lexer takes as much as fits."""
        out: list[str] = []
        parts = list(parts)
        while parts:
            part = parts.pop(0)
            ends = _begins(parts[0]) if parts and _is(part, "any_text") else []
            if not ends:
                out.append(self.of(part))
                continue
            following, rest = parts.pop(0), ""
            if _is(following, "tags_with_separator") and not following.get("stop_after_first"):
                one = self._rule(" | ".join(self._tag(tag) for tag in ends))
                rest = f" ({_lark(_separator(following))} {one})*"
            out.append(f"({self._behind(ends, self._excludes(part), _most(part))}){rest}")
        return self._rule(" ".join(out))

    def _behind(self, tags: list[Format], excludes: list[str], most: int | None = None) -> str:
        """Free text, and the first of some tags, whose begins are not in it."""
        begins = dict.fromkeys(_text(tag, "begin") for tag in tags)
        firsts = [text for text in begins if not any(map(text.startswith, begins.keys() - {text}))]
        return self._ways(firsts, tags, excludes, most)

    def _tag(self, tag: Format, skipped: int = 0) -> str:
        """Args: skipped: characters of its begin that are there already."""
        begin, ends = _lark(_text(tag, "begin")[skipped:]), _ends(tag)
        content = tag.get("content")
        parts = _list(content, "elements") if _is(content, "sequence") else [content]
        last = parts[-1]
        if _is(last, "any_text") and all(ends):
            before = f"{self._sequence(parts[:-1])} " if parts[:-1] else ""
            until = self._until(ends, self._excludes(last), _most(last))
            return self._rule(f"{begin} {before}{until}")
        return self._rule(f"{begin} {self.of(content)} ({' | '.join(map(_lark, ends))})")

    def _excludes(self, node: Format) -> list[str]:
        if node.get("max_tokens") is not None:
            raise RefusedError("max_tokens of an any_text is not served; say max_chars")
        excludes = node.get("excludes") or []
        if not all(isinstance(text, str) and text for text in excludes):
            raise RefusedError("excludes of a structural tag must be texts")
        return list(excludes)

    def _free(self, excludes: list[str], most: int | None = None) -> str:
        """Any text without some texts in it."""
        without = "".join(f" & ~{_holding(text, '.*')}" for text in excludes)
        return self._rule(f"/(?s:.{_up_to(most)})/{without}", "TEXT")

    def _until(self, ends: list[str], excludes: list[str], most: int | None = None) -> str:
        """Any text without some texts in it, and the first of its ends."""
        without = "".join(f" & ~{_holding(text, '.+')}" for text in excludes)
        ending = "|".join(to_rust(literal(end)) for end in ends)
        text = self._rule(f"{_terminal(f'(?s:.{_up_to(most)})(?:{ending})')}{without}", "TEXT")
        return self._rule(text, suffix="[lazy]")

    def _triggered(self, node: Format) -> str:
        """Free text; behind a trigger the rest of one of its tags."""
        triggers = _list(node, "triggers")
        if not all(isinstance(trigger, str) and trigger for trigger in triggers):
            raise RefusedError("triggers of a structural tag must be texts")
        excludes = self._excludes(node)
        one = self._rule(self._ways(triggers, _tags(node), excludes))
        return self._loop(node, one, self._free([*triggers, *excludes]))

    def _loop(self, node: Format, one: str, free: str) -> str:
        if node.get("stop_after_first"):
            return self._rule(one + ("" if node.get("at_least_one") else f" | {free}"))
        return self._rule(f"({one}){'+' if node.get('at_least_one') else '*'} {free}")

    def _dispatch(self, node: Format) -> str:
        """Free text; behind a pattern what it calls for. As tags that have no end."""
        rules = _list(node, "rules")
        if not all(isinstance(rule, list) and len(rule) == 2 for rule in rules):
            raise RefusedError("rules of a dispatch are pairs of a text and a format")
        tags = [{"begin": begin, "content": content} for begin, content in rules]
        triggers = [begin for begin, _ in rules]
        stops = {"stop_after_first": not node.get("loop", True), "excludes": node.get("excludes")}
        return self._triggered({"triggers": triggers, "tags": tags, **stops})

    def _ways(
        self, triggers: list[str], tags: list[Format], excludes: list[str], most: int | None = None
    ) -> str:
        """Free text up to the first trigger, and the rest of one of its tags."""
        rests: dict[str, list[str]] = {}
        for tag in tags:
            begin = _text(tag, "begin")
            fitting = [trigger for trigger in triggers if begin.startswith(trigger)]
            if not fitting:
                raise RefusedError(
                    f"begin={quoted(begin)} of a tag starts with none of the triggers"
                )
            trigger = min(fitting, key=len)
            rests.setdefault(trigger, []).append(self._tag(tag, len(trigger)))
        ways = []
        for trigger, rest in rests.items():
            others = [text for text in triggers if text != trigger]
            until = self._until([trigger], [*others, *excludes], most)
            ways.append(f"{until} ({' | '.join(rest)})")
        return " | ".join(ways)


def _begins(node: Any) -> list[Format]:
    """The tags that a format starts with, if it starts with one that has a begin; texts too."""
    if not isinstance(node, dict):
        return []
    if node.get("type") == "const_string" and node.get("value"):
        nothing = {"type": "const_string", "value": ""}
        return [{"begin": node["value"], "content": nothing}]
    if node.get("type") == "tag":
        return [node] if node.get("begin") and isinstance(node.get("content"), dict) else []
    if node.get("type") == "or":
        found = [_begins(part) for part in _list(node, "elements")]
        return [tag for tags in found for tag in tags] if all(found) else []
    if node.get("type") == "tags_with_separator" and node.get("at_least_one"):
        tags = _tags(node)
        return tags if all(tag.get("begin") for tag in tags) else []
    return []


def _most(node: Format) -> int | None:
    most = node.get("max_chars")
    if most is not None and (type(most) is not int or not 0 <= most <= MAX_REPEAT):
        raise RefusedError(f"max_chars={quoted(most)} of an any_text is from 0 to {MAX_REPEAT}")
    return most


def _up_to(most: int | None) -> str:
    return "*" if most is None else f"{{0,{most}}}"


def _is(node: Any, kind: str) -> TypeGuard[Format]:
    return isinstance(node, dict) and node.get("type") == kind


def _holding(text: str, rest: str) -> str:
    return _terminal(f"(?s:.*){to_rust(literal(text))}(?s:{rest})")


def _lark(text: str) -> str:
    return json.dumps(text)


def _terminal(expression: str) -> str:
    return "/" + expression.replace("/", "\\/") + "/"
