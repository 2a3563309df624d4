"""Fill-in-the-middle: give back the lines that stand at the gap of a program.

Only lines that follow from the rest are removed, so there is one right answer.
"""

from random import Random

from ..sample import Sample, ask
from .code import check_lines, class_lines, getter_lines, sum_lines
from .lexicon import draw_words

GAP = "___"


def _draw_program(rng: Random) -> tuple[list[str], int, int]:
    """A program and the range of its lines that may be removed."""
    name, *fields = draw_words(rng, rng.randint(4, 6))
    kind = rng.randrange(3)
    if kind == 0:
        lines = [*class_lines(name, fields), *sum_lines("add", fields)]
        return lines, 2, 2 + len(fields)
    if kind == 1:
        lines = [f"# fields: {', '.join(fields)}", *getter_lines(fields)]
        return lines, 1, len(lines)
    lines = [*check_lines(name, fields), "    return True"]
    return lines, 1, len(lines)


def fim(rng: Random) -> Sample:
    """Remove two to six lines of a program."""
    lines, low, high = _draw_program(rng)
    num_removed = rng.randint(2, min(6, high - low))
    first = rng.randint(low, high - num_removed)
    removed = lines[first : first + num_removed]
    text = "\n".join([*lines[:first], GAP, *lines[first + num_removed :]])
    return ask("fim", f"Fill the gap {GAP} in:\n{text}", "\n".join(removed))
