"""Every family behind ``vllm serve``: one tiny random checkpoint each, from start to end.

What a text should be is the parity suite's business; here it is that requests
arrive as they were sent, and answers and counters as they were made.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import psutil
import pytest

from tests.checkpoints import diffusion_gemma, tokenizer
from tests.parity.families import FAMILIES, Family
from tests.server.client import Client, diffusion_of
from tests.server.conftest import healthy
from tests.server.counters import Counters, eventually
from tests.server.process import ServerProcess, StartedAhead

ROWS = {family.module.__name__.rpartition(".")[2]: family for family in FAMILIES}
GEMMA = "diffusion_gemma"
SERVERS = (*ROWS, GEMMA)
MAX_MODEL_LEN = 256
SERVER_ARGS = (
    *("--dtype", "float32"),
    "--enforce-eager",
    *("--max-model-len", str(MAX_MODEL_LEN)),
    *("--max-num-seqs", "4"),
    *("--kv-cache-memory-bytes", str(16 << 20)),
    # Without time to finish requests, vLLM kills its processes.
    *("--shutdown-timeout", "20"),
)
TEXT = "Hello there!"
TWENTY = {"max_tokens": 20, "ignore_eos": True}

each_row = pytest.mark.parametrize("served", ROWS, indirect=True)


def served_by(*names: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("served", names, indirect=True)


def start(name: str, folder: Path) -> ServerProcess:
    """``vllm serve`` on a new checkpoint with a tokenizer."""
    args = SERVER_ARGS
    if name == GEMMA:
        diffusion_gemma.write(folder)
        text = diffusion_gemma.TEXT
        tokenizer.write(folder, {}, eos=text["eos_token_id"], size=text["vocab_size"])
    else:
        family = ROWS[name]
        family.module.write(folder, tokenizer=True, **family.checkpoint)
        for flag, value in family.engine_options.items():
            args += ("--" + flag.replace("_", "-"), json.dumps(value))
    return ServerProcess(folder, folder / "log", *args)


@pytest.fixture(scope="module")
def servers(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[StartedAhead]:
    chosen = [item for item in request.session.items if item.path == request.path]
    params = [item.callspec.params for item in chosen if hasattr(item, "callspec")]
    names = dict.fromkeys(each["served"] for each in params if "served" in each)
    ahead = StartedAhead(
        list(names), lambda name: start(name, tmp_path_factory.mktemp(name) / name)
    )
    yield ahead
    ahead.close()


@pytest.fixture(scope="module")
def served(request: pytest.FixtureRequest, servers: StartedAhead) -> Iterator[ServerProcess]:
    """The server of a row; all of a row's tests are together."""
    process = servers.take(request.param)
    yield process
    process.ask_to_end()


@pytest.fixture
def client(served: ServerProcess) -> Iterator[Client]:
    yield from healthy(served)


@pytest.fixture
def family(served: ServerProcess) -> Family:
    return ROWS[served.model]


def chat(client: Client, text: str = TEXT, **fields: Any) -> dict[str, Any]:
    """The response to one message; 20 tokens, greedy."""
    response: dict[str, Any] = client.chat(text, **TWENTY | fields).to_dict()
    return response


def text_of(response: dict[str, Any]) -> str:
    text: str = response["choices"][0]["message"]["content"]
    return text


def streamed(client: Client, **fields: Any) -> tuple[str, dict[str, Any]]:
    """The text of a streamed chat, and its last chunk, which has usage and metrics."""
    options = {"stream_options": {"include_usage": True}}
    stream = client.chat(TEXT, stream=True, **TWENTY | options | fields)
    *chunks, last = [chunk.to_dict() for chunk in stream]
    assert chunks[-1]["choices"][0]["finish_reason"] == "length"
    return "".join(chunk["choices"][0]["delta"].get("content") or "" for chunk in chunks), last


def refusal(client: Client, **fields: Any) -> dict[str, Any]:
    """The error of a chat with these fields, after which the next one is served."""
    expected = text_of(chat(client))
    with pytest.raises(openai.BadRequestError) as caught:
        chat(client, **fields)
    assert text_of(chat(client)) == expected
    error = caught.value.body
    assert isinstance(error, dict)
    return error


@each_row
def test_chat_whole_and_streamed(client: Client, family: Family) -> None:
    whole = chat(client)
    (choice,) = whole["choices"]
    assert choice["message"]["content"]
    assert len(choice["token_ids"]) == whole["usage"]["completion_tokens"] == 20
    assert family.mask_id not in choice["token_ids"]
    text, last = streamed(client)
    assert text == text_of(whole)
    assert last["usage"]["completion_tokens"] == 20
    assert diffusion_of(last) == diffusion_of(whole)


@each_row
def test_completion(client: Client) -> None:
    answer = client.complete(TEXT, **TWENTY)
    assert answer.text
    assert answer.finish_reason == "length"
    assert len(answer.token_ids) == 20


@each_row
def test_the_account_of_a_request(client: Client) -> None:
    account = diffusion_of(chat(client))
    num_forwards, num_steps = account["num_forwards"], account["num_denoising_steps"]
    assert num_forwards == num_steps + account["num_prefill_forwards"] > 0
    assert account["num_tokens"] == 20
    assert account["tokens_per_forward"] == 20 / num_forwards
    blocks = {int(steps): num for steps, num in account["blocks_by_steps"].items()}
    assert sum(steps * num for steps, num in blocks.items()) == num_steps
    assert account["num_approximate_forwards"] == 0
    assert account["warning"] is None


@each_row
def test_counters_are_the_sum_of_the_responses(client: Client) -> None:
    """Of all requests to this server, whoever made them."""
    before = Counters.read(client.url)
    accounts = [diffusion_of(chat(client)) for _ in range(2)]

    def gained(name: str, **labels: str) -> float:
        full_name = f"diffusion_{name}"
        return Counters.read(client.url)(full_name, **labels) - before(full_name, **labels)

    num_steps = sum(account["num_denoising_steps"] for account in accounts)
    assert eventually(lambda: gained("num_denoising_steps_total") == num_steps)
    assert gained("num_committed_tokens_total") == 40
    assert gained("num_forwards_total", kind="denoise") == num_steps
    num_prefills = sum(account["num_prefill_forwards"] for account in accounts)
    assert gained("num_forwards_total", kind="prefill") == num_prefills
    assert gained("num_approximate_forwards_total") == 0
    num_blocks = sum(sum(account["blocks_by_steps"].values()) for account in accounts)
    assert gained("block_denoising_steps_count") == num_blocks
    assert gained("block_denoising_steps_sum") == num_steps
    assert Counters.read(client.url)("diffusion_tokens_per_forward") > 0


@each_row
def test_the_mask_token_in_a_message_is_a_token(client: Client, family: Family) -> None:
    """It is read like any other, stays where it is and is never an answer."""
    answer = chat(client, f"What is {family.module.MASK_TOKEN}?" + 9 * family.module.MASK_TOKEN)
    assert answer["prompt_token_ids"].count(family.mask_id) == 10
    assert len(answer["choices"][0]["token_ids"]) == 20
    assert family.mask_id not in answer["choices"][0]["token_ids"]
    assert text_of(answer) != text_of(chat(client, "What is ?"))


REFUSED: dict[str, list[tuple[str, Any, str]]] = {
    "sdar": [
        ("edit_threshold", 0.5, "SDAR and TraDo (dense) does not edit accepted tokens"),
        ("guidance_scale", 1.0, "has no unconditional mode to guide it by"),
    ],
    "sdar_moe": [("preset", "speed", "SDAR-MoE does not edit accepted tokens")],
    "llada2": [
        ("preset", "best", "it must be one of quality, speed"),
        ("kv_cache", "prefix", "has an exact cache, which is always used"),
    ],
    "fast_dllm_v2": [("sub_block_length", 5, "it must divide the block, which is 16 tokens")],
    "nemotron_labs": [("sub_block_length", 4, "Nemotron-Labs-Diffusion is denoised in whole")],
    "llada": [("kv_cache", "sliding", "it must be one of exact, prefix, dual")],
    "dream": [("policy", "self_speculation", "has no causal mode that could verify a draft")],
}


@served_by(*REFUSED)
def test_what_does_not_apply_is_refused(client: Client) -> None:
    for name, value, words in REFUSED[client.model]:
        field = f"diffusion_{name}"
        error = refusal(client, **{field: value})
        assert error["code"] == "invalid_value"
        assert error["param"] == field
        assert f"{field}={value!r} is not valid: " in error["message"]
        assert words in error["message"]


@served_by("llada2")
def test_presets(client: Client) -> None:
    """LLaDA2.1's two modes by name are the same in numbers."""
    speed = chat(client, diffusion_preset="speed")
    said = {"diffusion_threshold": 0.5, "diffusion_edit_threshold": 0.0}
    assert speed["choices"] == chat(client, **said)["choices"]
    assert diffusion_of(speed) != diffusion_of(chat(client, diffusion_preset="quality"))


@served_by("llada")
@pytest.mark.parametrize("kv_cache", ["prefix", "dual"])
def test_an_approximate_cache_is_said_aloud(client: Client, kv_cache: str) -> None:
    """In the response, streamed or whole, and on ``/metrics``."""

    def counted() -> float:
        return Counters.read(client.url)("diffusion_num_approximate_forwards_total")

    before = counted()
    account = diffusion_of(chat(client, diffusion_kv_cache=kv_cache))
    num_approximate = account["num_approximate_forwards"]
    assert 0 < num_approximate < account["num_forwards"]
    assert account["warning"].startswith(
        f"{num_approximate} of {account['num_forwards']} forwards reused approximate K and V, "
        "because of diffusion_kv_cache"
    )
    _, last = streamed(client, diffusion_kv_cache=kv_cache)
    assert diffusion_of(last) == account
    assert eventually(lambda: counted() == before + 2 * num_approximate)
    assert diffusion_of(chat(client, diffusion_kv_cache="exact"))["warning"] is None
    assert counted() == before + 2 * num_approximate


@served_by("llada")
def test_guidance(client: Client) -> None:
    guided = chat(client, diffusion_guidance_scale=1.0)
    assert len(guided["choices"][0]["token_ids"]) == 20
    assert text_of(guided) != text_of(chat(client))
    text, _ = streamed(client, diffusion_guidance_scale=1.0)
    assert text == text_of(guided)


@served_by("llada")
def test_a_prompt_that_does_not_fit_twice(client: Client) -> None:
    error = refusal(client, diffusion_guidance_scale=1.0, text=TEXT * 20)
    assert error["code"] == "unsupported_parameter"
    assert error["param"] == "diffusion_guidance_scale"
    assert "diffusion_guidance_scale=1.0 is not supported" in error["message"]
    assert "the sequence is computed twice" in error["message"]
    assert text_of(chat(client, TEXT * 20)), "without guidance it fits"


@served_by("nemotron_labs")
def test_self_speculation(client: Client) -> None:
    answer = chat(client, diffusion_policy="self_speculation")
    assert len(answer["choices"][0]["token_ids"]) == 20
    account = diffusion_of(answer)
    assert account["num_tokens"] == 20
    assert account["num_forwards"] > 0
    assert account != diffusion_of(chat(client))
    text, last = streamed(client, diffusion_policy="self_speculation")
    assert text == text_of(answer)
    assert diffusion_of(last) == account


@served_by(GEMMA)
def test_a_model_of_vllms_own(client: Client) -> None:
    """DiffusionGemma: drawn, without seeds, by vLLM's sampler; counted by vLLM."""
    before = Counters.read(client.url)
    drawn = {"temperature": 1.0}
    answer = chat(client, **drawn)
    assert answer["choices"][0]["message"]["content"]
    assert len(answer["choices"][0]["token_ids"]) == 20
    text, last = streamed(client, **drawn)
    assert text
    assert last["usage"]["completion_tokens"] == 20

    def gained(name: str) -> float:
        full_name = f"diffusion_{name}_total"
        return Counters.read(client.url)(full_name) - before(full_name)

    assert eventually(lambda: gained("num_committed_tokens") >= 40)
    assert gained("num_denoising_steps") > 0


@pytest.mark.parametrize("name", SERVERS)
def test_sigterm_was_a_clean_end(name: str, servers: StartedAhead) -> None:
    """Sent after a server's last test, so that the others need not wait for its end."""
    process = servers.started.get(name) or servers.take(name)
    assert process.terminate() == 0, process.log_tail()
    assert len(process.children) >= 2, "an engine core and a worker"
    _, left = psutil.wait_procs(process.children, timeout=20)
    assert not left
    assert eventually(lambda: not process.group_is_alive), "a process of the server is left"
    assert not process.failures(), process.log_tail()
