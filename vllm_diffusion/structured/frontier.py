"""A canvas and its grammar: what was guessed is checked, what must come is filled in.

A denoising step accepts positions in any order. Only the *frontier*, the first position that is
not settled, has an exact set of tokens that may stand there; what was accepted behind it was
accepted on trust. After each step the walk moves the frontier over everything that the grammar
agrees with. A guess that it does not agree with is masked again, and gets its exact set in the
next step; a position behind it stays until the frontier gets there.

The frontier only moves forward, and each position is taken back at most once: when the frontier
has reached it. So a block of L positions takes at most 2 L steps, and a block that is settled up
to its end is a prefix that the grammar can complete.

Before a block is emitted, an end of the text is looked for that the tokens left allow. If there
is none, the block is taken back and filled with the end that was found before it.

The text of a regular language has a track through its automaton as well. Then guesses come from
texts that the automaton allows, in reach of an end, so that nothing has to be taken back and no
end has to be looked for. The grammar still passes every token: it is what the output is held to.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from vllm_diffusion.structured.dfa_state import Track
from vllm_diffusion.structured.matcher import Bits, Matcher, first_allowed, is_allowed
from vllm_diffusion.structured.shortest_end import Closing


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """What the walk has to know of a tokenizer."""

    mask_id: int
    stop_ids: tuple[int, ...]
    """Of the request; the first one also ends a text that its grammar leaves no way on."""
    encode: Callable[[str], list[int]]
    """Text to tokens, as the model would write it."""


@dataclass(slots=True)
class GuidedCanvas:
    """A request whose text is held to a grammar."""

    matcher: Matcher
    bits_W: Bits
    """The tokens that may stand at the frontier."""
    vocabulary: Vocabulary
    closing: Closing
    block_length: int
    num_left: int
    """Tokens that the request may still emit, from the canvas's first position."""
    frontier: int = 0
    """Canvas positions that the matcher has accepted."""
    start: Matcher | None = None
    """Where the text stood before the canvas."""
    forced: list[int] = field(default_factory=list)
    """Tokens that must come next."""
    is_ending: bool = False
    """``forced`` is all the rest, because there are no tokens left for anything longer."""
    track: Track | None = None
    """Of a regular language; None as soon as its automaton and the grammar disagree."""
    is_stuck: bool = False
    """The grammar allows nothing: a defect of the grammar, for the caller to report."""

    def walk(self, tokens: list[int], masked: list[bool], end: int) -> None:
        """Check and fill the canvas; changes both lists in place.

        Args:
            tokens: of the canvas, L of them.
            masked: its masked positions.
            end: canvas positions that exist.
        """
        end = min(end, self.num_left)
        if self.start is None:
            self.start = self.matcher.fork()
        self._advance(tokens, masked, end)
        is_whole = self.frontier >= end and not self.matcher.is_done
        if not is_whole or self.is_ending or self.track is not None:
            return
        if self.closing.path(self.matcher, self.num_left - end) is None:
            path = self.closing.path(self.start, self.num_left)
            if path is not None:
                self.matcher, self.frontier = self.start.fork(), 0
                self.forced, self.is_ending = list(path), True
                tokens[:end], masked[:end] = [self.vocabulary.mask_id] * end, [True] * end
                self._advance(tokens, masked, end)

    def _advance(self, tokens: list[int], masked: list[bool], end: int) -> None:
        """Move the frontier as far as the grammar agrees, and look what may stand there."""
        while self.frontier < end and not self.matcher.is_done:
            at = self.frontier
            if masked[at] or not self._accept(tokens[at]):
                if not self.forced:
                    self._look()
                if self.forced and not self._fits(tokens, masked, end):
                    self._look()
                    self.forced = []
                if self.is_stuck:
                    # The guard in the engine core will not take it, and ends the request.
                    tokens[at], masked[at] = self.vocabulary.stop_ids[0], False
                    return
                if not self.forced:
                    tokens[at], masked[at] = self.vocabulary.mask_id, True
                    return
                tokens[at], masked[at] = self.forced[0], False
                if not self._accept(tokens[at]):
                    # Two tokens that the library's text was cut into do not fit its grammar.
                    self.forced.clear()
                    tokens[at], masked[at] = self.vocabulary.mask_id, True
                    self._look()
                    self.forced.clear()
                    return
            self.frontier += 1
        if not self.forced:
            self._look()

    def _accept(self, token: int) -> bool:
        if not self.matcher.accept(token):
            return False
        self.forced = self.forced[1:] if self.forced[:1] == [token] else []
        if self.track is not None and not self.track.follow(token):
            self.track = None
        return True

    def _fits(self, tokens: list[int], masked: list[bool], end: int) -> bool:
        """Whether what is forced leaves a text for the positions that are settled behind it.

        The same text can be cut into tokens in several ways, and a guess may stand for another.
        """
        if self.track is None:
            return True
        known = [None if masked[at] else tokens[at] for at in range(end)]
        forced = self.forced[: end - self.frontier]
        known[self.frontier : self.frontier + len(forced)] = forced
        return self.track.fits(known, self.num_left - end)

    def _look(self) -> None:
        """Find out what may and what must come at the frontier."""
        if self.matcher.is_done:
            self.bits_W.fill(0xFFFFFFFF)
            return
        self.matcher.fill(self.bits_W)
        options = first_allowed(self.bits_W, 2)
        if not options:
            self.is_stuck = True
        elif len(options) == 1:
            self.forced = options
        else:
            # Where the text ends, its last token may merge with what follows: left to the model.
            forced = self.vocabulary.encode(self.matcher.forced_text())[:-1]
            self.forced = forced if forced and is_allowed(self.bits_W, forced[0]) else []

    def replay(self, tokens: list[int]) -> None:
        """Follow what a request had emitted before it lost its K and V."""
        for token in tokens:
            self._accept(token)
        self.emitted(len(tokens))

    def emitted(self, num_tokens: int) -> None:
        """The canvas's first tokens were emitted; what follows them is a fresh canvas."""
        self.frontier = max(self.frontier - num_tokens, 0)
        self.num_left -= num_tokens
        self.start = None
        if self.track is not None:
            self.track.drop(num_tokens)
