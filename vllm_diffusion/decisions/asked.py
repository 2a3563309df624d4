"""A decision as it is asked for, whatever the shape of its body."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

Kind = Literal["noul", "choice", "score"]
"""``noul`` is System One's word for yes or no."""
Reading = Literal["labels", "options"]
KINDS: tuple[Kind, ...] = ("noul", "choice", "score")
READINGS: tuple[Reading, ...] = ("labels", "options")

MAX_QUESTIONS = 400
MAX_OPTIONS = 255
MAX_LEVELS = 10
MAX_READS = 2048
"""Engine requests that one decision may need."""
MAX_CHARACTERS = 1 << 26
"""Of all prompts of a decision together."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Option:
    """One of a closed set."""

    name: str
    """As the model reads it."""
    value: object
    """As the answer says it."""
    description: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """One question; of a ``noul`` the options are yes and no."""

    field: str
    """Where it stands in the body."""
    name: str | None
    """The client's name for it."""
    kind: Kind
    text: str
    options: tuple[Option, ...]
    type: str
    """The client's word for its kind."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """All of a body."""

    shape: Literal["system_one", "openai", "sglang"]
    state: str
    state_field: str
    questions: tuple[Question, ...]
    model: str | None = None
    instructions: str = ""
    rotations: int = 1
    """Orders in which the options of a choice are shown; the probabilities are averaged."""
    reading: Reading = "labels"
    """What is read of a choice: the label of an option, or its own text."""
    temperature: float = 1.0
    cache_salt: str | None = None

    def num_orders(self, question: Question) -> int:
        """How often a question is asked."""
        return min(self.rotations, len(question.options)) if question.kind == "choice" else 1


@dataclass(slots=True, kw_only=True)
class Answer:
    """What was read of one question."""

    question: Question
    probabilities: list[float]
    """By option; their sum is 1."""
    label_mass: float
    """Probability of the closed set among all texts that the model could have answered with."""
    argmax_is_label: bool
    """The model's own first choice is in the set, in every order."""
    temperature: float
    num_reads: int

    @property
    def top(self) -> int:
        """The most probable option."""
        return max(range(len(self.probabilities)), key=self.probabilities.__getitem__)


@dataclass(slots=True, kw_only=True)
class Spent:
    """Tokens of all reads together."""

    num_prompt: int = 0
    num_cached: int = 0
    num_reads: int = 0
    answers: list[Answer] = field(default_factory=list)
