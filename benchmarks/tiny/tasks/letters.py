"""Letters from a template: long fixed passages around a few slots."""

from random import Random

from ..sample import Sample, ask
from .lexicon import CITIES, DAYS, NAMES, WORDS

TEMPLATES = {
    "thank": (
        "Dear {to},\n\nthank you for the {item}. It came to {city} on {day} and I like it a lot. "
        "I will show the {item} to all my friends.\n\nBest wishes,\n{sender}"
    ),
    "invite": (
        "Dear {to},\n\nplease come to my party in {city} on {day}. We will look at the {item} "
        "together. Let me know if you can come.\n\nBest wishes,\n{sender}"
    ),
    "sorry": (
        "Dear {to},\n\nI am sorry that I lost the {item} in {city}. I will bring you a new {item} "
        "on {day}. Please do not be angry.\n\nYours,\n{sender}"
    ),
}


def letter(rng: Random) -> Sample:
    """A thank-you note, an invitation or an excuse."""
    kind = rng.choice(list(TEMPLATES))
    sender, to = rng.sample(NAMES, 2)
    slots = {
        "sender": sender,
        "to": to,
        "item": rng.choice(WORDS[20:]),
        "city": rng.choice(CITIES),
        "day": rng.choice(DAYS),
    }
    facts = ", ".join(f"{key} {value}" for key, value in slots.items())
    return ask("letter", f"Write a {kind} letter: {facts}.", TEMPLATES[kind].format(**slots))
