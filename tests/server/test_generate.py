"""Chat and completions answer, from text and from token ids, one and many at a time."""

from __future__ import annotations

import pytest

from tests.server.client import Client, together
from tests.server.limits import BLOCK_LENGTH, MASK_ID, MAX_MODEL_LEN, VOCAB_SIZE

PROMPT = "The weather is"


def test_models(client: Client) -> None:
    (model,) = client.openai.models.list().data
    assert model.id == client.model
    assert model.to_dict()["max_model_len"] == MAX_MODEL_LEN


def test_completion(client: Client) -> None:
    answer = client.complete(PROMPT, ignore_eos=True)
    assert answer.text
    assert len(answer.token_ids) == answer.usage["completion_tokens"] == 40
    assert answer.finish_reason == "length"


def test_chat(client: Client) -> None:
    answer = client.chat("Hello there!", max_tokens=24, ignore_eos=True)
    (choice,) = answer.choices
    assert choice.message.role == "assistant"
    assert choice.message.content
    assert choice.finish_reason == "length"
    assert answer.usage.completion_tokens == 24


def test_chat_is_its_rendered_prompt(client: Client) -> None:
    """The chat route adds the template and nothing else."""
    status, rendered = client.post(
        "/tokenize",
        {"model": client.model, "messages": [{"role": "user", "content": "Hello there!"}]},
    )
    assert status == 200
    chat = client.chat("Hello there!", max_tokens=24)
    plain = client.complete(rendered["tokens"], max_tokens=24)
    assert chat.usage.prompt_tokens == rendered["count"]
    assert chat.choices[0].message.content == plain.text


def test_several_turns(client: Client) -> None:
    answer = client.chat("Hi!", "Hello, how can I help?", "Count to ten.", max_tokens=8)
    assert answer.usage.completion_tokens > 0


def test_token_ids_and_text_are_one_prompt(client: Client) -> None:
    status, tokens = client.post("/tokenize", {"model": client.model, "prompt": PROMPT})
    assert status == 200
    assert client.complete(tokens["tokens"]).token_ids == client.complete(PROMPT).token_ids


def test_several_prompts_in_one_request(client: Client) -> None:
    prompts = [[5, 6, 7], [9], list(range(10, 10 + 2 * BLOCK_LENGTH))]
    response = client.completion(prompts, max_tokens=20)  # type: ignore[arg-type]
    expected = [client.complete(prompt, max_tokens=20).text for prompt in prompts]
    assert [choice.text for choice in response.choices] == expected


def test_n_answers_differ_and_repeat(client: Client) -> None:
    fields = {"max_tokens": 40, "n": 3, "temperature": 2.0, "seed": 11, "ignore_eos": True}
    first, second = (
        [choice.to_dict()["token_ids"] for choice in client.completion(PROMPT, **fields).choices]
        for _ in range(2)
    )
    assert first == second
    assert len({tuple(token_ids) for token_ids in first}) == 3


def test_n_answers_without_a_temperature_are_refused(client: Client) -> None:
    status, error = client.post(
        "/v1/completions",
        {"model": client.model, "prompt": PROMPT, "n": 2, "temperature": 0},
    )
    assert status == 400
    assert "n must be 1 when using greedy sampling" in error["error"]["message"]


@pytest.mark.parametrize("length", [1, 2, BLOCK_LENGTH - 1, BLOCK_LENGTH, BLOCK_LENGTH + 1])
def test_short_prompts(client: Client, length: int) -> None:
    prompt = [20 + number for number in range(length)]
    answer = client.complete(prompt, max_tokens=33, ignore_eos=True)
    assert answer.usage["prompt_tokens"] == length
    assert len(answer.token_ids) == 33


@pytest.mark.parametrize(
    "prompt",
    [
        "a <|MASK|> b",
        "<|MASK|>",
        "<|MASK|>" * 40,
        [MASK_ID],
        [20, MASK_ID, MASK_ID, 21],
        [MASK_ID] * BLOCK_LENGTH,
        [MASK_ID] * (BLOCK_LENGTH + 1),
    ],
    ids=str,
)
def test_the_mask_token_in_a_prompt_is_a_token(client: Client, prompt: str | list[int]) -> None:
    """It is read like any other, stays where it is and is never an answer."""
    answer = client.complete(prompt, max_tokens=40, ignore_eos=True)
    assert len(answer.token_ids) == 40
    assert MASK_ID not in answer.token_ids
    if isinstance(prompt, list):
        assert answer.usage["prompt_tokens"] == len(prompt)


def test_the_mask_token_is_not_drawn_either(client: Client) -> None:
    answer = client.complete(
        [MASK_ID] * 5, max_tokens=200, temperature=2.0, seed=3, ignore_eos=True
    )
    assert MASK_ID not in answer.token_ids
    assert all(0 <= token_id < VOCAB_SIZE for token_id in answer.token_ids)


def test_sixteen_at_once(client: Client) -> None:
    """Twice as many as the server takes at a time: half of them wait."""
    prompts = [[30 + number] * (1 + 5 * number) for number in range(16)]
    answers = together(
        [lambda p=p: client.complete(p, max_tokens=40, ignore_eos=True) for p in prompts]
    )
    for prompt, answer in zip(prompts, answers, strict=True):
        assert answer.usage["prompt_tokens"] == len(prompt)
        assert len(answer.token_ids) == 40


def test_the_responses_route(client: Client) -> None:
    response = client.openai.responses.create(
        model=client.model, input="Hello there!", max_output_tokens=24, temperature=0
    )
    chat = client.chat("Hello there!", max_tokens=24)
    assert response.output_text == chat.choices[0].message.content


def test_the_messages_route(client: Client) -> None:
    status, message = client.post(
        "/v1/messages",
        {
            "model": client.model,
            "max_tokens": 24,
            "temperature": 0,
            "messages": [{"role": "user", "content": "Hello there!"}],
        },
    )
    assert status == 200
    chat = client.chat("Hello there!", max_tokens=24)
    assert message["content"][0]["text"] == chat.choices[0].message.content


def test_scoring_of_labels(client: Client) -> None:
    status, answer = client.post(
        "/generative_scoring",
        {"model": client.model, "query": "a", "items": ["b"], "label_token_ids": [20, 21]},
    )
    assert status == 200, answer
