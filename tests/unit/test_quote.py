"""What a message repeats of a value: enough to know it by, and never more than 200 characters."""

from __future__ import annotations

from typing import Any

import pytest

from vllm_diffusion.request.quote import LONGEST, LONGEST_MESSAGE, close_to, quoted, shortened

MORE = LONGEST + len("...")


@pytest.mark.parametrize("value", [None, True, 5, 0.5, "a", "it's", [1, "a"], (1,), {"a": [None]}])
def test_a_short_value_is_itself(value: Any) -> None:
    assert quoted(value) == repr(value).replace("(1,)", "(1)")


@pytest.mark.parametrize(
    "value",
    ["x" * 10**6, ["x" * 500], [1] * 10**6, {"a": "b" * 999}, {"x" * 999: 1}, 10**3000, 10**9000],
    ids=lambda value: type(value).__name__,
)
def test_a_long_value_is_cut(value: Any) -> None:
    assert len(quoted(value)) <= MORE


@pytest.mark.parametrize(
    ("message", "long"),
    [
        ("it is {} and no more", "x" * 999),
        *(
            (message, long)
            for message in (
                "it is '{}', which is wrong",
                "out of range: [{}]",
                "no such thing (parameter=a, value={})",
            )
            for long in ("x" * 999, "x y " * 300)
        ),
    ],
)
def test_a_message_of_anothers_is_cut_where_it_repeats_a_value(message: str, long: str) -> None:
    made = shortened(message.format(long))
    assert len(made) <= len(message) + MORE
    assert made.startswith(message.split("{}")[0])


def test_long_words_of_its_own_stay() -> None:
    message = "This model's names aren't short: " + ", ".join(f"name_{i}" for i in range(60))
    assert shortened(message) == message
    assert len(shortened("word " * 10**5)) <= LONGEST_MESSAGE + 3


def test_a_name_that_was_meant() -> None:
    assert close_to("chioce", ["regex", "choice"]) == "choice"
    assert close_to("colour", ["regex", "choice"]) is None
    assert close_to("choice" * 10**5, ["choice"]) is None
