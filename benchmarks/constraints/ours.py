"""A constraint of ours, compiled and followed."""

from __future__ import annotations

import time
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.constraints.vocabularies import MASK, STOP
from vllm_diffusion.denoise.sample import Draws
from vllm_diffusion.structured.compiled import Compiled
from vllm_diffusion.structured.dfa_matcher import (
    ByteDfaMatcher,
    ByteDfaTables,
    TokenDfaMatcher,
    TokenDfaTables,
)
from vllm_diffusion.structured.grammar_matcher import GrammarMatcher
from vllm_diffusion.structured.limits import Limits
from vllm_diffusion.structured.matcher import Matcher
from vllm_diffusion.structured.token_dfa import automaton_of
from vllm_diffusion.structured.vocabulary import Vocabulary

LENGTH = 16
"""Positions of a block."""
MEANT = 20.0
"""What the logit of a meant token has over the others, whose deviation is 1."""


def mechanism_of(compiled: Compiled) -> str:
    kinds = {"tokens": compiled.tokens, "bytes": compiled.dfa, "parser": compiled.grammar}
    return next(kind for kind, part in kinds.items() if part is not None)


def matcher_of(compiled: Compiled, words: Vocabulary) -> Matcher:
    """As the worker makes it."""
    if compiled.tokens is not None:
        automaton = automaton_of(compiled.tokens, (STOP,))
        return TokenDfaMatcher(TokenDfaTables(automaton, words.num_words))
    if compiled.dfa is not None:
        return ByteDfaMatcher(ByteDfaTables(compiled.dfa, words), (STOP,))
    assert compiled.grammar is not None
    return GrammarMatcher(words, compiled.grammar, (STOP,), Limits(), compiled.hints)


def takes(compiled: Compiled, words: Vocabulary, text: str) -> bool:
    """Is it a whole text of the constraint?"""
    matcher = matcher_of(compiled, words)
    return all(matcher.accept(token) for token in [*words.encode(text), STOP])


class Answer:
    """A model that means a text, held to a constraint by the worker's own step.

    Every step opens the first position of the block, so there is a step for each token that the
    constraint does not force. Only what the constraint costs is timed: neither the forward pass,
    which is not made, nor the acceptance.
    """

    def __init__(self, compiled: Compiled, words: Vocabulary, text: str, noise_LV: Tensor) -> None:
        from vllm_diffusion.isolation.failures import Failures
        from vllm_diffusion.structured.frontier import ConstrainedCanvas
        from vllm_diffusion.worker.constrained import Constraints
        from vllm_diffusion.worker.grammars import ConstrainedStep

        self.words, self.text, self.noise_LV = words, text.encode(), noise_LV
        self.logits_LV = torch.empty_like(noise_LV)
        self.canvas = ConstrainedCanvas(
            matcher=matcher_of(compiled, words),
            bits_W=np.zeros(words.num_words, dtype=np.uint32),
            mask_id=MASK,
            block_length=LENGTH,
            num_left=max(2 * len(words.encode(text)), len(compiled.ending)) + 100,
            known_end=[*compiled.ending, STOP],
        )
        one = {"num_rows_B": LENGTH, "row_start_B": 0, "width_B": LENGTH, "slot_B": 0}
        canvases: Any = SimpleNamespace(**{key: np.array([value]) for key, value in one.items()})
        self.failures = Failures()
        self.step = ConstrainedStep(canvases, [0], [self.canvas], Constraints(MASK), self.failures)
        self.emitted: list[int] = []
        self.tokens_BL = torch.full((1, LENGTH), MASK)
        self.masked_BL = torch.ones(1, LENGTH, dtype=torch.bool)
        self.tokens_BL, self.masked_BL = self.step.revise(self.tokens_BL, self.masked_BL)

    def written(self) -> bytes:
        tokens = [*self.emitted, *self.tokens_BL[0, : self.canvas.frontier].tolist()]
        return b"".join(self.words.spelled[token] for token in tokens)

    def think(self) -> None:
        """Logits that mean the rest of the text; none of it once another way was taken."""
        written, at = self.written(), self.canvas.frontier
        self.logits_LV.copy_(self.noise_LV)
        rest = self.text[len(written) :] if self.text.startswith(written) else b""
        tokens = [*self.words.encode(rest.decode()), STOP][: LENGTH - at]
        self.logits_LV[range(at, at + len(tokens)), tokens] += MEANT

    def draws(self, number: int) -> Draws:
        position_N = len(self.emitted) + torch.arange(LENGTH)
        return Draws(
            row_N=torch.arange(LENGTH),
            temperature_N=torch.ones(LENGTH),
            seed_N=torch.zeros(LENGTH, dtype=torch.int64),
            position_N=position_N,
            step_N=torch.full((LENGTH,), number),
            rows=np.arange(LENGTH),
        )

    def run(self, *, is_drawn: bool) -> list[float]:
        """CPU milliseconds of each step.

        Raises:
            RuntimeError: the text did not end, or its constraint failed.
        """
        spent: list[float] = []
        most = self.canvas.num_left
        while not self.canvas.matcher.is_done:
            if len(spent) > most or self.failures.of_slot:
                raise RuntimeError(f"{self.written()!r} does not end: {self.failures.of_slot}")
            self.think()
            draws = self.draws(len(spent)) if is_drawn else None
            began = time.process_time()
            texts, _ = self.step.texts(self.logits_LV, self.tokens_BL, self.masked_BL, draws)
            if texts is not None:
                self.tokens_BL, self.masked_BL = texts.fill(self.tokens_BL, self.masked_BL)
            seconds = time.process_time() - began
            if self.masked_BL.any():
                at = int(self.masked_BL[0].int().argmax())
                is_chosen = texts is not None and bool(texts.is_chosen_KL[0, at])
                own = self.logits_LV[at].argmax()
                self.tokens_BL[0, at] = texts.token_KL[0, at] if texts and is_chosen else own
                self.masked_BL[0, at] = False
            began = time.process_time()
            self.tokens_BL, self.masked_BL = self.step.revise(self.tokens_BL, self.masked_BL)
            if not self.masked_BL.any():
                self.next_block()
            spent.append(1000 * (seconds + time.process_time() - began))
        return spent

    def next_block(self) -> None:
        self.emitted += self.tokens_BL[0].tolist()
        self.tokens_BL = torch.full((1, LENGTH), MASK)
        self.masked_BL = torch.ones(1, LENGTH, dtype=torch.bool)
        self.tokens_BL, self.masked_BL = self.step.start_next(
            torch.tensor([LENGTH]), self.tokens_BL, self.masked_BL
        )
