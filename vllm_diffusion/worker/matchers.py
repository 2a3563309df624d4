"""Matchers of requests, from what the front end has compiled; kept by constraint, within bytes."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cached_property
from typing import TYPE_CHECKING, Any

from vllm_diffusion.structured.budget import (
    Budget,
    BudgetMatcher,
    FreeMatcher,
    Markers,
    markers_of,
)
from vllm_diffusion.structured.compiled import Compiled
from vllm_diffusion.structured.dfa_matcher import (
    ByteDfaMatcher,
    ByteDfaTables,
    TokenDfaMatcher,
    TokenDfaTables,
)
from vllm_diffusion.structured.grammar_matcher import GrammarMatcher
from vllm_diffusion.structured.lexical import LexicalMatcher, read_spec
from vllm_diffusion.structured.limits import read_limits
from vllm_diffusion.structured.matcher import Matcher
from vllm_diffusion.structured.reasoning import ReasoningMatcher
from vllm_diffusion.structured.token_dfa import automaton_of
from vllm_diffusion.structured.vocabulary import TokenizerSpec, Vocabulary

if TYPE_CHECKING:
    from vllm.config import VllmConfig
    from vllm.sampling_params import SamplingParams

    from vllm_diffusion.request.parsed import ParsedRequest


class Matchers:
    """Makes the matcher of a request; the vocabulary is read in a thread meanwhile."""

    def __init__(self, vllm_config: VllmConfig, mask_id: int) -> None:
        self.vllm_config, self.mask_id = vllm_config, mask_id
        self.limits = read_limits(vllm_config.additional_config)
        self.num_words = -(-vllm_config.model_config.get_vocab_size() // 32)
        self._kept: OrderedDict[tuple[Any, ...], tuple[Any, int]] = OrderedDict()
        self._bytes = 0
        self._vocabulary: Future[Vocabulary] | None = None
        if not vllm_config.model_config.skip_tokenizer_init:
            executor = ThreadPoolExecutor(1, thread_name_prefix="vocabulary")
            self._vocabulary = executor.submit(self._read_vocabulary)
            executor.shutdown(wait=False)

    def _read_vocabulary(self) -> Vocabulary:
        size = self.vllm_config.model_config.get_vocab_size()
        vocabulary = Vocabulary.of(TokenizerSpec.of(self.tokenizer, size, self.mask_id))
        # What a first request would wait for.
        _ = vocabulary.bytes_VB, vocabulary.token_of, vocabulary.longer
        return vocabulary

    @cached_property
    def tokenizer(self) -> Any:
        from vllm.tokenizers import cached_tokenizer_from_config

        return cached_tokenizer_from_config(model_config=self.vllm_config.model_config)

    @property
    def vocabulary(self) -> Vocabulary:
        """Read by now, as a rule: a server's start takes longer."""
        assert self._vocabulary is not None
        return self._vocabulary.result()

    def stop_ids(self, params: SamplingParams) -> tuple[int, ...]:
        """What may end the text."""
        return tuple(sorted(params.all_stop_token_ids))

    def matcher(
        self, params: SamplingParams, prompt: Sequence[int], parsed: ParsedRequest
    ) -> tuple[Matcher, list[int] | None]:
        """The start of the request's text, with what it may think first; an end of it, if known.

        Raises:
            Exception: of a library, or of data that is not what a front end makes.
        """
        budget = params.thinking_token_budget
        inner: Matcher
        end: list[int] | None = None
        is_once = parsed.compiled is not None
        if parsed.compiled is not None:
            inner, end = self._answer(params, parsed.compiled)
            if self._reasoning is not None and not parsed.reasoning_ended:
                is_thinking = not self._reasoning.is_reasoning_end(list(prompt))
                inner = ReasoningMatcher(
                    inner,
                    lambda tokens, token: self._reasoning.is_reasoning_end_streaming(
                        list(tokens), [token]
                    ),
                    prompt,
                    is_thinking=is_thinking,
                    is_answer=self._begins_answer,
                )
                end = None if is_thinking else end
            else:
                is_thinking = False
        else:
            inner = FreeMatcher()
            is_thinking = self.markers.thinks(prompt)
        if budget is None or (is_once and not is_thinking):
            return inner, end
        return BudgetMatcher(inner, Budget(self.markers, budget, is_thinking, is_once)), end

    def _answer(self, params: SamplingParams, data: dict[str, Any]) -> tuple[Matcher, list[int]]:
        stop_ids = self.stop_ids(params)
        matcher: Matcher
        compiled = self._keep(("compiled", data["digest"]), lambda: _unpacked(data))
        key = (compiled.digest, stop_ids)
        if compiled.tokens is not None:
            matcher = TokenDfaMatcher(
                self._keep(("tokens", *key), lambda: self._tokens(compiled, stop_ids))
            )
        elif compiled.dfa is not None:
            dfa = compiled.dfa
            tables = self._keep(
                ("dfa", compiled.digest),
                lambda: _sized(ByteDfaTables(dfa, self.vocabulary)),
            )
            matcher = ByteDfaMatcher(tables, stop_ids)
        elif compiled.lexical is not None:
            spec = compiled.lexical
            matcher = self._keep(("lexical", *key), lambda: self._lexical(spec, stop_ids)).fork()
        else:
            matcher = self._keep(
                ("grammar", *key), lambda: self._grammar(compiled, stop_ids)
            ).fork()
        return matcher, [*compiled.ending, stop_ids[0]]

    def _tokens(self, compiled: Compiled, stop_ids: tuple[int, ...]) -> tuple[TokenDfaTables, int]:
        assert compiled.tokens is not None
        automaton = automaton_of(compiled.tokens, stop_ids)
        tables = TokenDfaTables(automaton, self.num_words)
        return tables, tables.most_bytes + 4 * compiled.num_bytes

    def _lexical(self, spec: str, stop_ids: tuple[int, ...]) -> tuple[LexicalMatcher, int]:
        matcher = LexicalMatcher.of(read_spec(spec), self.vocabulary, stop_ids)
        size = matcher.reading.phrases.table.nbytes + matcher.reading.phrases.need_MS.nbytes
        return matcher, size + 16 * 12 * self.vocabulary.size

    def _grammar(self, compiled: Compiled, stop_ids: tuple[int, ...]) -> tuple[GrammarMatcher, int]:
        assert compiled.grammar is not None
        matcher = GrammarMatcher(
            self.vocabulary,
            compiled.grammar,
            stop_ids,
            self.limits,
            compiled.hints,
            compiled.markers,
        )
        # The library says nothing of its size; a lexer state is some 2 kB of it.
        return matcher, compiled.num_bytes + (1 << 20)

    def _keep(self, key: tuple[Any, ...], make: Callable[[], tuple[Any, int]]) -> Any:
        """What was made for a key before; the oldest go once there are too many bytes."""
        if key in self._kept:
            self._kept.move_to_end(key)
            return self._kept[key][0]
        value, size = make()
        self._kept[key] = (value, size)
        self._bytes += size
        while self._bytes > self.limits.cache_bytes and len(self._kept) > 2:
            self._bytes -= self._kept.popitem(last=False)[1][1]
        return value

    @cached_property
    def markers(self) -> Markers:
        """Around thoughts; vLLM refuses a budget where it does not know them."""
        markers = markers_of(self.vllm_config)
        assert markers is not None
        return markers

    @cached_property
    def _reasoning(self) -> Any:
        """The server's parser, where it has one and thoughts are not held to grammars."""
        from vllm.reasoning import ReasoningParserManager

        config = self.vllm_config.structured_outputs_config
        if not config.reasoning_parser or config.enable_in_reasoning:
            return None
        cls = ReasoningParserManager.get_reasoning_parser(config.reasoning_parser)
        return cls(tokenizer=self.tokenizer)

    def _begins_answer(self, token: int) -> bool:
        """Does the token, which ends thoughts, stand in the answer, as vLLM's scheduler has it?"""
        if not hasattr(self._reasoning, "find_reasoning_end"):
            return False
        end = self._reasoning.find_reasoning_end([token])
        return end is not None and bool(end.implicit)


def _sized(tables: ByteDfaTables) -> tuple[ByteDfaTables, int]:
    return tables, tables.most_bytes


def _unpacked(data: dict[str, Any]) -> tuple[Compiled, int]:
    compiled = Compiled.unpack(data)
    return compiled, compiled.num_bytes
