"""What editors' messages say, and what a model is asked: orders of tags, nesting, fences."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("vllm", reason="errors are vLLM's")

from vllm.exceptions import VLLMValidationError

from vllm_diffusion.server import edit_prompt
from vllm_diffusion.server.edit_tags import APPLY, CURSOR, EDIT, content_of, passages_of

DOCUMENTED = f"""<|recently_viewed_code_snippets|>
<|recently_viewed_code_snippet|>
code_snippet_file_path: utils.py
a = 1
<|/recently_viewed_code_snippet|>
<|/recently_viewed_code_snippets|>

<|current_file_content|>
current_file_path: main.py
above
<|code_to_edit|>
x = 1
y{CURSOR} = 2
<|/code_to_edit|>
below
<|/current_file_content|>

<|edit_diff_history|>
-x = 0
+x = 1
<|/edit_diff_history|>
"""
OTHERWISE = """<|edit_diff_history|>
-x = 0
+x = 1
<|/edit_diff_history|>
<|current_file_content|>
above
<|/current_file_content|>
<|code_to_edit|>
x = 1
y = 2
<|/code_to_edit|><|!@#IS_NEXT_EDIT!@#|>"""
WORDED = "Replace x with z.\n<|code_to_edit|>\nx = 1\n<|/code_to_edit|>"
BUNDLED = edit_prompt.form_of(SimpleNamespace(edit_prompt="{instruction}\n\n{text}"))


def read(message: str) -> tuple[str, str]:
    return edit_prompt.next_edit(passages_of(message, EDIT))


def test_tags_in_the_documented_order_and_in_another() -> None:
    instruction, region = read(DOCUMENTED)
    assert region == "x = 1\ny = 2"
    assert instruction == (
        f"{edit_prompt.NEXT}\n\n"
        "Seen shortly before:\ncode_snippet_file_path: utils.py\na = 1\n\n"
        "The file:\ncurrent_file_path: main.py\nabove\n\nx = 1\ny = 2\n\nbelow\n\n"
        "Changes so far, the latest last:\n-x = 0\n+x = 1"
    )
    instruction, region = read(OTHERWISE)
    assert region == "x = 1\ny = 2"
    assert "The file:\nabove\n\nChanges so far" in instruction


def test_own_words_and_nothing_else_are_the_bundled_models_prompt() -> None:
    assert BUNDLED.message(*read(WORDED)) == "Replace x with z.\n\nx = 1"


def test_texts_with_braces_stay_as_they_are() -> None:
    assert BUNDLED.message("a {text} {b}", "{instruction}") == "a {text} {b}\n\n{instruction}"
    asked = edit_prompt.PLAIN.message("Do {x}.", "{y}")
    assert asked.startswith("Do {x}.\n\n")
    assert asked.endswith("\n\n{y}")


def test_a_change_and_the_file_it_is_for() -> None:
    message = (
        "<|update_snippet|>\n// ... existing code ...\nb\n<|/update_snippet|>\n"
        "<|original_code|>\na\n\n<|/original_code|><|!@#IS_APPLY!@#|>"
    )
    instruction, text = edit_prompt.applied(passages_of(message, APPLY))
    assert text == "a\n"
    assert instruction == f"{edit_prompt.MERGE}\n\n// ... existing code ...\nb"


@pytest.mark.parametrize(
    ("message", "words"),
    [
        ("x = 1", "no text stands between them"),
        ("<|code_to_edit|>\n\n<|/code_to_edit|>", "no text stands between them"),
        ("<|code_to_edit|>\nx", "it is not closed; add <|/code_to_edit|>"),
        ("x<|/code_to_edit|>", "no tag is"),
        ("<|code_to_edit|><|edit_diff_history|><|/code_to_edit|>", "<|edit_diff_history|> is;"),
        ("<|code_to_edit|><|code_to_edit|>", "it is open already"),
        (WORDED + WORDED, "it stands there 2 times"),
    ],
)
def test_messages_that_cannot_be_read(message: str, words: str) -> None:
    with pytest.raises(VLLMValidationError) as caught:
        read(message)
    assert caught.value.parameter == "messages"
    assert words in str(caught.value)


@pytest.mark.parametrize("left", ["original_code", "update_snippet"])
def test_a_change_needs_both(left: str) -> None:
    message = "".join(f"<|{name}|>\nx\n<|/{name}|>" for name in APPLY if name != left)
    with pytest.raises(VLLMValidationError, match=left):
        edit_prompt.applied(passages_of(message, APPLY))


def test_the_one_message() -> None:
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    assert content_of([{"role": "user", "content": parts}]) == "ab"
    user = {"role": "user", "content": "a"}
    for messages in ([], [user, user], [{"role": "system", "content": "a"}, user]):
        with pytest.raises(VLLMValidationError, match="one message of the user's"):
            content_of(messages)
    for content in (None, [{"type": "image_url"}], 5):
        with pytest.raises(VLLMValidationError, match="it must be a text"):
            content_of([{"role": "user", "content": content}])


@pytest.mark.parametrize(
    ("answer", "is_cut", "told"),
    [
        ("x = 2", False, "```\nx = 2\n```"),
        ("x = 1", False, "None"),
        ("x = 2", True, "```\nx = 2"),
        ("x = 1", True, "```\nx = 1"),
        ("", False, "```\n\n```"),
    ],
)
def test_answers_as_clients_read_them(answer: str, is_cut: bool, told: str) -> None:
    assert edit_prompt.told(answer, "x = 1", is_cut=is_cut) == told


@pytest.mark.parametrize(
    ("answer", "plain"),
    [
        ("```python\nx\ny\n```", "x\ny"),
        ("```\nx\n```\n", "x"),
        ("```\nx", "x"),
        ("x\n```\ny\n```", "x\n```\ny\n```"),
        ("```x``` y", "```x``` y"),
    ],
)
def test_a_fence_that_nobody_asked_for(answer: str, plain: str) -> None:
    assert edit_prompt.unfenced(answer) == plain


@pytest.mark.parametrize("template", ["{text} {instruction}", "{text}", "", 5, ["{instruction}"]])
def test_a_checkpoints_form_must_have_both_places_in_order(template: Any) -> None:
    with pytest.raises(ValueError, match="edit_prompt"):
        edit_prompt.form_of(SimpleNamespace(edit_prompt=template))
    assert edit_prompt.form_of(SimpleNamespace()) is edit_prompt.PLAIN
