"""Expressions of texts as expressions of JSON strings, and as llguidance writes them."""

from __future__ import annotations

from vllm_diffusion.structured.regex_ast import (
    Alt,
    Border,
    Chars,
    Node,
    Repeat,
    Seq,
    Span,
    complement,
    literal,
)

ESCAPES = {
    0x08: "\\b", 0x09: "\\t", 0x0A: "\\n", 0x0C: "\\f", 0x0D: "\\r", 0x22: '\\"', 0x5C: "\\\\",
}  # fmt: skip
_PLAIN_LOW = 0x20
_TAKEN: tuple[Span, ...] = ((0, 0x1F), (0x22, 0x22), (0x5C, 0x5C))


def _intersected(spans: tuple[Span, ...], others: tuple[Span, ...]) -> tuple[Span, ...]:
    return complement([*complement(spans), *complement(others)])


def _escaped_set(spans: tuple[Span, ...]) -> Node:
    options: list[Node] = []
    plain = _intersected(spans, complement(_TAKEN))
    if plain:
        options.append(Chars(plain))
    for code in (*range(_PLAIN_LOW), 0x22, 0x5C):
        if any(first <= code <= last for first, last in spans):
            options.append(literal(ESCAPES.get(code, f"\\u{code:04x}")))
    return options[0] if len(options) == 1 else Alt(tuple(options))


def escaped(node: Node) -> Node:
    """The same texts as JSON writes them within quotes, each character in one way."""
    if isinstance(node, Chars):
        return _escaped_set(node.spans)
    if isinstance(node, Seq):
        return Seq(tuple(escaped(part) for part in node.parts))
    if isinstance(node, Alt):
        return Alt(tuple(escaped(option) for option in node.options))
    if isinstance(node, Repeat):
        return Repeat(escaped(node.body), node.low, node.high)
    return node


FREE = Alt((Chars(complement(_TAKEN)), *(literal(text) for text in ESCAPES.values())))
"""A character of a string that nothing is asked of: control characters only as short escapes."""


def _char(code: int) -> str:
    return f"\\x{{{code:x}}}"


def to_rust(node: Node) -> str:
    """In the syntax of Rust's expressions, which llguidance reads."""
    if isinstance(node, Chars):
        if not node.spans:
            return r"[^\x{0}-\x{10ffff}]"
        return "[" + "".join(f"{_char(a)}-{_char(b)}" for a, b in node.spans) + "]"
    if isinstance(node, Seq):
        return "".join(to_rust(part) for part in node.parts)
    if isinstance(node, Alt):
        return "(?:" + "|".join(to_rust(option) for option in node.options) + ")"
    if isinstance(node, Repeat):
        high = "" if node.high is None else node.high
        return f"(?:{to_rust(node.body)}){{{node.low},{high}}}"
    assert isinstance(node, Border)
    raise ValueError("a border is left in the expression")
