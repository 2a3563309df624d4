"""What a server is asked, however it is spread, and what has to come back.

Greedy texts are the plain torch reference's, token for token and in as many steps. Drawn and
structured ones are those of a server with one rank.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jsonschema

from tests.parity.cases import random_tokens
from tests.parity.families import FamilyCase, FamilyYardstick
from tests.scale.groups import Group

NUM_GREEDY, NUM_DRAWN = 6, 3
SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "pet": {"enum": ["bear", "cat"]},
        "old": {"type": "boolean"},
        "name": {"type": "string", "maxLength": 6},
    },
    "required": ["pet", "old", "name"],
    "additionalProperties": False,
}
REGEX = "[a-f]{3}(-[0-9]{2}){2,4}"
JSON_FORM = {"type": "json_schema", "json_schema": {"name": "pet", "schema": SCHEMA}}
FORMS: tuple[dict[str, Any], ...] = (
    {"response_format": JSON_FORM},
    {"structured_outputs": {"regex": REGEX}},
)
TEMPERATURES = (0.0, 1.2)

Request = dict[str, Any]


@dataclass(frozen=True)
class Found:
    """One answer, as far as it is compared."""

    tokens: list[int]
    steps: int
    text: str

    @classmethod
    def of(cls, answer: dict[str, Any]) -> Found:
        """From what ``tests.cluster.asker`` tells."""
        assert answer["status"] == 200, answer
        response = json.loads(answer["text"])
        (choice,) = response["choices"]
        decoding = response["metrics"]["speculative_decoding"]["diffusion"]
        return cls(choice["token_ids"], decoding["num_denoising_steps"], choice["text"])


def is_valid(text: str, form: dict[str, Any]) -> bool:
    """Does a structured text meet what it was asked for?"""
    if "structured_outputs" in form:
        return re.fullmatch(REGEX, text) is not None
    try:
        jsonschema.validate(json.loads(text), SCHEMA)
    except (json.JSONDecodeError, jsonschema.ValidationError):
        return False
    return True


class Questions:
    """The requests to a checkpoint of a group."""

    def __init__(self, group: Group, folder: Path) -> None:
        modes = group.modes
        self.yardstick = FamilyYardstick(group.family, folder)
        self.greedy = [
            self.yardstick.draw(8 + 9 * n, 12 + n, modes[n % len(modes)]) for n in range(NUM_GREEDY)
        ]
        self.drawn = [
            {"prompt": random_tokens(20 + n, n), "max_tokens": 8, "temperature": 1.0, "seed": n}
            | _decode_fields(modes[n % len(modes)].fields)
            for n in range(NUM_DRAWN)
        ]
        self.structured = [
            {"prompt": random_tokens(15, n), "max_tokens": 96, "temperature": t, "seed": n} | form
            for n, form in enumerate(FORMS)
            for t in TEMPERATURES
        ]

    def requests(self) -> list[Request]:
        """All of them, to be sent together."""
        greedy = [_greedy_fields(case) for case in self.greedy]
        common = {"model": "model", "return_token_ids": True}
        return [
            {"path": "/v1/completions", "body": common | fields}
            for fields in (*greedy, *self.drawn, *self.structured)
        ]

    def check(
        self, answers: Sequence[dict[str, Any]], one_rank: Sequence[Found] | None = None
    ) -> list[Found]:
        """Fail where an answer is another than the reference's, or than one rank's.

        Without one rank's answers, structured ones need to be valid alone.
        """
        found = [Found.of(answer) for answer in answers]
        assert len(found) == len(self.requests())
        self.yardstick.compare(self.greedy, found[:NUM_GREEDY])
        others = zip(self.structured, found[NUM_GREEDY + NUM_DRAWN :], strict=True)
        invalid = [one.text for asked, one in others if not is_valid(one.text, asked)]
        assert not invalid, f"not as asked for: {invalid}"
        if one_rank is not None:
            pairs = zip(found, one_rank, strict=True)
            differ = [f"{got}, with one rank {want}" for got, want in pairs if got != want]
            assert not differ, "\n".join(differ)
        return found


def _decode_fields(fields: Any) -> dict[str, Any]:
    extra = {f"diffusion_{key}": value for key, value in fields.items()}
    return {"vllm_xargs": extra} if extra else {}


def _greedy_fields(case: FamilyCase) -> dict[str, Any]:
    asked = {"prompt": case.prompt, "max_tokens": case.max_tokens, "temperature": 0}
    return asked | _decode_fields(case.mode.fields)
