"""How the fields of a body are read: each is taken or refused by name."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from typing import Any

from vllm_diffusion.decisions.asked import READINGS, Reading
from vllm_diffusion.request.field_errors import InvalidFieldError
from vllm_diffusion.request.quote import close_to

MAX_ROTATIONS = 26
OURS = ("rotations", "read", "cache_salt")
"""Fields that this package adds to every shape."""
REFUSED = {
    **dict.fromkeys(
        ("image", "images", "audio", "video", "videos", "documents"),
        "this server's models read text alone; leave it out",
    ),
    **dict.fromkeys(
        ("tools", "tool_choice"), "a decision calls no tool; describe the tools in the state"
    ),
    "stream": "a decision is one short answer; leave it out",
    "chat_template_kwargs": "a read is the answer's first token, behind a template with thinking "
    "off; leave it out",
    "joint": "each question is read alone; leave it out",
    "priority": "it is not taken here; leave it out",
    "request_id": "it is not taken here; leave it out",
    "return_prompt_token_ids": "it is not taken here; ask /tokenize",
    "prompt_cache_options": "the prefix cache has no options; leave it out",
}
"""Known fields of other servers, and what to do instead."""
_NEUTRAL: tuple[Any, ...] = (None, False, [], {})
_IMAGE_TYPES = ("image", "image_url", "input_image", "input_audio", "video_url", "input_file")


def check_keys(given: Any, path: str, known: Collection[str]) -> Mapping[str, Any]:
    """An object whose keys are all known.

    Raises:
        InvalidFieldError: it is none, or has another key.
    """
    if not isinstance(given, dict):
        raise InvalidFieldError(path or "the body", given, "it must be an object")
    for key, value in given.items():
        if key in known or any(value is each or value == each for each in _NEUTRAL):
            continue
        field = f"{path}.{key}" if path else key
        if not path and key in REFUSED:
            raise InvalidFieldError(field, value, REFUSED[key])
        close = close_to(key, list(known))
        meant = f"did you mean {close}?" if close else f"known are {', '.join(sorted(known))}"
        raise InvalidFieldError(field, value, f"this field is not known; {meant}")
    return given


def within(given: Mapping[str, Any], path: str, name: str) -> tuple[str, Any]:
    """A field that must be there, and its path."""
    field = f"{path}.{name}" if path else name
    if given.get(name) is None:
        raise InvalidFieldError(field, None, "it is missing")
    return field, given[name]


def text_of(value: Any, field: str) -> str:
    """A string as it is, anything else as compact JSON."""
    _check_media(value, field)
    if isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def said_text(value: Any, field: str) -> str:
    """The same of a field that may be left out."""
    return "" if value is None else text_of(value, field)


def string(given: Mapping[str, Any], path: str, name: str) -> str:
    """A string that is not blank."""
    field, value = within(given, path, name)
    if not isinstance(value, str) or not value.strip():
        raise InvalidFieldError(field, value, "it must be a text that is not blank")
    return value


def state_of(given: Mapping[str, Any], name: str) -> str:
    """What the questions are about."""
    field, value = within(given, "", name)
    if not isinstance(value, (str, dict, list)):
        raise InvalidFieldError(field, value, "it must be a text, an object or a list")
    text = text_of(value, field)
    if not text.strip():
        raise InvalidFieldError(field, value, "it is blank; say what the questions are about")
    return text


def some(value: Any, field: str, kind: type, least: int, most: int, what: str) -> Any:
    """A list or an object of so many."""
    if not isinstance(value, kind) or not isinstance(value, (list, dict)):
        shape = "a list" if kind is list else "an object"
        raise InvalidFieldError(field, value, f"it must be {shape} of {least} to {most} {what}")
    if not least <= len(value) <= most:
        remedy = f"it has {len(value)} {what}, and takes {least} to {most}"
        raise InvalidFieldError(field, value, remedy)
    return value


def shared(given: Mapping[str, Any]) -> dict[str, Any]:
    """The fields that every shape has, as ``Decision`` takes them."""
    model = given.get("model")
    if model is not None and not isinstance(model, str):
        raise InvalidFieldError("model", model, "it must be a text")
    rotations = given.get("rotations") or 1
    if type(rotations) is not int or not 1 <= rotations <= MAX_ROTATIONS:
        remedy = f"it must be an integer from 1 to {MAX_ROTATIONS}"
        raise InvalidFieldError("rotations", rotations, remedy)
    reading: Reading | Any = given.get("read") or "labels"
    if reading not in READINGS:
        raise InvalidFieldError("read", reading, f"it must be one of {', '.join(READINGS)}")
    salt = given.get("cache_salt")
    if salt is not None and (not isinstance(salt, str) or not 0 < len(salt) <= 1024):
        raise InvalidFieldError("cache_salt", salt, "it must be a text of 1 to 1024 characters")
    return {"model": model, "rotations": rotations, "reading": reading, "cache_salt": salt}


def _check_media(value: Any, field: str) -> None:
    """Refuse what would reach the model as a text of base64."""
    left = [value]
    while left:
        each = left.pop()
        if isinstance(each, str) and each.startswith(("data:image/", "data:audio/", "data:video/")):
            raise InvalidFieldError(field, each, "this server's models read text alone")
        if isinstance(each, dict):
            if each.get("type") in _IMAGE_TYPES:
                raise InvalidFieldError(field, each, "this server's models read text alone")
            left += each.values()
        elif isinstance(each, list):
            left += each
