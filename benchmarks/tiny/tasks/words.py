"""Tasks over word lists: repeat them, reverse them, spell numbers digit by digit."""

from random import Random

from ..sample import Sample, ask
from .lexicon import draw_words, invent_word

DIGITS = "zero one two three four five six seven eight nine".split()


def copy(rng: Random) -> Sample:
    """Repeat a list of distinct words, a few of them invented."""
    words = [
        invent_word(rng) if rng.random() < 0.06 else word
        for word in draw_words(rng, rng.randint(14, 34))
    ]
    lead = rng.choice(("Repeat these words:", "Copy this line:"))
    return ask("copy", f"{lead} {' '.join(words)}", " ".join(words))


def reverse(rng: Random) -> Sample:
    """Write distinct words in the opposite order."""
    words = draw_words(rng, rng.randint(12, 30))
    lead = rng.choice(("Reverse these words:", "Write backwards:"))
    return ask("reverse", f"{lead} {' '.join(words)}", " ".join(reversed(words)))


def spell(rng: Random) -> Sample:
    """Spell two-digit numbers, one a line."""
    numbers = rng.sample(range(10, 100), rng.randint(5, 12))
    lines = [f"{n}: {DIGITS[n // 10]} {DIGITS[n % 10]}" for n in numbers]
    lead = rng.choice(("Spell the digits of", "Read out the digits of"))
    return ask("spell", f"{lead} {', '.join(map(str, numbers))}.", "\n".join(lines))
