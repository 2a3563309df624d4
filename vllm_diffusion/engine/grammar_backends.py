"""Grammars of requests, compiled by vLLM's structured-output backends.

JSON is written as Python's ``json.dumps`` writes it, one space behind commas and colons, or with
none at all where the server says ``disable_any_whitespace``. With whitespace left open, as is
vLLM's default, nothing between two fields would be certain, and nothing could be filled in
without asking the model.
"""

from __future__ import annotations

import json
from functools import cached_property
from typing import TYPE_CHECKING, Any

from vllm_diffusion.engine.requests import has_grammar
from vllm_diffusion.structured.budget import Budget, BudgetMatcher, FreeMatcher, Markers
from vllm_diffusion.structured.lexical import Lexicon, Reading, WordingMatcher
from vllm_diffusion.structured.lexical_dfa import phrases_of
from vllm_diffusion.structured.matcher import GuidanceMatcher, Matcher, XgrammarMatcher
from vllm_diffusion.structured.reasoning import ThinkingMatcher
from vllm_diffusion.structured.shortest_end import CLOSERS
from vllm_diffusion.structured.utf8 import Spelling, WellformedMatcher
from vllm_diffusion.wording import Wording, read_wording

if TYPE_CHECKING:
    from vllm.config import VllmConfig
    from vllm.sampling_params import SamplingParams


def with_bounded_json(spec: Any, end: str = "") -> Any:
    """A structural tag whose JSON is bounded where it says nothing of it.

    No more than one space in a row: models like to fall into whitespace without end, and a canvas
    full of it looks certain. And not the tag's own end within a string, at which tool parsers
    would cut the call off.
    """
    if isinstance(spec, list):
        return [with_bounded_json(part, end) for part in spec]
    if not isinstance(spec, dict):
        return spec
    if spec.get("type") == "json_schema" and "json_schema" in spec:
        limit = spec.get("max_whitespace_cnt")
        spec = spec | {"max_whitespace_cnt": 1 if limit is None else limit}
        if spec.get("style", "json") == "json" and end and not spec.get("excludes"):
            spec["excludes"] = [end]
        return spec
    if spec.get("type") == "tag" and isinstance(spec.get("end"), str):
        end = spec["end"].strip("}] \n")
    return {key: with_bounded_json(value, end) for key, value in spec.items()}


REASONING_ENDED = "reasoning_ended"
"""In the engine core's and the worker's ``extra_args``: what is held to the grammar starts with the
output, whatever the reasoning parser makes of the prompt."""


MAX_READINGS = 16
"""Wordings whose tables over the vocabulary are kept."""


def markers_of(vllm_config: VllmConfig) -> Markers | None:
    """What stands around thoughts, if vLLM's reasoning config says it."""
    config = vllm_config.reasoning_config
    if config is None or not config.enabled:
        return None
    return Markers(
        start=tuple(config.reasoning_start_token_ids or ()),
        end=tuple(config.natural_reasoning_end_token_ids or ()),
        forced=tuple(config.reasoning_end_token_ids or ()),
    )


class Backends:
    """Compiles what requests ask for; tokenizer and compilers are made when first needed."""

    def __init__(self, vllm_config: VllmConfig, mask_id: int) -> None:
        self.vllm_config, self.mask_id = vllm_config, mask_id
        self.num_words = -(-vllm_config.model_config.get_vocab_size() // 32)
        self._backends: dict[str, Any] = {}
        self._spellings: dict[bytes, Spelling] = {}
        self._readings: dict[Wording, Reading] = {}

    @cached_property
    def tokenizer(self) -> Any:
        from vllm.tokenizers import cached_tokenizer_from_config

        return cached_tokenizer_from_config(model_config=self.vllm_config.model_config)

    @cached_property
    def spelled(self) -> list[bytes]:
        """The bytes of each token."""
        import xgrammar

        size = self.vllm_config.model_config.get_vocab_size()
        info = xgrammar.TokenizerInfo.from_huggingface(self.tokenizer, vocab_size=size)
        return list(info.decoded_vocab)

    @cached_property
    def no_text(self) -> list[int]:
        """Tokens that stand for no text: the mask, and the tokenizer's special ones."""
        added = getattr(self.tokenizer, "added_tokens_decoder", {})
        special = {token for token, text in added.items() if text.special}
        special |= {*self.tokenizer.all_special_ids, self.mask_id}
        return sorted(token for token in special if token < len(self.spelled))

    def is_closed(self, backend: str) -> bool:
        """Whether objects have their schema's properties alone, where it does not say."""
        config = self.vllm_config.structured_outputs_config
        return backend == "xgrammar" or config.disable_additional_properties

    @cached_property
    def closers(self) -> tuple[int, ...]:
        """Tokens of one byte, those first that may bring a text to its end."""
        order = CLOSERS + bytes(byte for byte in range(256) if byte not in CLOSERS)
        token_of = {text: token for token, text in enumerate(self.spelled) if len(text) == 1}
        return tuple(token_of[bytes([byte])] for byte in order if bytes([byte]) in token_of)

    def encode(self, text: str) -> list[int]:
        """Text to tokens."""
        if not text:
            return []
        ids: list[int] = self.tokenizer.encode(text, add_special_tokens=False)
        return ids

    def stop_ids(self, params: SamplingParams) -> tuple[int, ...]:
        """What may end the text; the tokenizer's where the request has none."""
        return tuple(sorted(params.all_stop_token_ids)) or (self.tokenizer.eos_token_id,)

    def matcher(self, params: SamplingParams, prompt: list[int]) -> Matcher:
        """The start of the request's text, with what it may think first.

        Raises:
            Exception: of the library, where it cannot compile the grammar.
        """
        parser, budget = self._reasoning_parser, params.thinking_token_budget
        inner: Matcher
        if has_grammar(params):
            inner = self.answer_matcher(params)
            if parser is None or (params.extra_args or {}).get(REASONING_ENDED):
                return inner
            inner = ThinkingMatcher(inner, parser.is_reasoning_end, prompt, self._begins_answer)
            is_thinking = inner.thinks
        else:
            inner = FreeMatcher()
            is_thinking = self.markers.thinks(prompt)
        if budget is None:
            return inner
        is_once = has_grammar(params)
        return BudgetMatcher(inner, Budget(self.markers, budget, is_thinking, is_once))

    @cached_property
    def markers(self) -> Markers:
        """Around thoughts; vLLM refuses a budget where it does not know them."""
        markers = markers_of(self.vllm_config)
        assert markers is not None
        return markers

    def answer_matcher(self, params: SamplingParams) -> Matcher:
        """The start of the text that the grammar is about."""
        from vllm.v1.structured_output.request import get_structured_output_key

        assert params.structured_outputs is not None
        kind, spec = get_structured_output_key(params.structured_outputs)
        wording = read_wording(params.extra_args)
        if wording is not None:
            return WellformedMatcher(self._worded(wording, params), self._spelling(kind))
        name = params.structured_outputs._backend
        compiled = self._xgrammar if name == "xgrammar" else self._guidance
        inner = compiled(kind, spec, self.stop_ids(params))
        return WellformedMatcher(inner, self._spelling(kind))

    def _worded(self, wording: Wording, params: SamplingParams) -> WordingMatcher:
        if wording not in self._readings:
            if len(self._readings) >= MAX_READINGS:
                self._readings.pop(next(iter(self._readings)))
            self._readings[wording] = Reading(phrases_of(wording), self._lexicon)
        return WordingMatcher(self._readings[wording], self.stop_ids(params))

    @cached_property
    def _lexicon(self) -> Lexicon:
        return Lexicon(self.spelled, self.num_words, never=self.no_text, encode=self.encode)

    def _spelling(self, kind: Any) -> Spelling:
        """The vocabulary as texts of this kind may use it."""
        from vllm.v1.structured_output.backend_types import StructuredOutputOptions as Kind

        controls = {Kind.JSON: b"", Kind.JSON_OBJECT: b"", Kind.STRUCTURAL_TAG: b"\r\n"}
        allowed = controls.get(kind, bytes(range(0x20)))
        if allowed not in self._spellings:
            self._spellings[allowed] = Spelling(
                self.spelled, self.num_words, never=[self.mask_id], controls=allowed
            )
        return self._spellings[allowed]

    def _backend(self, name: str, cls: Any) -> Any:
        if name not in self._backends:
            size = self.vllm_config.model_config.get_vocab_size()
            self._backends[name] = cls(self.vllm_config, tokenizer=self.tokenizer, vocab_size=size)
        return self._backends[name]

    def separators(self) -> tuple[str, str]:
        """Behind items and keys of JSON."""
        is_compact = self.vllm_config.structured_outputs_config.disable_any_whitespace
        return (",", ":") if is_compact else (", ", ": ")

    def _xgrammar(self, kind: Any, spec: str, stop_ids: tuple[int, ...]) -> Matcher:
        import xgrammar
        from vllm.v1.structured_output.backend_types import StructuredOutputOptions as Kind
        from vllm.v1.structured_output.backend_xgrammar import XgrammarBackend

        backend = self._backend("xgrammar", XgrammarBackend)
        if kind is Kind.STRUCTURAL_TAG:
            spec = json.dumps(with_bounded_json(json.loads(spec)))
        if kind not in (Kind.JSON, Kind.JSON_OBJECT):
            wrapped = backend.compile_grammar(kind, spec, stop_token_ids=set(stop_ids))
            return XgrammarMatcher(wrapped.matcher)
        context = backend.compiler.compile_json_schema(
            spec if kind is Kind.JSON else '{"type": "object"}',
            any_whitespace=False,
            separators=self.separators(),
        )
        matcher = xgrammar.GrammarMatcher(context, override_stop_tokens=list(stop_ids))
        return XgrammarMatcher(matcher)

    def _guidance(self, kind: Any, spec: str, stop_ids: tuple[int, ...]) -> Matcher:
        import llguidance
        from vllm.v1.structured_output.backend_guidance import (
            GuidanceBackend,
            process_for_additional_properties,
        )
        from vllm.v1.structured_output.backend_types import StructuredOutputOptions as Kind

        backend = self._backend("guidance", GuidanceBackend)
        if kind in (Kind.JSON, Kind.JSON_OBJECT):
            schema: Any = spec if kind is Kind.JSON else '{"type": "object"}'
            if backend.disable_additional_properties:
                schema = process_for_additional_properties(schema)
            comma, colon = self.separators()
            grammar = llguidance.LLMatcher.grammar_from_json_schema(
                schema,
                defaults={
                    "whitespace_flexible": False,
                    "item_separator": comma,
                    "key_separator": colon,
                },
            )
            matcher = llguidance.LLMatcher(backend.ll_tokenizer, grammar)
        else:
            matcher = backend.compile_grammar(kind, spec).ll_matcher
        if matcher.is_error():
            raise ValueError(matcher.get_error())
        return GuidanceMatcher(matcher, frozenset(stop_ids))

    @cached_property
    def _reasoning_parser(self) -> Any:
        """The server's, where it has one and thoughts are not held to grammars."""
        from vllm.reasoning import ReasoningParserManager

        config = self.vllm_config.structured_outputs_config
        if not config.reasoning_parser or config.enable_in_reasoning:
            return None
        cls = ReasoningParserManager.get_reasoning_parser(config.reasoning_parser)
        return cls(tokenizer=self.tokenizer)

    def _begins_answer(self, token: int) -> bool:
        """Does the token, which ends thoughts, stand in the answer, as vLLM's scheduler has it?"""
        if not hasattr(self._reasoning_parser, "find_reasoning_end"):
            return False
        end = self._reasoning_parser.find_reasoning_end([token])
        return end is not None and bool(end.implicit)
