"""What the fuzzers send, what came back, and what was wrong with it: plain values, kept as JSON."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Case:
    """A request, and what its text is held to."""

    kind: str
    """The strategy that drew it."""
    route: str
    body: Any = None
    """JSON; ``raw`` is sent in its place where it is said."""
    constraint: dict[str, Any] = field(default_factory=dict)
    """``json``, ``regex``, ``choice``, ``lark``, ``tags`` or ``tools``: what the judge reads."""
    raw: str | None = None
    method: str = "POST"

    @property
    def name(self) -> str:
        """Of a file that keeps it: the same for the same request."""
        text = json.dumps([self.route, self.body, self.raw, self.method], sort_keys=True)
        return f"{self.kind}-{hashlib.sha256(text.encode()).hexdigest()[:12]}"

    @property
    def is_stream(self) -> bool:
        is_asked = isinstance(self.body, dict) and self.body.get("stream") is True
        return is_asked and "tokenize" not in self.route  # nothing of theirs streams

    def to_json(self) -> dict[str, Any]:
        """Without what is left out, and without an empty constraint; an empty body is a body."""
        said = {key: value for key, value in asdict(self).items() if value is not None}
        return said if self.constraint else {k: v for k, v in said.items() if k != "constraint"}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Case:
        return cls(**{name: data[name] for name in cls.__dataclass_fields__ if name in data})


@dataclass(frozen=True)
class Answer:
    """What a server said; status 0 is no answer at all, and then ``text`` is why."""

    status: int
    text: str
    seconds: float


@dataclass(frozen=True)
class Finding:
    """A fault."""

    fault: str
    """Its kind, one of ``FAULTS``."""
    detail: str
    case: Case
    answer: Answer

    def save(self, folder: Path, seed: int) -> Path:
        """Write a reproducer; the same request and fault give the same file."""
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{self.fault.replace(' ', '-')}-{self.case.name}.json"
        known = {
            "fault": self.fault,
            "detail": self.detail[:2000],
            "seed": seed,
            "status": self.answer.status,
            "seconds": round(self.answer.seconds, 2),
            "answer": self.answer.text[:2000],
            "case": self.case.to_json(),
        }
        path.write_text(json.dumps(known, indent=1) + "\n", encoding="utf-8")
        return path


FAULTS = {
    "dead": "the server or its engine has ended",
    "hang": "no answer in time",
    "memory": "a process of the server took more than the limit",
    "5xx": "an internal error",
    "wait": "another client waited too long",
    "health wait": "/health answered too late",
    "invalid": "a text that ends with `stop` and breaks its constraint",
    "unfinished": "`length`, where more tokens show that a text fits",
    "served": "a constraint that means nothing was served",
    "finish reason": "an end that no client knows",
    "envelope": "an error without OpenAI's envelope",
    "echo": "an error that repeats a long value",
    "stream": "a stream that breaks off, or starts and then refuses",
}
