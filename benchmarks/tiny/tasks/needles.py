"""Facts in a long text: ``needle`` asks for one or two of many, ``rag`` for one and its source.

The text of a needle is facts among lines of words that say nothing. Training shows short ones with
gaps in the positions (``batches``), so far places are seen without the cost of long sequences.
"""

import json
from random import Random

from ..sample import Sample, ask
from .calls import draw_facts
from .lexicon import FIELDS, WORDS, draw_value, draw_words


def haystack(rng: Random, facts: dict[str, str | int], num_words: int) -> str:
    """The facts in their order, among about ``num_words`` words, in lines."""
    lines = [f"{name} is {value}." for name, value in facts.items()]
    per_line = rng.randint(6, 16)
    for _ in range(num_words // per_line):
        words = [rng.choice(WORDS) for _ in range(per_line)]
        lines.insert(rng.randint(0, len(lines)), " ".join(words))
    return "\n".join(lines)


def needle_of(rng: Random, num_facts: int, num_words: int) -> Sample:
    """A needle of a given size."""
    facts = draw_facts(rng, num_facts)
    wanted = rng.sample(list(facts), rng.choice((1, 1, 2)))
    question = f"Text: {haystack(rng, facts, num_words)}\nReturn JSON with the fields"
    answer = json.dumps({name: facts[name] for name in wanted})
    return ask("needle", f"{question} {', '.join(wanted)}.", answer)


def needle(rng: Random) -> Sample:
    """Two to ten facts in up to 700 other words."""
    return needle_of(rng, rng.randint(2, 10), rng.choice((0, 60, 200, 700)))


def rag(rng: Random) -> Sample:
    """Two to four sources, each with facts of one thing; a field of one of them as JSON."""
    things = draw_words(rng, rng.randint(2, 4))
    asked = rng.randrange(len(things))
    facts = []
    for _ in things:
        names = rng.sample([name for name in FIELDS if name != "name"], rng.randint(2, 3))
        facts.append({name: draw_value(rng, name) for name in names})
    field = rng.choice(list(facts[asked]))
    lines = [
        f"[{i + 1}] {thing}: " + ", ".join(f"{name} is {value}" for name, value in known.items())
        for i, (thing, known) in enumerate(zip(things, facts, strict=True))
    ]
    question = f"What is the {field} of {things[asked]}? Return JSON with answer and source."
    answer = json.dumps({"answer": facts[asked][field], "source": asked + 1})
    return ask("rag", "\n".join([*lines, question]), answer)
