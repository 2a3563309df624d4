"""What a constraint becomes: the mechanism that knows most of those that can bear it.

An automaton over tokens, else one over bytes, else llguidance's parser; what none of them bears is
refused with the bound. Every compiled constraint carries a text that meets it, found and followed
here: a constraint without a finite text never reaches the engine.

Runs in a process of its own (``service``); nothing here waits for anything.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

import numpy as np

from vllm_diffusion.request.quote import quoted
from vllm_diffusion.structured.compiled import Compiled
from vllm_diffusion.structured.constraint import Constraint, RefusedError, TooLargeError
from vllm_diffusion.structured.dfa_matcher import (
    ByteDfaMatcher,
    ByteDfaTables,
    TokenDfaMatcher,
    TokenDfaTables,
)
from vllm_diffusion.structured.grammar_matcher import GrammarMatcher
from vllm_diffusion.structured.grammar_text import lark_of
from vllm_diffusion.structured.json_schema.circles import check_circles
from vllm_diffusion.structured.json_schema.finite import is_finite
from vllm_diffusion.structured.json_schema.read import check_size, load, validator_of
from vllm_diffusion.structured.json_schema.rewrite import Rewriter
from vllm_diffusion.structured.json_schema.to_regex import NotRegularError, ToRegex
from vllm_diffusion.structured.lexical import LexicalMatcher, read_spec
from vllm_diffusion.structured.limits import Limits, raise_by
from vllm_diffusion.structured.markers import without_inner
from vllm_diffusion.structured.matcher import Matcher
from vllm_diffusion.structured.regex_ast import Node, anchored, parse, shortest
from vllm_diffusion.structured.regex_dfa import ByteDfa, byte_dfa, trimmed
from vllm_diffusion.structured.regex_json import escaped, to_rust
from vllm_diffusion.structured.structural_tag import ToLark, ToNode, markers_of, normalised
from vllm_diffusion.structured.token_dfa import FAR, TokenDfa, automaton_of, over_tokens
from vllm_diffusion.structured.token_ends import tokens_to_end
from vllm_diffusion.structured.vocabulary import Vocabulary

END_NODES = 120_000
"""Steps of the parser in the search for the first end: a second."""
MAX_HINTS = 8
MAX_TRIE = 1 << 14


class Compiler:
    """Compiles for one vocabulary.

    Args:
        vocabulary: of the server.
        limits: of one constraint.
    """

    def __init__(self, vocabulary: Vocabulary, limits: Limits) -> None:
        self.vocabulary, self.limits = vocabulary, limits
        self.stop = vocabulary.never[0]  # stands for whatever a request ends with

    def compile(self, constraint: Constraint) -> Compiled:
        """Compile one constraint.

        Raises:
            RefusedError: with what of it is not served, and the remedy.
        """
        size = len(constraint.spec.encode(errors="surrogatepass"))
        if size > self.limits.spec_bytes:
            raise RefusedError(
                f"it has {size} bytes, at most {self.limits.spec_bytes} are read; "
                f"{raise_by('spec_bytes')}"
            )
        if any(0xD800 <= ord(char) < 0xE000 for char in constraint.spec):
            raise RefusedError("half of a surrogate pair is no character")
        kind = constraint.kind
        if kind == "json":
            return self._json(constraint)
        if kind == "json_object":
            return self._grammar(constraint, self._schema_grammar(constraint, {"type": "object"}))
        if kind == "regex":
            node = anchored(parse(constraint.spec, self.limits.nesting), is_search=False)
            return self._regular(constraint, node) or self._rust(constraint, node)
        if kind == "choice":
            return self._choice(constraint)
        if kind == "structural_tag":
            return self._tag(constraint)
        if kind == "lexical":
            return self._lexical(constraint)
        return self._grammar(constraint, lark_of(constraint.spec))

    # JSON

    def _json(self, constraint: Constraint) -> Compiled:
        schema, rewriter = self._read(constraint)
        node = self._node(constraint, schema, rewriter)
        compiled = self._regular(constraint, node) if node is not None else None
        if compiled is not None:
            return compiled
        rewritten = rewriter.rewrite(schema)
        if not is_finite(rewritten):
            raise RefusedError("no text of it is finite")
        grammar = self._schema_grammar(constraint, rewritten)
        return self._grammar(constraint, grammar, self._hints(rewritten))

    def _read(self, constraint: Constraint) -> tuple[Any, Rewriter]:
        schema = load(constraint.spec, self.limits)
        return self._checked(constraint, schema)

    def _checked(self, constraint: Constraint, schema: Any) -> tuple[Any, Rewriter]:
        if schema is True:
            schema = {}
        if not isinstance(schema, dict):
            raise RefusedError(f"a schema is an object, and this is {quoted(schema)}")
        check_size(schema, self.limits)
        validator = validator_of(schema)
        if not is_finite(schema):
            raise RefusedError("no text of it is finite")
        check_circles(schema)
        return schema, Rewriter(validator, self.limits, is_closed=constraint.is_closed)

    def _node(self, constraint: Constraint, schema: Any, rewriter: Rewriter) -> Node | None:
        maker = ToRegex(schema, constraint.separators, self.limits, is_closed=rewriter.is_closed)
        try:
            return maker.of(schema)
        except (NotRegularError, TooLargeError):
            return None

    def _schema_grammar(self, constraint: Constraint, schema: Any) -> str:
        import llguidance

        grammar: str = llguidance.LLMatcher.grammar_from_json_schema(
            json.dumps(schema), defaults=self._options(constraint)
        )
        return grammar

    def _options(self, constraint: Constraint) -> Any:
        comma, colon = constraint.separators
        return {"whitespace_flexible": False, "item_separator": comma, "key_separator": colon}

    def _hints(self, schema: Any) -> tuple[bytes, ...]:
        """A short text for each pattern, in quotes: see ``shortest_end``."""
        patterns: dict[str, None] = {}
        left = [schema]
        while left:
            node = left.pop()
            if isinstance(node, dict):
                if isinstance(node.get("pattern"), str):
                    patterns[node["pattern"]] = None
                left += node.values()
            elif isinstance(node, list):
                left += node
        hints = []
        for pattern in list(patterns)[:MAX_HINTS]:
            try:
                text = shortest(escaped(anchored(parse_rewritten(pattern), is_search=True)))
            except ValueError:
                continue
            hints.append(f'"{text}"'.encode())
        return tuple(hints)

    # Other kinds

    def _choice(self, constraint: Constraint) -> Compiled:
        texts = load(constraint.spec, self.limits)
        if not isinstance(texts, list) or not texts or not all(isinstance(t, str) for t in texts):
            raise RefusedError("choice is a list of texts that is not empty")
        dfa = _trie([text.encode() for text in texts])
        if dfa is not None and dfa.dead <= self.limits.states:
            return self._of_dfa(constraint, dfa)
        options = " | ".join(json.dumps(text, ensure_ascii=False) for text in dict.fromkeys(texts))
        return self._grammar(constraint, f"start: {options}\n")

    def _tag(self, constraint: Constraint) -> Compiled:
        spec = normalised(load(constraint.spec, self.limits))

        def node_of(schema: Any) -> Node:
            schema, rewriter = self._checked(constraint, schema)
            node = self._node(constraint, schema, rewriter)
            if node is None:
                raise NotRegularError
            return node

        markers = markers_of(spec)
        try:
            node = ToNode(node_of, self.limits.nesting).of(spec)
            compiled = self._regular(constraint, node, markers)
            if compiled is not None:
                return compiled
        except (NotRegularError, TooLargeError):
            pass
        hints: list[bytes] = []

        def json_of(schema: Any) -> str:
            schema, rewriter = self._checked(constraint, schema)
            rewritten = rewriter.rewrite(schema)
            hints.extend(self._hints(rewritten))
            return json.dumps({**rewritten, "x-guidance": self._options(constraint)})

        lark = ToLark(json_of, self.limits.nesting).grammar(spec)
        return self._grammar(constraint, lark, tuple(hints[:MAX_HINTS]), markers)

    def _lexical(self, constraint: Constraint) -> Compiled:
        lexical = read_spec(constraint.spec)
        matcher = LexicalMatcher.of(lexical, self.vocabulary, (self.stop,))
        fewest = int(matcher.reading.phrases.need_MS[0, 0])
        if lexical.max_chars is not None and fewest > lexical.max_chars:
            raise RefusedError(
                f"max_chars={lexical.max_chars} is too few: a text with all keywords has at least "
                f"{fewest} characters"
            )
        path = self._end(matcher)
        # Lengths would multiply the states: the matcher alone counts characters.
        is_free = not lexical.min_chars and lexical.max_chars is None
        dfa = matcher.reading.phrases.byte_dfa() if is_free else None
        if dfa is not None:
            try:
                tokens = over_tokens(dfa, self.vocabulary, self.limits, is_cut=False)
                return self._compiled(constraint, path, tokens=tokens, is_shortest=False)
            except ValueError:
                pass  # too large, as a rule; the matcher does without
        return self._compiled(constraint, path, lexical=constraint.spec, is_shortest=False)

    def _rust(self, constraint: Constraint, node: Node) -> Compiled:
        import llguidance

        grammar = llguidance.LLMatcher.grammar_from_regex(to_rust(node))
        hints: tuple[bytes, ...] = ()
        with suppress(ValueError):
            hints = (shortest(node).encode(),)
        return self._grammar(constraint, grammar, hints)

    # Mechanisms

    def _regular(
        self, constraint: Constraint, node: Node, markers: Sequence[bytes] = ()
    ) -> Compiled | None:
        """By an automaton; None where it would be too large."""
        try:
            dfa = byte_dfa(node, self.limits)
            for marker in markers:
                dfa = None if dfa is None else without_inner(dfa, marker, self.limits)
        except TooLargeError:
            return None
        if dfa is None:
            raise RefusedError("no text meets it")
        return self._of_dfa(constraint, dfa)

    def _of_dfa(self, constraint: Constraint, dfa: ByteDfa) -> Compiled:
        vocabulary = self.vocabulary
        matcher: Matcher
        try:
            tokens = over_tokens(dfa, vocabulary, self.limits)
        except TooLargeError:
            dfa = replace(dfa, to_end=tokens_to_end(dfa, vocabulary))
            if dfa.to_end is not None and dfa.to_end[0] >= FAR:
                raise RefusedError("no token of the model can write it") from None
            matcher = ByteDfaMatcher(ByteDfaTables(dfa, vocabulary), (self.stop,))
            return self._compiled(constraint, self._end(matcher), dfa=dfa, is_shortest=False)
        except ValueError as error:
            raise RefusedError("no token of the model can write it") from error
        automaton = automaton_of(tokens, (self.stop,))
        matcher = TokenDfaMatcher(TokenDfaTables(automaton, vocabulary.num_words))
        return self._compiled(constraint, self._end(matcher), tokens=tokens, is_shortest=True)

    def _grammar(
        self,
        constraint: Constraint,
        grammar: str,
        hints: tuple[bytes, ...] = (),
        markers: tuple[bytes, ...] = (),
    ) -> Compiled:
        try:
            matcher = GrammarMatcher(
                self.vocabulary, grammar, (self.stop,), self.limits, hints, markers
            )
        except RefusedError as error:
            if "oneOf" in str(error):
                raise RefusedError(
                    "oneOf is served where its options are told apart by their types, values or "
                    "names; anyOf says that either will do"
                ) from error
            raise
        path = self._end(matcher)
        return self._compiled(
            constraint, path, grammar=grammar, hints=hints, markers=markers, is_shortest=False
        )

    def _end(self, matcher: Matcher) -> list[int]:
        limit = self.limits.end_tokens
        if isinstance(matcher, GrammarMatcher):
            path = matcher.ending(limit, END_NODES)
        else:
            path = matcher.ending(limit)
        if path is None:
            raise RefusedError(
                f"no text of at most {limit} tokens was found that meets it; "
                f"{raise_by('end_tokens')}"
            )
        return path[:-1]

    def _compiled(
        self,
        constraint: Constraint,
        ending: Sequence[int],
        *,
        is_shortest: bool,
        tokens: TokenDfa | None = None,
        dfa: ByteDfa | None = None,
        grammar: str | None = None,
        hints: tuple[bytes, ...] = (),
        markers: tuple[bytes, ...] = (),
        lexical: str | None = None,
    ) -> Compiled:
        said = repr((constraint, self.limits, self.vocabulary.size))
        return Compiled(
            digest=hashlib.sha256(said.encode(errors="surrogatepass")).hexdigest(),
            ending=tuple(ending),
            is_shortest=is_shortest,
            tokens=tokens,
            dfa=dfa,
            grammar=grammar,
            hints=hints,
            markers=markers,
            lexical=lexical,
        )


def parse_rewritten(pattern: str) -> Node:
    """Read a pattern that ``rewrite`` has written in Rust's syntax."""
    import re

    plain = re.sub(r"\\x\{([0-9a-f]+)\}", lambda code: f"\\U{int(code[1], 16):08x}", pattern)
    return parse(plain, 1 << 10)


def _trie(texts: list[bytes]) -> ByteDfa | None:
    """The automaton of a list of texts; None where it would be large."""
    rows: list[dict[int, int]] = [{}]
    finals: set[int] = set()
    for text in texts:
        at = 0
        for byte in text:
            if byte not in rows[at]:
                rows[at][byte] = len(rows)
                rows.append({})
            at = rows[at][byte]
        finals.add(at)
        if len(rows) > MAX_TRIE:
            return None
    table = np.full((len(rows) + 1, 256), len(rows), dtype=np.int64)
    for at, row in enumerate(rows):
        table[at, list(row)] = list(row.values())
    is_final = np.zeros(len(table), dtype=np.bool_)
    is_final[list(finals)] = True
    return trimmed(table, is_final)
