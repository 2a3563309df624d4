"""From a question with its prompt to reads of single tokens, and from those to its answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from vllm_diffusion.decisions import trie
from vllm_diffusion.decisions.asked import Answer, Decision, Question, Spent
from vllm_diffusion.decisions.calibration import temperature_of
from vllm_diffusion.decisions.formulas import averaged, mass, restricted
from vllm_diffusion.request.field_errors import InvalidFieldError


class Read(NamedTuple):
    """One position behind a prompt."""

    prompt: Sequence[int]
    tokens: Sequence[int]
    """Whose probabilities are asked for."""
    num_slots: int = 1
    """Masks behind the prompt that full attention sees; the first of them is read."""


class Seen(NamedTuple):
    """What came of a read."""

    logs: Mapping[int, float]
    """Log-probabilities over the whole vocabulary, the mask token aside."""
    top: int
    """The most probable token of all."""
    num_cached: int = 0
    top_log: float = 0.0
    """Its log-probability."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asking:
    """A question in one order of its options, ready to be read."""

    question: Question
    order: Sequence[int]
    """Which option stands at which place."""
    prompt: Sequence[int]
    options: Sequence[trie.Tokens]
    """By place."""
    nodes: Sequence[trie.Node]

    @classmethod
    def of(
        cls,
        question: Question,
        order: Sequence[int],
        prompt: Sequence[int],
        labels: Sequence[str],
        options: Sequence[trie.Tokens],
    ) -> Asking:
        """With the trie of its options.

        Raises:
            InvalidFieldError: two of them are the same.
        """
        try:
            nodes = trie.nodes_of(options)
        except ValueError as error:
            one, other = (labels[i] for i in error.args)
            remedy = f"{one!r} and {other!r} are the same tokens, or one begins the other"
            raise InvalidFieldError(question.field, list(labels), remedy) from None
        return cls(question=question, order=order, prompt=prompt, options=options, nodes=nodes)

    @property
    def num_slots(self) -> int:
        """Of every option alike: the number of masks would tell its length."""
        return max(map(len, self.options))

    def reads(self) -> list[Read]:
        """One for each node."""
        return [
            Read([*self.prompt, *node.shown], node.nexts, self.num_slots - len(node.shown))
            for node in self.nodes
        ]


class _Row(NamedTuple):
    """One order of a question, by option."""

    logs: list[float]
    is_label: bool
    num_reads: int


def spent_on(
    decision: Decision,
    askings: Sequence[Asking],
    seen: Sequence[Seen],
    temperatures: Mapping[str, float],
) -> Spent:
    """All answers, and what they took.

    Args:
        decision: with what was asked for.
        askings: all orders of all questions, those of one question together.
        seen: of all their reads, in order.
        temperatures: the server's, see ``calibration``.
    """
    left = iter(seen)
    rows: dict[str, list[_Row]] = {}
    for asking in askings:
        row = _row(asking, [next(left) for _ in asking.nodes])
        rows.setdefault(asking.question.field, []).append(row)
    questions = {asking.question.field: asking.question for asking in askings}
    return Spent(
        num_prompt=sum(len(read.prompt) for asking in askings for read in asking.reads()),
        num_cached=sum(each.num_cached for each in seen),
        num_reads=len(seen),
        answers=[
            _answer(question, rows[field], decision.temperature, temperatures)
            for field, question in questions.items()
        ],
    )


def _answer(
    question: Question, rows: Sequence[_Row], asked: float, temperatures: Mapping[str, float]
) -> Answer:
    temperature = temperature_of(temperatures, question) * asked
    return Answer(
        question=question,
        probabilities=averaged([restricted(row.logs, temperature) for row in rows]),
        label_mass=sum(mass(row.logs) for row in rows) / len(rows),
        argmax_is_label=all(row.is_label for row in rows),
        temperature=temperature,
        num_reads=sum(row.num_reads for row in rows),
    )


def _row(asking: Asking, seen: Sequence[Seen]) -> _Row:
    scores: dict[trie.Tokens, dict[int, float]] = {}
    firsts: dict[trie.Tokens, int] = {}
    for node, each in zip(asking.nodes, seen, strict=True):
        scores.setdefault(node.shown, {}).update(each.logs)
        firsts[node.shown] = each.top
    by_place = trie.log_probabilities(asking.options, scores)
    logs = [0.0] * len(by_place)
    for place, option in enumerate(asking.order):
        logs[option] = by_place[place]
    is_label = trie.argmax_is_option(asking.options, firsts)
    return _Row(logs, is_label, len(asking.nodes))
