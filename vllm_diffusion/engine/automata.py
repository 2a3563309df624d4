"""Automata of requests whose grammar is a regular language, compiled once each."""

from __future__ import annotations

import json
from collections import OrderedDict
from typing import TYPE_CHECKING, Any

from vllm.logger import init_logger

from vllm_diffusion.structured.lexical_dfa import phrases_of
from vllm_diffusion.structured.regex_dfa import byte_table
from vllm_diffusion.structured.to_regex import of_choices, of_schema, of_texts
from vllm_diffusion.structured.token_dfa import Automaton, over_tokens
from vllm_diffusion.wording import Wording, read_wording

if TYPE_CHECKING:
    from vllm.sampling_params import SamplingParams

    from vllm_diffusion.engine.grammar_backends import Backends

logger = init_logger(f"vllm.{__name__}")

MAX_KEPT = 64
MAX_WORDED = 1 << 22
"""Most entries of the table that tokens are walked in for a wording: half a second. Where it would
be larger the matcher does without."""


class CompiledAutomata:
    """The automata of one server."""

    def __init__(self, backends: Backends) -> None:
        self.backends = backends
        self._kept: OrderedDict[tuple[Any, ...], Automaton | None] = OrderedDict()

    def of(self, params: SamplingParams) -> Automaton | None:
        """The automaton of the request's grammar; None where it has none."""
        from vllm.v1.structured_output.request import get_structured_output_key

        assert params.structured_outputs is not None
        kind, spec = get_structured_output_key(params.structured_outputs)
        backend = str(params.structured_outputs._backend)
        wording = read_wording(params.extra_args)
        key = (kind, spec, backend, self.backends.stop_ids(params), wording)
        if key in self._kept:
            self._kept.move_to_end(key)
        else:
            self._kept[key] = self._compile(*key)
            if len(self._kept) > MAX_KEPT:
                self._kept.popitem(last=False)
        return self._kept[key]

    def _compile(
        self,
        kind: Any,
        spec: str,
        backend: str,
        stop_ids: tuple[int, ...],
        wording: Wording | None,
    ) -> Automaton | None:
        backends = self.backends
        if wording is not None:
            return self._of_words(wording, stop_ids)
        is_closed = backends.is_closed(backend)
        regex = regex_of(kind, spec, backends.separators(), is_closed=is_closed)
        if regex is None:
            return None
        # In xgrammar a dot is a line break too, and the classes hold ASCII alone.
        is_xgrammar = backend == "xgrammar"
        try:
            table = byte_table(regex, dot_all=is_xgrammar, has_ascii_classes=is_xgrammar)
            return over_tokens(
                *table, backends.spelled, stop_ids, backends.no_text, backends.encode
            )
        except ValueError as error:
            # The grammar itself is sound, and its matcher does alone what it does for others.
            logger.info("No automaton for the structured output %.80r: %s", spec, error)
            return None

    def _of_words(self, wording: Wording, stop_ids: tuple[int, ...]) -> Automaton | None:
        """Lengths would multiply the states: the matcher alone counts characters."""
        if wording.min_chars or wording.max_chars is not None:
            return None
        backends = self.backends
        tables = phrases_of(wording).byte_table()
        if tables is None or len(tables[0]) * len(backends.spelled) > MAX_WORDED:
            return None
        try:
            return over_tokens(*tables, backends.spelled, stop_ids, backends.no_text)
        except ValueError as error:
            logger.info("No automaton for %s: %s", wording, error)
            return None


def regex_of(kind: Any, spec: str, separators: tuple[str, str], *, is_closed: bool) -> str | None:
    """A request's constraint as a regular expression, where it is told to be one."""
    from vllm.v1.structured_output.backend_types import StructuredOutputOptions as Kind

    if kind is Kind.REGEX:
        return spec
    if kind is Kind.GRAMMAR:
        return of_choices(spec)
    if kind is Kind.CHOICE:
        return of_texts(json.loads(spec))
    if kind is Kind.JSON:
        return of_schema(json.loads(spec), separators, is_closed=is_closed)
    return None
