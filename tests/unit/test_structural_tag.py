"""Structural tags, as expressions and as grammars, against texts that are known to fit or not."""

from __future__ import annotations

import json
from typing import Any

import pytest

pytest.importorskip("llguidance")

import llguidance

from tests.unit.structured_inputs import LIMITS
from vllm_diffusion.structured.constraint import RefusedError
from vllm_diffusion.structured.grammar_matcher import byte_tokenizer
from vllm_diffusion.structured.json_schema.to_regex import NotRegularError, ToRegex
from vllm_diffusion.structured.regex_dfa import byte_dfa
from vllm_diffusion.structured.structural_tag import ToLark, ToNode, markers_of, normalised

SCHEMA = {"type": "object", "properties": {"a": {"enum": [1, 2]}}, "required": ["a"]}
JSON = {"type": "json_schema", "json_schema": SCHEMA}
TAG = {"type": "tag", "begin": "<f>", "content": JSON, "end": "</f>"}
OTHER = {"type": "tag", "begin": "<g>", "content": {"type": "regex", "pattern": "x+/"},
         "end": ["</g>", "!"]}  # fmt: skip
CALL, SECOND = '<f>{"a": 1}</f>', "<g>xx/</g>"


def text(value: str) -> dict[str, Any]:
    return {"type": "const_string", "value": value}


REGULAR: list[tuple[dict[str, Any], list[str], list[str]]] = [
    (text('a"\\.'), ['a"\\.'], ["", "a"]),
    (JSON, ['{"a": 1}', '{"a": 2}'], ["{}", '{"a": 3}', '{"a":1}']),
    (TAG, [CALL], ["", "<f>", CALL + CALL]),
    (OTHER, [SECOND, "<g>x/!"], ["<g>/</g>", "<g>x</g>"]),
    ({"type": "sequence", "elements": [text("a"), TAG]}, ["a" + CALL], [CALL, "a"]),
    ({"type": "or", "elements": [text("a"), TAG]}, ["a", CALL], ["", "a" + CALL]),
    ({"type": "tags_with_separator", "tags": [TAG, OTHER], "separator": "\n"},
     ["", CALL, CALL + "\n" + SECOND], [CALL + CALL, "\n", CALL + "\n"]),
    ({"type": "tags_with_separator", "tags": [TAG], "separator": "", "at_least_one": True},
     [CALL, CALL * 3], [""]),
    ({"type": "tags_with_separator", "tags": [TAG], "separator": ",", "stop_after_first": True},
     ["", CALL], [CALL + "," + CALL]),
    ({"type": "optional", "content": text("a")}, ["", "a"], ["aa"]),
    ({"type": "plus", "content": text("a")}, ["a", "aaaa"], [""]),
    ({"type": "star", "content": text("a")}, ["", "aaaa"], ["b"]),
    ({"type": "repeat", "content": text("a"), "min": 2, "max": 3}, ["aa", "aaa"], ["a", "aaaa"]),
    ({"type": "repeat", "content": text("a"), "min": 2, "max": -1}, ["aa", "a" * 9], ["", "a"]),
]  # fmt: skip
FREE: list[tuple[dict[str, Any], list[str], list[str]]] = [
    ({"type": "any_text"}, ["", "é\n", "<f>"], []),
    ({"type": "any_text", "excludes": ["<f>", "é"]}, ["", "<g>", "<f"], ["a<f>", "é"]),
    ({"type": "triggered_tags", "triggers": ["<f"], "tags": [TAG]},
     ["", "hi", "hi" + CALL, CALL + "\n" + CALL + "bye"], ["<f", "<f>", CALL + "<f", "a<f>{}</f>"]),
    ({"type": "triggered_tags", "triggers": ["<"], "tags": [TAG, OTHER], "at_least_one": True},
     ["a" + SECOND, CALL + SECOND], ["", "a", "<"]),
    ({"type": "triggered_tags", "triggers": ["<f"], "tags": [TAG], "stop_after_first": True},
     ["hi", "hi" + CALL], [CALL + "bye", CALL + CALL]),
    ({"type": "triggered_tags", "triggers": ["<f"], "tags": [TAG], "stop_after_first": True,
      "at_least_one": True}, ["hi" + CALL], ["hi", ""]),
    ({"type": "triggered_tags", "triggers": ["<f"], "tags": [TAG], "excludes": ["no"]},
     ["hi" + CALL], ["no", CALL + "no"]),
    ({"type": "sequence", "elements": [{"type": "any_text", "excludes": ["</t>"]}, text("</t>"),
                                       JSON]}, ['hm</t>{"a": 1}'], ["hm", 'hm{"a": 1}']),
    ({"type": "tag", "begin": "<t>", "content": {"type": "any_text"}, "end": "</t>"},
     ["<t>a/b</t>", "<t></t>", "<t><</</t>"], ["<t>a", "<t>a</t>b</t>"]),
    ({"type": "triggered_tags", "triggers": ["<f", "<g"], "tags": [TAG, OTHER]},
     ["a" + CALL + "b" + SECOND, SECOND], ["a<g>", "<g" + CALL]),
    ({"type": "sequence", "elements": [{"type": "any_text"}, TAG]},
     [CALL, "hm < " + CALL, "<f" + CALL], ["", "hm", CALL + "x", "<f>" + CALL]),
    ({"type": "sequence", "elements": [{"type": "any_text", "excludes": ["no"]},
                                       {"type": "or", "elements": [TAG, OTHER, text("!")]}]},
     ["a" + SECOND, "<" + CALL, "!", "x!"], ["no!", "<g>" + CALL, "!!", "a"]),
    ({"type": "sequence", "elements": [{"type": "any_text"},
      {"type": "tags_with_separator", "tags": [TAG, OTHER], "separator": ",",
       "at_least_one": True}]}, ["a" + CALL, SECOND + "," + CALL], ["a", CALL + ",", CALL + CALL]),
    ({"type": "tag", "begin": "<t>", "content": {"type": "sequence", "elements": [
        text("a"), {"type": "any_text"}]}, "end": "</t>"}, ["<t>a</t>", "<t>ab</t>"], ["<t></t>"]),
    ({"type": "sequence", "elements": [{"type": "any_text", "max_chars": 3}, TAG]},
     [CALL, "é\nx" + CALL], ["abcd" + CALL]),
    ({"type": "any_text", "max_chars": 2}, ["", "éé"], ["abc"]),
    ({"type": "grammar", "grammar": 'root ::= "a" root | "b"'}, ["b", "aab"], ["", "aa"]),
    ({"type": "tag", "begin": "<", "content": {"type": "grammar", "grammar": 'root ::= "a" "b"*'},
      "end": ">"}, ["<a>", "<abb>"], ["<b>", "a"]),
    ({"type": "dispatch", "rules": [["<f", text(">1")], ["<g", text(">2")]]},
     ["", "a<f>1b<g>2", "<f>1<f>1"], ["<f>2", "a<g"]),
    ({"type": "dispatch", "rules": [["<f", text(">1")]], "loop": False},
     ["a", "a<f>1"], ["<f>1b", "<f>2"]),
]  # fmt: skip
PLACE = {
    "type": "object",
    "properties": {
        "name": {"type": "string"}, "age": {"type": "integer", "minimum": 0},
        "kind": {"enum": ["a", "b"]}, "note": {"anyOf": [{"type": "string"}, {"type": "null"}]},
        "tags": {"type": "array", "items": {"$ref": "#/$defs/tag"}}, "any": {},
    },
    "required": ["name", "age"],
    "$defs": {"tag": {"type": "string"}},
}  # fmt: skip
NAME, AGE = "<parameter=name>\nBob <b>\n</parameter>\n", "<parameter=age>\n5\n</parameter>"
XML: list[tuple[dict[str, Any], list[str], list[str]]] = [
    ({"type": "json_schema", "json_schema": PLACE, "style": "qwen_xml"},
     [NAME + AGE, "<parameter=name></parameter><parameter=age>0</parameter>",
      NAME + AGE + "<parameter=kind>\nb\n</parameter>\n<parameter=note>null</parameter>",
      NAME + AGE + '<parameter=tags>["x", "y"]</parameter><parameter=any>1</parameter>'],
     ["", NAME, AGE + NAME, NAME + "<parameter=age>-5</parameter>", NAME + AGE + NAME,
      NAME + AGE + "<parameter=kind>c</parameter>", NAME + AGE + "<parameter=tags>[5]</parameter>",
      NAME + AGE + '<parameter=tags>["</parameter>"]</parameter>', "x" + NAME + AGE]),
    ({"type": "tag", "begin": "<f>\n", "end": "\n</f>", "content": {
        "type": "qwen_xml_parameter", "json_schema": {"type": "object"}}},
     ["<f>\n\n</f>"], ["<f></f>"]),
]  # fmt: skip
FREE += XML


def node_of(schema: Any) -> Any:
    return ToRegex(schema, (", ", ": "), LIMITS, is_closed=True).of(schema)


def grammar_of(schema: Any) -> str:
    closed = {**schema, "additionalProperties": False}
    options = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}
    return json.dumps({**closed, "x-guidance": options})


def fits(grammar: str, text: str) -> bool:
    matcher = llguidance.LLMatcher(byte_tokenizer(), grammar, log_level=0)
    assert not matcher.is_error(), matcher.get_error()
    data = list(text.encode())
    if matcher.validate_tokens(data) != len(data) or (data and not matcher.consume_tokens(data)):
        return False
    return bool(matcher.is_accepting())


@pytest.mark.parametrize(("spec", "good", "bad"), REGULAR, ids=lambda v: str(v)[:40])
def test_regular_formats(spec: dict[str, Any], good: list[str], bad: list[str]) -> None:
    dfa = byte_dfa(ToNode(node_of, LIMITS.nesting).of(spec), LIMITS)
    assert dfa is not None
    assert [one for one in good if not dfa.accepts(one.encode())] == []
    assert [one for one in bad if dfa.accepts(one.encode())] == []


@pytest.mark.parametrize(("spec", "good", "bad"), [*REGULAR, *FREE], ids=lambda v: str(v)[:40])
def test_formats_as_grammars(spec: dict[str, Any], good: list[str], bad: list[str]) -> None:
    grammar = ToLark(grammar_of, LIMITS.nesting).grammar(spec)
    assert [one for one in good if not fits(grammar, one)] == []
    assert [one for one in bad if fits(grammar, one)] == []


@pytest.mark.parametrize("spec", [spec for spec, _, _ in FREE], ids=lambda v: str(v)[:40])
def test_free_text_is_left_to_the_grammar(spec: dict[str, Any]) -> None:
    with pytest.raises(NotRegularError):
        ToNode(node_of, LIMITS.nesting).of(spec)


def test_the_older_form() -> None:
    spec = {"structures": [{"begin": "<f>", "schema": SCHEMA, "end": "</f>"}], "triggers": ["<f"]}
    assert normalised(spec) == {"type": "triggered_tags", "triggers": ["<f"], "tags": [TAG]}
    assert normalised({"format": TAG}) == TAG


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ({"format": {"type": "token", "token": 5}}, "type='token' .* is not served; say texts"),
        ({"format": {"type": "grammar", "grammar": " "}}, "grammar is empty"),
        ({"format": {"type": "dispatch", "rules": ["a"]}}, "rules of a dispatch"),
        ({"format": {"value": "x"}}, "has a type"),
        ({"format": text(5)}, "value=5 .* must be a text"),  # type: ignore[arg-type]
        ({"format": {"type": "sequence", "elements": []}}, "elements .* not empty"),
        ({"format": {**TAG, "end": [5]}}, "end of a tag"),
        ({"format": {"type": "any_text", "max_tokens": 5}}, "max_tokens .* say max_chars"),
        ({"format": {"type": "any_text", "max_chars": -1}}, "max_chars=-1 .* from 0"),
        ({"format": {"type": "any_text", "excludes": [""]}}, "excludes"),
        ({"format": {"type": "repeat", "content": TAG, "min": 3, "max": 2}}, "repeat .* counts"),
        ({"format": {"type": "repeat", "content": TAG, "min": 0, "max": 10**9}}, "counts from 0"),
        ({"format": {"type": "triggered_tags", "triggers": ["<x"], "tags": [TAG]}},
         "begin='<f>' .* none of the triggers"),
        ({"format": {"type": "triggered_tags", "triggers": [""], "tags": [TAG]}}, "triggers"),
        ({"format": {**JSON, "style": "glm_xml"}}, "style='glm_xml' .* is not served"),
        ({"format": {**JSON, "excludes": ["a"]}}, "excludes of a json_schema"),
        *[({"format": {"type": "qwen_xml_parameter", "json_schema": schema}}, words) for
          schema, words in [
            ({"type": "object", "minProperties": 2}, "'minProperties' beside"),
            ({"type": "object", "properties": {"a<": {}}}, "names a property 'a<'"),
            ({"type": "object", "properties": {"a": {"type": "string", "minLength": 2}}},
             "asks 'minLength' of a text"),
            ({"type": "object", "properties": {"a": {"type": "array"}}}, "leaves values"),
            ({"type": "object", "required": ["b"]}, "requires 'b'"),
        ]],
        ({"format": {"type": "plus"}}, "has a type"),
        ({"structures": [{"begin": 5}]}, "structures of a structural tag have begin"),
        ({}, "has a format"),
        ([], "has a format"),
    ],
    ids=str,
)  # fmt: skip
def test_what_is_refused(spec: Any, words: str) -> None:
    with pytest.raises(RefusedError, match=words):
        ToLark(grammar_of, LIMITS.nesting).grammar(normalised(spec))


def test_ends_that_a_parser_looks_for() -> None:
    assert markers_of(TAG) == (b"</f>",)
    assert markers_of({**TAG, "end": "}]\n</f>"}) == (b"</f>",)
    assert markers_of({"type": "triggered_tags", "tags": [TAG, OTHER]}) == (b"</f>",)
    assert markers_of(OTHER) == markers_of(JSON) == markers_of({**TAG, "end": "}"}) == ()


def test_the_number_of_formats_is_bounded() -> None:
    spec = {"type": "sequence", "elements": [text("a")] * 3000}
    with pytest.raises(RefusedError, match="at most 2000 formats"):
        ToNode(node_of, LIMITS.nesting).of(spec)
