"""What the scripts share: the questions with their answers, and the telling of results.

It is run by the interpreters of other environments, so it needs the standard library alone.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

URL = sys.argv[1]
"""Of the server, without ``/v1``."""
ASKED: dict[str, Any] = json.loads(Path(sys.argv[2]).read_text())
"""As ``tests.clients.questions`` has written it."""
MODEL: str = ASKED["model"]
CHATS: list[dict[str, str]] = ASKED["chats"]
QUESTION, ANSWER = CHATS[0]["question"], CHATS[0]["answer"]
RECORD: dict[str, Any] = ASKED["record"]
CALL: dict[str, Any] = ASKED["call"]
INFILL: dict[str, str] = ASKED["infill"]
FORMAT = {
    "type": "json_schema",
    "json_schema": {"name": "record", "strict": True, "schema": RECORD["schema"]},
}
Check = Callable[[], bool | str]


def said(text: str) -> list[dict[str, str]]:
    """As a user's message."""
    return [{"role": "user", "content": text}]


def is_answer(text: str | None, answer: str = ANSWER) -> bool:
    """Whether it is the one right answer, up to surrounding white space."""
    return (text or "").strip() == answer.strip()


def all_right(ask: Callable[[str], str | None]) -> bool:
    """Whether every question is answered right."""
    return all(is_answer(ask(each["question"]), each["answer"]) for each in CHATS)


def is_call(name: str, arguments: Any) -> bool:
    """Whether it is the right call; arguments as an object or its text."""
    given = json.loads(arguments) if isinstance(arguments, str) else arguments
    return bool(name == CALL["name"] and given == CALL["arguments"])


def refuses(ask: Callable[[], Any], error: type[BaseException], word: str) -> bool:
    """Whether the client raises its own error, which says what is wrong."""
    try:
        ask()
    except error as raised:
        return word in str(raised)
    return False


def told(package: str, checks: dict[str, Check], *, number: str | None = None) -> None:
    """Run every check and print a line of JSON for each; a wrong answer is no error."""
    for feature, check in checks.items():
        try:
            result = check()
        except Exception as error:
            result = f"{type(error).__name__}: {error}"[:300]
        if not isinstance(result, str):
            result = "ok" if result is True else "wrong answer"
        record = {"client": package, "version": number or version(package), "feature": feature}
        print(json.dumps(record | {"result": result}), flush=True)
