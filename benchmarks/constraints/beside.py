"""xgrammar on its own: the same schemas, in one thread, a token at a time."""

from __future__ import annotations

import time
from functools import cached_property
from typing import Any

from benchmarks.constraints.vocabularies import STOP
from vllm_diffusion.structured.vocabulary import Vocabulary


class Beside:
    """xgrammar's compiler for a vocabulary."""

    def __init__(self, words: Vocabulary) -> None:
        self.words = words

    @cached_property
    def compiler(self) -> Any:
        import xgrammar

        info = xgrammar.TokenizerInfo(
            self.words.spelled, vocab_type=xgrammar.VocabType.RAW, stop_token_ids=[STOP]
        )
        return xgrammar.GrammarCompiler(info, max_threads=1, cache_enabled=False)

    def compile(self, schema: str) -> Any:
        return self.compiler.compile_json_schema(schema, any_whitespace=False)

    def takes(self, compiled: Any, text: str) -> bool:
        """Is it a whole text of the grammar?"""
        import xgrammar

        matcher = xgrammar.GrammarMatcher(compiled)
        return bool(matcher.accept_string(text)) and bool(matcher.accept_token(STOP))

    def follow(self, compiled: Any, text: str) -> list[float]:
        """CPU milliseconds of each token's mask and acceptance.

        Raises:
            RuntimeError: the text is none of the grammar.
        """
        import xgrammar

        matcher = xgrammar.GrammarMatcher(compiled)
        bits = xgrammar.allocate_token_bitmask(1, self.words.size)
        spent = []
        for token in [*self.words.encode(text), STOP]:
            began = time.process_time()
            matcher.fill_next_token_bitmask(bits)
            is_taken = matcher.accept_token(token)
            spent.append(1000 * (time.process_time() - began))
            if not is_taken:
                raise RuntimeError(f"xgrammar does not take token {token} of {text!r}")
        return spent
