"""A canvas and its constraint: what was guessed is checked, what must come is filled in.

A denoising step accepts positions in any order. Only the *frontier*, the first position that is
not settled, has an exact set of tokens that may stand there; what was accepted behind it was
accepted on trust. After each step the frontier is moved over everything that the constraint agrees
with. A guess that it does not agree with is masked again, and gets its exact set in the next step;
a position behind it stays until the frontier gets there.

The frontier only moves forward, and each position is taken back at most once: when the frontier
has reached it. So a block of L positions takes at most 2 L steps, and a block that is settled up
to its end is a prefix that the constraint can complete.

An end of the text that the tokens left allow is known at the start of every block: the first one
comes with the compiled constraint, and a block is only emitted once one is known from its end on.
Where none is found, the block is taken back and filled with the one before it. So a text always
ends in time, whatever the search for ends finds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from vllm_diffusion.structured.matcher import Bits, DeadEndError, Matcher, first_allowed, set_bit


@dataclass(slots=True)
class ConstrainedCanvas:
    """A request whose text is held to a constraint."""

    matcher: Matcher
    bits_W: Bits
    """The tokens that may stand at the frontier."""
    mask_id: int
    block_length: int
    num_left: int
    """Tokens that the request may still emit, from the canvas's first position."""
    known_end: list[int] | None
    """Tokens from the canvas's first position to the text's end; None where nothing says one."""
    frontier: int = 0
    """Canvas positions that the matcher has accepted."""
    start: Matcher | None = None
    """Where the text stood before the canvas."""
    forced: list[int] = field(default_factory=list)
    """Tokens that must come next."""
    is_ending: bool = False
    """``forced`` is all the rest, because there are no tokens left for anything longer."""
    rejected: set[int] = field(default_factory=set)
    """Tokens that the matcher did not take at the frontier, whatever its set says: each step
    settles a position or makes the set smaller."""
    next_end: list[int] | None = None
    """``known_end`` of the next canvas."""

    @property
    def at_start(self) -> Matcher:
        """Where the text stands before the canvas."""
        return self.matcher if self.start is None else self.start

    def follow(self, tokens: list[int], masked: list[bool], end: int) -> None:
        """Check and fill the canvas; changes both lists in place.

        Args:
            tokens: of the canvas, L of them.
            masked: its masked positions.
            end: canvas positions that exist.

        Raises:
            DeadEndError: nothing may come; the request ends.
        """
        end = min(end, self.num_left)
        if self.start is None:
            self.start = self.matcher.fork()
        self.advance(tokens, masked, end)
        if self.frontier < end or self.matcher.is_done or self.is_ending:
            return
        self.next_end = self.matcher.ending(self.num_left - end)
        if self.next_end is not None:
            return
        path = self.start.ending(self.num_left) or self.known_end
        if path is None or len(path) > self.num_left:
            return  # thoughts, whose end nobody knows
        self.matcher, self.frontier = self.start.fork(), 0
        self.forced, self.is_ending = list(path), True
        tokens[:end], masked[:end] = [self.mask_id] * end, [True] * end
        self.advance(tokens, masked, end)

    def advance(self, tokens: list[int], masked: list[bool], end: int) -> None:
        """Move the frontier as far as the constraint agrees, and look what may stand there."""
        while self.frontier < end and not self.matcher.is_done:
            at = self.frontier
            if masked[at] or not self._accept(tokens[at]):
                if not masked[at]:
                    self.rejected.add(tokens[at])
                if not self.forced:
                    self._look()
                if not self.forced:
                    tokens[at], masked[at] = self.mask_id, True
                    return
                tokens[at], masked[at] = self.forced[0], False
                if not self._accept(tokens[at]):
                    # Two tokens that a forced text was cut into do not fit.
                    if self.is_ending:
                        raise DeadEndError("the known end of the text does not fit")
                    tokens[at], masked[at] = self.mask_id, True
                    self._look()
                    self.forced.clear()
                    return
            self.frontier += 1
            self.rejected.clear()
        if not self.forced:
            self._look()

    def _accept(self, token: int) -> bool:
        if not self.matcher.accept(token):
            return False
        self.forced = self.forced[1:] if self.forced[:1] == [token] else []
        return True

    def _look(self) -> None:
        """Find out what may and what must come at the frontier."""
        if self.matcher.is_done:
            self.bits_W.fill(0xFFFFFFFF)
            return
        self.matcher.fill(self.bits_W)
        for token in self.rejected:
            set_bit(self.bits_W, token, False)
        options = first_allowed(self.bits_W, 2)
        if not options:
            raise DeadEndError("nothing may come next")
        self.forced = options if len(options) == 1 else self.matcher.forced()

    def resume(
        self,
        matcher: Matcher,
        start: Matcher | None,
        *,
        frontier: int,
        num_left: int,
        is_ending: bool,
    ) -> None:
        """Go on from where the text was followed by other means.

        Args:
            matcher: at the frontier; knows the exact way to the end.
            start: in front of the canvas.
            frontier: see the fields.
            num_left: likewise.
            is_ending: likewise.
        """
        self.matcher, self.start, self.frontier, self.num_left = matcher, start, frontier, num_left
        self.is_ending = is_ending
        self.known_end, self.next_end = self.at_start.ending(num_left), None
        self.rejected.clear()
        self.forced = (matcher.ending(num_left - frontier) or []) if is_ending else []
        if not self.forced:
            self._look()

    def replay(self, tokens: Sequence[int]) -> None:
        """Follow what a request had emitted before it lost its K and V."""
        for token in tokens:
            if not self._accept(token):
                raise DeadEndError("what was emitted does not meet the constraint")
        if tokens:
            self.known_end = self.matcher.ending(self.num_left - len(tokens))
            self.next_end = self.known_end
        self.emitted(len(tokens))

    def emitted(self, num_tokens: int) -> None:
        """The canvas's first tokens were emitted; what follows them is a fresh canvas."""
        self.rejected.clear()
        if num_tokens:
            self.known_end, self.next_end = self.next_end, None
        self.frontier = max(self.frontier - num_tokens, 0)
        self.num_left -= num_tokens
        self.start = None
