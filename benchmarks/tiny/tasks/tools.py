"""Tool calls: pick the right function of those offered and fill in its arguments.

The functions reach the model through the ``tools`` list of the chat template, so the same prompts
work through a server's tool-calling interface.
"""

import json
from random import Random
from typing import Any

from ..sample import Sample, ask
from .lexicon import CITIES, DAYS, NAMES, WORDS, Value

# name -> (request in words, {argument: choices, or None for a two-digit number})
FUNCTIONS: dict[str, tuple[str, dict[str, list[str] | None]]] = {
    "get_weather": (
        "weather in {city} on {day} in {unit}",
        {"city": CITIES, "day": DAYS, "unit": ["celsius", "kelvin"]},
    ),
    "send_mail": (
        "mail {to} from {sender} about the {subject}",
        {"to": NAMES, "sender": NAMES, "subject": WORDS[20:]},
    ),
    "book_room": (
        "book room {room} in {city} for {name}",
        {"room": None, "city": CITIES, "name": NAMES},
    ),
    "set_timer": (
        "set a timer called {label} for {minutes} minutes",
        {"label": WORDS, "minutes": None},
    ),
    "buy_item": (
        "buy {count} of {item} in {color}",
        {"count": None, "item": WORDS[20:], "color": WORDS[:6]},
    ),
    "find_route": (
        "route from {start} to {end} by {mode}",
        {"start": CITIES, "end": CITIES, "mode": ["car", "train"]},
    ),
    "add_event": (
        "plan {title} with {guest} on {day}",
        {"title": WORDS, "guest": NAMES, "day": DAYS},
    ),
    "play_song": (
        "play {song} by {artist} at volume {volume}",
        {"song": WORDS, "artist": NAMES, "volume": None},
    ),
}


def declare_fields(name: str, types: dict[str, str]) -> dict[str, Any]:
    """The OpenAI declaration of a function whose arguments are all required."""
    properties = {key: {"type": one} for key, one in types.items()}
    parameters = {"type": "object", "properties": properties, "required": list(types)}
    return {"type": "function", "function": {"name": name, "parameters": parameters}}


def declare(name: str) -> dict[str, Any]:
    """The OpenAI declaration of one of ``FUNCTIONS``."""
    arguments = FUNCTIONS[name][1]
    return declare_fields(
        name, {key: "string" if values else "integer" for key, values in arguments.items()}
    )


def format_call(name: str, arguments: dict[str, Value]) -> str:
    """A call as the model writes it."""
    body = json.dumps({"name": name, "arguments": arguments})
    return f"<tool_call>{body}</tool_call>"


def _draw_request(rng: Random, name: str) -> tuple[str, str]:
    request, choices = FUNCTIONS[name]
    arguments: dict[str, Value] = {
        key: rng.choice(values) if values else rng.randint(10, 99)
        for key, values in choices.items()
    }
    return request.format(**arguments), format_call(name, arguments)


def tool(rng: Random) -> Sample:
    """One or two calls out of two to four functions offered."""
    offered = rng.sample(list(FUNCTIONS), rng.randint(2, 4))
    wanted = rng.sample(offered, rng.choice((1, 1, 2)))
    requests = [_draw_request(rng, name) for name in wanted]
    question = "Please " + ", then ".join(text for text, _ in requests) + "."
    answer = "\n".join(call for _, call in requests)
    return ask("tool", question, answer, [declare(name) for name in offered])
