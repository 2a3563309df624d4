"""The bundled model as ``make serve`` serves it: right answers, texts and stops, a clean end.

Needs the trained weights in ``examples/models``.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from pydantic import BaseModel

from benchmarks.tiny.prompts import check, load_prompts
from tests.server.client import Client, diffusion_of, together
from tests.server.conftest import healthy
from tests.server.counters import eventually
from tests.server.field_probes import ALWAYS, CASES, LETTER, PLAIN
from tests.server.probes import Probe, parse
from tests.server.process import ServerProcess

PER_TASK = 3
LEAST_RIGHT = 0.9
"""Share of exact answers; the evaluation of the weights found more."""


@pytest.fixture(scope="module")
def bundled(
    tiny_diffusion: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ServerProcess]:
    log = tmp_path_factory.mktemp("bundled") / "log"
    process = ServerProcess(
        tiny_diffusion,
        log,
        *("--kv-cache-memory-bytes", str(256 << 20)),
        *("--enable-auto-tool-choice", "--tool-call-parser", "hermes"),
        # Without time to finish requests, vLLM may wait for their connections for ever.
        *("--shutdown-timeout", "20"),
        is_forked=False,
    )
    try:
        process.wait_until_healthy()
        yield process
    finally:
        process.stop()


@pytest.fixture
def client(bundled: ServerProcess) -> Iterator[Client]:
    yield from healthy(bundled)


@pytest.fixture
def whole(client: Client) -> str:
    """An answer of several blocks."""
    text: str = client.chat(LETTER, max_tokens=100).choices[0].message.content
    assert len(text) > 100
    return text


def test_exact_answers(client: Client) -> None:
    samples = load_prompts("test", per_task=PER_TASK)

    def ask(sample: Any) -> dict[str, Any]:
        response: dict[str, Any] = client.openai.chat.completions.create(
            model=client.model,
            messages=sample.prompt_messages,
            max_tokens=160,
            temperature=0,
            extra_body={"tools": sample.tools, "tool_choice": "none"} if sample.tools else {},
        ).to_dict()
        return response

    responses = together([lambda s=sample: ask(s) for sample in samples])
    wrong: Counter[str] = Counter()
    for sample, response in zip(samples, responses, strict=True):
        (choice,) = response["choices"]
        is_right = check(sample, choice["message"]["content"] or "")
        wrong[sample.task] += not is_right
        assert not is_right or choice["finish_reason"] == "stop"
    num_right = len(samples) - wrong.total()
    assert num_right / len(samples) >= LEAST_RIGHT, +wrong

    costs = [diffusion_of(response) for response in responses]
    num_tokens = sum(cost["num_tokens"] for cost in costs)
    num_forwards = sum(cost["num_forwards"] for cost in costs)
    assert num_tokens > 3 * num_forwards, "decoding in parallel is what the model is for"


def test_the_text_comes_block_by_block(client: Client, whole: str) -> None:
    chunks = list(client.chat(LETTER, stream=True, max_tokens=100))
    deltas = [chunk.choices[0].delta for chunk in chunks]
    assert deltas[0].role == "assistant"
    assert "".join(delta.content or "" for delta in deltas) == whole
    assert chunks[-1].choices[0].finish_reason == "stop"


@pytest.mark.parametrize("share", [0.0, 0.1, 0.3, 0.5, 0.8])
@pytest.mark.parametrize("is_included", [False, True])
@pytest.mark.parametrize("stream", [False, True])
def test_stop_strings(
    client: Client, whole: str, share: float, is_included: bool, stream: bool
) -> None:
    """Anywhere in a block; across tokens and blocks; what the block holds behind is dropped."""
    place = int(share * len(whole))
    stop = whole[place : place + 7]
    start = whole.index(stop)
    expected = whole[: start + (len(stop) if is_included else 0)]
    answer = client.chat(
        LETTER,
        stream=stream,
        max_tokens=100,
        stop=[stop, "never there"],
        include_stop_str_in_output=is_included,
    )
    if stream:
        chunks = [chunk.to_dict()["choices"][0] for chunk in answer]
        text = "".join(chunk["delta"].get("content") or "" for chunk in chunks)
        last = chunks[-1]
    else:
        last = answer.to_dict()["choices"][0]
        text = last["message"]["content"]
    assert (text or "") == expected
    assert (last["finish_reason"], last["stop_reason"]) == ("stop", stop)


def test_a_stop_string_shortens_the_account(client: Client, whole: str) -> None:
    usage = client.chat(LETTER, max_tokens=100).usage
    stopped = client.chat(LETTER, max_tokens=100, stop=[whole[20:27]])
    assert stopped.usage.completion_tokens < usage.completion_tokens
    assert diffusion_of(stopped.to_dict())["num_denoising_steps"] > 0


def test_echo(client: Client) -> None:
    prompt = "Dear omar,\n\nthank you"
    plain = client.complete(prompt, max_tokens=20)
    # vLLM leaves the prompt's text out where token ids are asked for.
    echoed = client.completion(prompt, max_tokens=20, echo=True, return_token_ids=False)
    assert plain.text
    assert echoed.choices[0].text == prompt + plain.text


def test_the_chat_example(client: Client, whole: str) -> None:
    example = Path(__file__).resolve().parents[2] / "examples" / "chat_client.py"
    command = [sys.executable, str(example), "--url", f"{client.url}/v1", LETTER]
    run = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert run.returncode == 0, run.stderr
    assert whole in run.stdout
    assert re.search(r"\[\d+ tokens in \d+ forwards: [\d.]+ a forward\]", run.stdout)


class Person(BaseModel):
    pet: str
    day: str
    name: str


def test_an_object_of_a_class(client: Client) -> None:
    """The OpenAI client's helper: a class goes in, an object comes out."""
    text = "Text: pet is bear, name is eva, city is tokyo, color is red, day is friday."
    answer = client.openai.chat.completions.parse(
        model=client.model,
        messages=[
            {"role": "user", "content": f"{text}\nReturn JSON with the fields pet, day, name."}
        ],
        response_format=Person,
    )
    assert answer.choices[0].message.parsed == Person(pet="bear", day="friday", name="eva")


@pytest.mark.parametrize("is_stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("choice", ["auto", "required", "named"])
def test_tool_calls(client: Client, choice: str, is_stream: bool) -> None:
    """A strict function's arguments fit its schema."""
    sample = next(s for s in load_prompts("validation", 3) if s.task == "tool")
    tools = deepcopy(sample.tools or [])
    for tool in tools:
        tool["function"] |= {"strict": True}
    functions = [tool["function"] for tool in tools]
    wanted = next(function for function in functions if function["name"] in sample.answer)
    named = {"type": "function", "function": {"name": wanted["name"]}}
    answer = client.openai.chat.completions.create(
        model=client.model,
        messages=sample.prompt_messages,
        tools=tools,
        tool_choice=named if choice == "named" else choice,
        max_tokens=200,
        stream=is_stream,
    )
    calls = streamed_calls(answer) if is_stream else whole_calls(answer)
    assert calls
    schemas = {tool["function"]["name"]: tool["function"]["parameters"] for tool in tools}
    for name, arguments in calls:
        jsonschema.validate(json.loads(arguments), schemas[name])
    if choice == "named":
        assert [name for name, _ in calls] == [wanted["name"]]
    else:
        assert all(name in sample.answer for name, _ in calls)


def test_levels_of_effort(client: Client) -> None:
    """More of it takes more forwards; a chat's ``reasoning_effort`` stands for a level of it."""
    prompts = [s.prompt_messages[-1]["content"] for s in load_prompts("test", 2) if not s.tools]

    def forwards(**fields: Any) -> list[int]:
        calls = [lambda p=prompt: client.chat(p, max_tokens=100, **fields) for prompt in prompts]
        answers = [answer.to_dict() for answer in together(calls)]
        return [int(diffusion_of(answer)["num_forwards"]) for answer in answers]

    instant, low, medium, high = (
        forwards(diffusion_effort=level) for level in ("instant", "low", "medium", "high")
    )
    assert sum(instant) < sum(low) < sum(medium) < sum(high)
    assert medium == forwards()
    for level, expected in {
        "instant": instant,
        "minimal": low,
        "none": medium,
        "max": high,
    }.items():
        assert forwards(reasoning_effort=level) == expected
    assert forwards(reasoning_effort="instant", diffusion_effort="high") == high


def test_instant_with_the_client(client: Client) -> None:
    answer = client.openai.chat.completions.create(
        model=client.model,
        messages=[{"role": "user", "content": LETTER}],
        reasoning_effort="instant",  # type: ignore[arg-type]
        max_completion_tokens=100,
        temperature=0,
    )
    assert answer.usage is not None
    assert 20 < answer.usage.completion_tokens <= 100


def test_a_tool_loop(client: Client) -> None:
    """Two calls, their results, and an answer to them."""
    sample = next(
        s
        for s in load_prompts("validation", 20)
        if s.task == "tool" and s.answer.count("<tool_") == 2
    )
    messages: list[Any] = list(sample.prompt_messages)
    first = client.openai.chat.completions.create(
        model=client.model, messages=messages, tools=sample.tools
    )
    message = first.choices[0].message
    assert first.choices[0].finish_reason == "tool_calls"
    assert len(message.tool_calls or []) == 2
    messages.append(message.model_dump(exclude_none=True))
    messages += [
        {"role": "tool", "tool_call_id": call.id, "content": "done"} for call in message.tool_calls
    ]
    second = client.openai.chat.completions.create(
        model=client.model, messages=messages, tools=sample.tools, max_tokens=40
    )
    assert second.choices[0].finish_reason in ("stop", "length", "tool_calls")


def whole_calls(answer: Any) -> list[tuple[str, str]]:
    calls = answer.choices[0].message.tool_calls or []
    return [(call.function.name, call.function.arguments) for call in calls]


def streamed_calls(stream: Any) -> list[tuple[str, str]]:
    """Assembled from chunks, each of which must be as clients that check them want it.

    A call's first delta has its id, type and name, later ones its index and arguments alone; the
    reason to finish comes once, in the last chunk with a choice, when every call is complete.
    """
    calls: list[list[str]] = []
    finished: list[str] = []
    for chunk in (each.to_dict() for each in stream):
        assert chunk["object"] == "chat.completion.chunk"
        (choice,) = chunk["choices"]
        assert not finished, "a chunk behind the last"
        finished += [choice["finish_reason"]] if choice.get("finish_reason") else []
        assert choice["delta"].keys() <= {"role", "content", "tool_calls"}
        for delta in choice["delta"].get("tool_calls") or ():
            function = delta["function"]
            if delta["index"] == len(calls):
                assert delta.keys() == {"index", "id", "type", "function"}
                assert (bool(delta["id"]), delta["type"]) == (True, "function")
                calls.append([function.pop("name"), ""])
            else:
                assert delta.keys() == {"index", "function"}
                assert delta["index"] < len(calls)
            assert function.keys() <= {"arguments"}
            calls[delta["index"]][1] += function.get("arguments", "")
    assert len(finished) == 1
    return [(name, arguments) for name, arguments in calls]


PATHS = {"chat": "/v1/chat/completions", "completion": "/v1/completions"}
IDS = [f"{route}-{field}" for route, field, _ in CASES]


@pytest.fixture(scope="module")
def probed(bundled: ServerProcess) -> list[tuple[int, dict[str, Any], dict[str, Any]]]:
    """Of each probe, its status and response, and the plain response of its route."""
    client = Client(bundled.url, bundled.model)

    def sent(route: str, fields: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        body = {"model": client.model} | ALWAYS | PLAIN[route] | fields
        status, text = client.post_for_text(PATHS[route], body)
        return status, parse(text)

    plain = {route: sent(route, {})[1] for route in PATHS}

    def answer(case: tuple[str, str, Probe]) -> tuple[int, dict[str, Any], dict[str, Any]]:
        route, _, probe = case
        fields = probe.fields(plain[route]) if callable(probe.fields) else probe.fields
        return *sent(route, fields), plain[route]

    with ThreadPoolExecutor(8) as pool:
        return list(pool.map(answer, CASES))


@pytest.mark.parametrize("number", range(len(CASES)), ids=IDS)
def test_every_field(probed: list[Any], number: int) -> None:
    """Refused by name, or answered, with what can be seen of the field in the answer."""
    _, field, probe = CASES[number]
    status, response, plain = probed[number]
    if probe.outcome == "served" or (probe.outcome == "either" and status == 200):
        assert status == 200, response
        assert probe.effect is None or probe.effect(response, plain), response
        return
    assert status == probe.status, response
    error = response["error"]
    assert field in (error["param"] or "") or field in error["message"], error
    assert probe.words in error["message"]


def test_the_server_is_well_after_all_of_them(probed: Any, client: Client, whole: str) -> None:
    assert client.chat(LETTER, max_tokens=100).choices[0].message.content == whole


def test_sigterm_is_a_clean_end(bundled: ServerProcess) -> None:
    """With a stream under way, which is finished first. The last test of this server."""
    client = Client(bundled.url, bundled.model)
    stream = client.completion(LETTER, stream=True, max_tokens=300, ignore_eos=True)
    first = next(stream)
    with ThreadPoolExecutor(1) as pool:
        status = pool.submit(bundled.terminate)
        chunks = [first, *stream]
    assert sum(len(chunk.to_dict()["choices"][0]["token_ids"]) for chunk in chunks) == 300
    assert status.result() == 0, bundled.log_tail()
    assert eventually(lambda: not bundled.group_is_alive), "a process of the server is left"
    # vLLM's front end notes that the engine has gone; nothing behind it may have failed.
    behind = [line for line in bundled.log_tail(10_000).splitlines() if "(APIServer" not in line]
    assert not [line for line in behind if "ERROR" in line]
