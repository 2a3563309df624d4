"""Decisions without an engine: shapes, formulas, tries and what a body may ask for."""

from __future__ import annotations

import math
import random
from itertools import product
from typing import Any

import pytest

from vllm_diffusion.decisions import formulas, prompts, shapes, trie
from vllm_diffusion.decisions.asked import Answer, Decision, Question, Spent
from vllm_diffusion.decisions.calibration import temperature_of, temperatures_of
from vllm_diffusion.decisions.reading import Asking, Seen, spent_on
from vllm_diffusion.request.field_errors import InvalidFieldError

SYSTEM_ONE: dict[str, Any] = {
    "model": "m",
    "state": {"pet": "cat"},
    "questions": {
        "tame": {"type": "noul", "instructions": "Is it tame?", "criteria": {"true": "it sits"}},
        "kind": {"type": "choice", "criteria": {"cat": "meows", "dog": None, "cow": None}},
        "size": {"type": "score", "criteria": ["small", {"kg": 5}, "big"]},
    },
}
OPENAI: dict[str, Any] = {
    "model": "m",
    "input": [
        {"role": "user", "content": "one"},
        {"role": "user", "content": [{"type": "input_text", "text": "two"}]},
    ],
    "questions": [
        {"type": "predicate", "instructions": "Is it tame?", "name": "tame"},
        {
            "type": "choice",
            "instructions": "Which?",
            "choices": [{"value": "true"}, {"value": True, "description": "yes"}],
        },
        {
            "type": "score",
            "instructions": "How big?",
            "levels": [{"label": "small"}, {"label": "big"}],
        },
    ],
}
SGLANG: dict[str, Any] = {
    "model": "m",
    "input": "a cat",
    "temperature": 2,
    "questions": [
        {"type": "yes_no", "id": "tame", "question": "Is it tame?", "yes": "it sits"},
        {
            "type": "choice",
            "id": "kind",
            "question": "?",
            "options": [{"name": "a"}, {"name": "b"}],
        },
        {"type": "score", "id": "size", "question": "?", "levels": ["small", "big"]},
    ],
}


def spent_for(decision: Decision, *shares: list[float]) -> Spent:
    answers = [
        Answer(
            question=question,
            probabilities=each,
            label_mass=0.5,
            argmax_is_label=True,
            temperature=1.0,
            num_reads=1,
        )
        for question, each in zip(decision.questions, shares, strict=True)
    ]
    return Spent(num_prompt=30, num_cached=10, num_reads=3, answers=answers)


def test_system_one_is_answered_by_id() -> None:
    decision = shapes.read(SYSTEM_ONE)
    assert decision.state == '{"pet":"cat"}'
    said = shapes.answer(
        decision, spent_for(decision, [0.9, 0.1], [0.2, 0.7, 0.1], [0, 0.5, 0.5]), "n", "m"
    )
    assert said["answers"]["tame"] == {"type": "noul", "noul": 0.9}
    assert said["answers"]["kind"] == {
        "type": "choice",
        "choice": "dog",
        "confidence": pytest.approx((3 * 0.7 - 1) / 2),
        "probabilities": {"cat": 0.2, "dog": 0.7, "cow": 0.1},
    }
    size = said["answers"]["size"]
    assert size["score"] == 1.5
    assert size["legend"] == {"0": "small", "1": {"kg": 5}, "2": "big"}
    assert size["probabilities"] == {"0": 0, "1": 0.5, "2": 0.5}
    assert said["diagnostics"]["kind"]["label_mass"] == 0.5
    assert (said["usage"]["input_tokens"], said["usage"]["output_tokens"]) == (30, 3)


def test_openai_is_answered_in_order() -> None:
    decision = shapes.read(OPENAI)
    assert decision.state == "one\n\ntwo"
    said = shapes.answer(
        decision, spent_for(decision, [0.9, 0.1], [0.3, 0.7], [0.5, 0.5]), "n", "m"
    )
    predicate, choice, score = said["answers"]
    assert predicate == {"type": "predicate", "name": "tame", "probability": 0.9}
    assert choice["choice"] is True
    assert choice["probabilities"][0] == {"value": "true", "probability": 0.3}
    assert score["probabilities"][1] == {"value": 1, "label": "big", "probability": 0.5}
    assert said["usage"]["input_tokens_details"]["cached_tokens"] == 10


def test_sglang_is_answered_by_id() -> None:
    decision = shapes.read(SGLANG)
    assert decision.temperature == 2
    said = shapes.answer(
        decision, spent_for(decision, [0.9, 0.1], [0.3, 0.7], [0.5, 0.5]), "n", "m"
    )
    assert said["object"] == "decisions"
    assert said["answers"]["tame"]["probabilities"] == {"yes": 0.9, "no": 0.1}
    assert said["answers"]["kind"]["choice"] == "b"
    assert said["answers"]["size"]["score"] == 0.5
    assert said["usage"]["prompt_tokens"] == 30


def changed(body: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return body | fields


def one(**question: Any) -> dict[str, Any]:
    return {"state": "s", "questions": {"q": question}}


def listed(**question: Any) -> dict[str, Any]:
    return {"input": "s", "questions": [question]}


LABELS = {f"o{i}": None for i in range(300)}
REFUSED: dict[str, tuple[Any, str]] = {
    "no questions": (changed(SYSTEM_ONE, questions={}), "questions"),
    "an empty list": (changed(OPENAI, questions=[]), "questions"),
    "questions of no shape": ({"state": "s"}, "questions"),
    "no state": ({"questions": SYSTEM_ONE["questions"]}, "state"),
    "a blank state": (changed(SYSTEM_ONE, state=" "), "state"),
    "a number": (changed(SYSTEM_ONE, state=3), "state"),
    "an unknown key": (changed(SYSTEM_ONE, temprature=1), "temprature"),
    "a stream": (changed(SYSTEM_ONE, stream=True), "stream"),
    "tools": (changed(OPENAI, tools=[{}]), "tools"),
    "images": (changed(SYSTEM_ONE, images=["x"]), "images"),
    "an image in the state": (
        changed(SYSTEM_ONE, state={"a": ["data:image/png;base64,A"]}),
        "state",
    ),
    "an image in instructions": (
        one(type="noul", instructions=[{"type": "image_url", "image_url": {}}]),
        "questions.q.instructions",
    ),
    "no type": (one(), "questions.q.type"),
    "an unknown type": (one(type="bool"), "questions.q.type"),
    "an unknown key of a question": (one(type="noul", level=1), "questions.q.level"),
    "no criteria": (one(type="choice"), "questions.q.criteria"),
    "no options": (one(type="choice", criteria={}), "questions.q.criteria"),
    "300 options": (one(type="choice", criteria=LABELS), "questions.q.criteria"),
    "options in a list": (one(type="choice", criteria=["a"]), "questions.q.criteria"),
    "no levels": (one(type="score", criteria=[]), "questions.q.criteria"),
    "11 levels": (one(type="score", criteria=["x"] * 11), "questions.q.criteria"),
    "other sides": (one(type="noul", criteria={"yes": "a"}), "questions.q.criteria.yes"),
    "rotations of no choice": (one(type="noul") | {"rotations": 2}, "rotations"),
    "half a rotation": (changed(SYSTEM_ONE, rotations=1.5), "rotations"),
    "too many rotations": (changed(SYSTEM_ONE, rotations=27), "rotations"),
    "a reading": (changed(SYSTEM_ONE, read="letters"), "read"),
    "a reading of no choice": (one(type="noul") | {"read": "options"}, "read"),
    "a long salt": (changed(SYSTEM_ONE, cache_salt="x" * 1025), "cache_salt"),
    "a temperature of another shape": (changed(SYSTEM_ONE, temperature=1.5), "temperature"),
    "a temperature of 0": (changed(SGLANG, temperature=0), "temperature"),
    "a version": (changed(SGLANG, prompt_format_version=2), "prompt_format_version"),
    "two of an id": (changed(SGLANG, questions=[SGLANG["questions"][0]] * 2), "questions[1].id"),
    "one option": (
        listed(type="choice", instructions="?", choices=[{"value": "a"}]),
        "questions[0].choices",
    ),
    "two of a value": (
        listed(type="choice", instructions="?", choices=[{"value": "a"}] * 2),
        "questions[0].choices",
    ),
    "two of a name": (
        listed(type="choice", id="a", options=[{"name": "a"}] * 2),
        "questions[0].options[1].name",
    ),
    "no instructions": (listed(type="predicate"), "questions[0].instructions"),
    "a question that is none": ({"input": "s", "questions": [3]}, "questions[0]"),
    "an assistant": (
        changed(OPENAI, input=[{"role": "assistant", "content": "x"}]),
        "input[0].role",
    ),
    "a part that is an image": (
        changed(OPENAI, input=[{"role": "user", "content": [{"type": "input_image"}]}]),
        "input[0].content[0].type",
    ),
    "much text": (
        {"state": "s" * 200_000, "questions": {str(i): {"type": "noul"} for i in range(400)}},
        "state",
    ),
    "many prompts": (
        {
            "state": "s",
            "rotations": 26,
            "questions": {
                str(i): {"type": "choice", "criteria": dict.fromkeys("abcdefghijklmnopqrstuvwxyz")}
                for i in range(100)
            },
        },
        "rotations",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused_is_named(name: str) -> None:
    body, field = REFUSED[name]
    with pytest.raises(InvalidFieldError) as caught:
        shapes.read(body)
    assert caught.value.field == field


@pytest.mark.parametrize("body", [SYSTEM_ONE, OPENAI, SGLANG])
def test_what_asks_for_nothing_is_taken(body: dict[str, Any]) -> None:
    assert shapes.read(changed(body, stream=False, images=[], tools=None)) == shapes.read(body)


def test_options_turn_once_round() -> None:
    decision = shapes.read(changed(SYSTEM_ONE, rotations=3))
    tame, kind, _ = decision.questions
    assert decision.num_orders(tame) == 1
    orders = [prompts.rotated(kind.options, i, 3) for i in range(decision.num_orders(kind))]
    assert orders == [[0, 1, 2], [1, 2, 0], [2, 0, 1]]
    text = prompts.content(decision, kind, orders[1])
    assert text.startswith(decision.state)
    assert "A: dog\nB: cow\nC: cat - meows\n" in text


def test_labels_are_distinct() -> None:
    for num in (1, 2, 26, 27, 255):
        body = one(type="choice", criteria={f"o{i}": None for i in range(num)})
        labels = prompts.labels_of(shapes.read(body).questions[0])
        assert len(set(labels)) == num
        assert (labels[0] == "A") == (num <= 26)


def distribution(seed: int, depth: int) -> dict[trie.Tokens, dict[int, float]]:
    """A language over three tokens: log-probabilities of the next one behind each text."""
    draw = random.Random(seed)
    logs = {}
    for length in range(depth):
        for shown in product(range(3), repeat=length):
            weights = [draw.random() + 0.01 for _ in range(3)]
            logs[shown] = {t: math.log(w / sum(weights)) for t, w in enumerate(weights)}
    return logs


@pytest.mark.parametrize("seed", range(5))
def test_a_trie_gives_each_text_its_own_probability(seed: int) -> None:
    """All texts of a length are everything, and a set of some has the sum of theirs."""
    logs = distribution(seed, 4)
    texts = list(product(range(3), repeat=4))
    found = trie.log_probabilities(texts, logs)
    assert math.fsum(map(math.exp, found)) == pytest.approx(1)
    assert {node.shown for node in trie.nodes_of(texts)} == logs.keys()
    some = random.Random(seed).sample(texts, 9)
    nodes = trie.nodes_of(some)
    assert nodes[0].shown == ()
    assert len({node.shown for node in nodes}) == len(nodes) <= sum(map(len, some))
    assert trie.log_probabilities(some, logs) == [found[texts.index(text)] for text in some]


def test_a_product_of_marginals_is_another_number() -> None:
    """Two tokens that always agree: 0.6 and 0.4, of which marginals make 0.69 and 0.31."""
    logs = {
        (): {0: math.log(0.6), 1: math.log(0.4)},
        (0,): {0: 0.0, 1: -50.0},
        (1,): {0: -50.0, 1: 0.0},
    }
    options = [(0, 0), (1, 1)]
    shares = formulas.restricted(trie.log_probabilities(options, logs))
    assert shares == pytest.approx([0.6, 0.4])
    marginals = [0.6 * 0.6, 0.4 * 0.4]
    assert marginals[0] / sum(marginals) == pytest.approx(0.692, abs=1e-3)


def test_ends_keep_options_apart() -> None:
    assert trie.with_end([[1], [2]], 9) == [(1,), (2,)]
    options = trie.with_end([[1], [1, 2]], 9)
    assert options == [(1, 9), (1, 2, 9)]
    assert [node.nexts for node in trie.nodes_of(options)] == [(1,), (9, 2), (9,)]
    for same in ([(1,), (1,)], [(1,), (1, 2)], [(1, 2), (1,)]):
        with pytest.raises(ValueError, match=r"0, 1|1, 0"):
            trie.nodes_of(same)


def test_many_tokens_are_several_reads() -> None:
    nodes = trie.nodes_of([(token,) for token in range(300)])
    assert [len(node.nexts) for node in nodes] == [128, 128, 44]


def test_the_models_own_way() -> None:
    options = [(1, 2), (1, 3)]
    assert trie.argmax_is_option(options, {(): 1, (1,): 3})
    assert not trie.argmax_is_option(options, {(): 1, (1,): 4})
    assert not trie.argmax_is_option(options, {(): 4, (1,): 3})


def test_confidence_is_system_ones() -> None:
    assert formulas.choice_confidence([0.25] * 4) == 0
    assert formulas.choice_confidence([0, 1, 0]) == 1
    assert formulas.choice_confidence([1.0]) == formulas.score_confidence([1.0]) == 1
    assert formulas.choice_confidence([0.7, 0.2, 0.1]) == pytest.approx(0.55)
    assert formulas.score_confidence([1 / 3] * 3) == pytest.approx(0)
    assert formulas.score_confidence([0, 0, 1.0]) == 1
    # The top is 1; a distance of 0.4 on average, where equal shares have 2 / 3.
    assert formulas.score_confidence([0.3, 0.6, 0.1]) == pytest.approx(1 - 0.4 * 3 / 2)
    assert formulas.score_confidence([0.5, 0, 0, 0.5]) == pytest.approx(1 - 1.5 * 4 / 6)
    assert formulas.expected([0.3, 0.6, 0.1]) == pytest.approx(0.8)


def test_temperatures_are_of_the_set_alone() -> None:
    logs = [math.log(0.02), math.log(0.01)]
    assert formulas.restricted(logs) == pytest.approx([2 / 3, 1 / 3])
    assert formulas.restricted(logs, 0.5) == pytest.approx([0.8, 0.2])
    assert formulas.mass(logs) == pytest.approx(0.03)
    with pytest.raises(ValueError, match="no option of the set"):
        formulas.restricted([-math.inf, -math.inf])


def test_calibration_is_of_a_kind_and_a_size() -> None:
    kind = shapes.read(SYSTEM_ONE).questions[1]
    given = {"decisions": {"temperatures": {"choice": 2, "choice:3": 3, "noul": 0.5}}}
    found = temperatures_of(given)
    assert temperature_of(found, kind) == 3
    assert temperature_of({"choice": 2.0}, kind) == 2
    assert temperature_of({}, kind) == 1
    assert temperatures_of({"diffusion": {}}) == temperatures_of(None) == {}


@pytest.mark.parametrize(
    "given",
    [
        3,
        {"temps": {}},
        {"temperatures": 3},
        {"temperatures": {"x": 1}},
        {"temperatures": {"choice": 0}},
        {"temperatures": {"choice:0": 1}},
    ],
)
def test_calibration_is_checked(given: Any) -> None:
    with pytest.raises(InvalidFieldError):
        temperatures_of({"decisions": given})


def test_rotations_are_averaged_by_option() -> None:
    decision = shapes.read(changed(SYSTEM_ONE, rotations=2))
    kind = decision.questions[1]
    askings, seen = [], []
    for number, logs in enumerate(([0.5, 0.3, 0.2], [0.6, 0.2, 0.2])):
        order = prompts.rotated(kind.options, number, 2)
        asking = Asking.of(kind, order, [7, 7], ["A", "B", "C"], [(1,), (2,), (3,)])
        askings.append(asking)
        seen.append(
            Seen({t: math.log(0.5 * p) for t, p in zip((1, 2, 3), logs, strict=True)}, 1, 2)
        )
    spent = spent_on(decision, askings, seen, {})
    (answer,) = spent.answers
    # The second order shows dog, cow, cat.
    assert prompts.rotated(kind.options, 1, 2) == [1, 2, 0]
    assert answer.probabilities == pytest.approx(
        [(0.5 + 0.2) / 2, (0.3 + 0.6) / 2, (0.2 + 0.2) / 2]
    )
    assert answer.label_mass == pytest.approx(0.5)
    assert (answer.argmax_is_label, answer.num_reads) == (True, 2)
    assert (spent.num_prompt, spent.num_cached) == (4, 4)


def test_slots_do_not_tell_an_options_length() -> None:
    question: Question = shapes.read(SYSTEM_ONE).questions[1]
    options = trie.with_end([[1], [1, 2, 3], [4]], 9)
    asking = Asking.of(question, [0, 1, 2], [7], ["a", "b", "c"], options)
    assert {len(read.prompt) + read.num_slots for read in asking.reads()} == {1 + 4}
