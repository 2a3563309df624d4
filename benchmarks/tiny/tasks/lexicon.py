"""Words, names and typed fields; short ones, so that most are one or two tokens."""

from random import Random

WORDS = (
    "red blue green gold pink gray apple pear plum lemon fig melon cat dog fox owl bear wolf "
    "lion duck river lake hill stone tree leaf rose moon star rain snow wind lamp book door cup"
).split()
NAMES = "ada ben cleo dan eva finn ida jack kim leo mia nora omar ray sam tom".split()
CITIES = "oslo rome paris lima cairo delhi tokyo bern".split()
DAYS = "monday tuesday friday sunday".split()

_COLORS = WORDS[:6]
_FOODS = WORDS[6:12]
_PETS = WORDS[12:20]
_THINGS = WORDS[20:]

FIELDS: dict[str, list[str]] = {
    "name": NAMES,
    "city": CITIES,
    "color": _COLORS,
    "food": _FOODS,
    "pet": _PETS,
    "item": _THINGS,
    "day": DAYS,
    "age": [],
    "size": [],
    "room": [],
}
NUMBER_FIELDS = frozenset(name for name, values in FIELDS.items() if not values)

Value = str | int


def draw_value(rng: Random, name: str) -> Value:
    """A value for a field: a two-digit number or a word of its list."""
    if name in NUMBER_FIELDS:
        return rng.randint(10, 99)
    return rng.choice(FIELDS[name])


def draw_record(rng: Random, num_fields: int, max_numbers: int = 3) -> dict[str, Value]:
    """Distinct fields with values, in random order."""
    banned = rng.sample(sorted(NUMBER_FIELDS), len(NUMBER_FIELDS) - max_numbers)
    names = rng.sample([name for name in FIELDS if name not in banned], num_fields)
    return {name: draw_value(rng, name) for name in names}


def draw_words(rng: Random, num_words: int) -> list[str]:
    """Distinct words."""
    return rng.sample(WORDS, num_words)


def invent_word(rng: Random) -> str:
    """A word outside the list, of two or three syllables."""
    syllables = rng.randint(2, 3)
    return "".join(rng.choice("bdfgklmnprstvz") + rng.choice("aeiou") for _ in range(syllables))
