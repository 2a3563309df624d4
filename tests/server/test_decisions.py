"""Decisions over HTTP: three shapes, every kind of refusal, one prefill for many questions.

The bundled model was trained on other tasks: what it answers is looked at only where it is compared
with what the same server says of the same prompt.
"""

from __future__ import annotations

import json
import math
import socket
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.server.client import Client, together
from tests.server.conftest import healthy
from tests.server.counters import Counters, eventually
from tests.server.likelihood_probes import ASKED, BOUND, CHAIN, CONTEXT
from tests.server.likelihood_probes import REFUSED as UNSCORED
from tests.server.own_routes import switch_on
from tests.server.process import ServerProcess
from tests.unit.test_decisions import OPENAI, REFUSED, SGLANG, SYSTEM_ONE

PATH = "/v1/decisions"
PAGE = 128
NUM_QUESTIONS = 64
STATE = "the cat sat on a mat. " * 100
TEMPERATURES = {"decisions": {"temperatures": {"choice:2": 4.0}}}
CAT_OR_DOG = {"type": "choice", "instructions": "Which?", "criteria": {"cat": None, "dog": None}}


@pytest.fixture(scope="module")
def deciding(
    tiny_diffusion: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ServerProcess]:
    folder = tmp_path_factory.mktemp("deciding")
    with pytest.MonkeyPatch.context() as patch:
        switch_on(patch, folder)
        process = ServerProcess(
            tiny_diffusion,
            folder / "log",
            *("--kv-cache-memory-bytes", str(256 << 20)),
            *("--additional-config", json.dumps(TEMPERATURES)),
            is_forked=False,
        )
    try:
        process.wait_until_healthy()
        yield process
    finally:
        process.stop()


@pytest.fixture
def client(deciding: ServerProcess) -> Iterator[Client]:
    yield from healthy(deciding)


def decide(client: Client, body: dict[str, Any], path: str = PATH) -> dict[str, Any]:
    status, said = client.post(path, body | {"model": client.model})
    assert status == 200, said
    return said


def shares_of(said: dict[str, Any], name: str = "q") -> list[float]:
    return list(said["answers"][name]["probabilities"].values())


def test_three_shapes(client: Client) -> None:
    dictionary = decide(client, SYSTEM_ONE)
    assert dictionary["answers"].keys() == SYSTEM_ONE["questions"].keys()
    assert decide(client, SYSTEM_ONE, "/v1/systemone")["answers"] == dictionary["answers"]
    listed = decide(client, OPENAI)
    assert [each["type"] for each in listed["answers"]] == ["predicate", "choice", "score"]
    by_id = decide(client, SGLANG)
    assert by_id["answers"].keys() == {"tame", "kind", "size"}
    for said in (dictionary, listed, by_id):
        assert said["model"] == client.model
        assert len(said["diagnostics"]) == 3
    for name in ("kind", "size"):
        assert sum(shares_of(dictionary, name)) == pytest.approx(1)
        assert 0 <= dictionary["answers"][name]["confidence"] <= 1


def test_systemone_takes_its_own_shape_alone(client: Client) -> None:
    status, said = client.post("/v1/systemone", OPENAI)
    assert (status, said["error"]["param"]) == (400, "input")


@pytest.mark.parametrize("name", REFUSED)
def test_refusals(client: Client, name: str) -> None:
    body, field = REFUSED[name]
    status, said = client.post(PATH, body)
    assert (status, said["error"]["param"]) == (400, field)
    assert said["error"]["type"] == "invalid_request_error"
    assert len(said["error"]["message"]) < 2000
    decide(client, {"state": "a", "questions": {"q": CAT_OR_DOG}})


def test_no_such_model(client: Client) -> None:
    status, said = client.post(PATH, SYSTEM_ONE | {"model": "mercury-9"})
    assert (status, said["error"]["code"]) == (404, "model_not_found")


def test_bodies_that_are_none(client: Client) -> None:
    for body in ("[1]", "{", '"x"', '{"state": NaN, "questions": {}}'):
        status, said = client.post(PATH, body)
        assert status == 400
        assert said["error"]["message"]


def test_a_prompt_that_does_not_fit(client: Client) -> None:
    status, said = client.post(PATH, {"state": "x y " * 3000, "questions": {"q": CAT_OR_DOG}})
    assert (status, said["error"]["code"]) == (400, "context_length_exceeded")
    decide(client, {"state": "a", "questions": {"q": CAT_OR_DOG}})


def test_labels_are_what_a_chat_says(client: Client) -> None:
    """The label's probability is that of a chat's first token, decoded in one step."""
    state = "The pet is a dog."
    said = decide(client, {"state": state, "questions": {"q": CAT_OR_DOG}})
    content = f"{state}\n\nWhich?\nA: cat\nB: dog\nAnswer with the letter of one option only."
    chat = client.chat(
        content,
        max_tokens=1,
        logprobs=True,
        top_logprobs=20,
        diffusion_max_steps=1,
        logprob_token_ids=[tokens_of(client, letter)[0] for letter in "AB"],
    ).to_dict()
    logs = {
        each["token"]: each["logprob"]
        for each in chat["choices"][0]["logprobs"]["content"][0]["top_logprobs"]
    }
    mass = math.exp(logs["A"]) + math.exp(logs["B"])
    assert said["diagnostics"]["q"]["label_mass"] == pytest.approx(mass, rel=1e-3)
    # The server's temperature for two options is 4.
    weights = [math.exp(logs[letter] / 4) for letter in "AB"]
    assert shares_of(said) == pytest.approx([w / sum(weights) for w in weights], rel=1e-3)
    assert said["diagnostics"]["q"]["temperature"] == 4


def tokens_of(client: Client, text: str) -> list[int]:
    _, said = client.post("/tokenize", {"prompt": text, "add_special_tokens": False})
    tokens: list[int] = said["tokens"]
    return tokens


def test_the_order_of_options_is_averaged(client: Client) -> None:
    names = ["cat", "dog", "cow"]
    body = {
        "state": "It barks.",
        "questions": {"q": CAT_OR_DOG | {"criteria": dict.fromkeys(names)}},
    }

    def of(order: list[str], **fields: Any) -> dict[str, float]:
        criteria = dict.fromkeys(order)
        asked = body | {"questions": {"q": CAT_OR_DOG | {"criteria": criteria}}} | fields
        found: dict[str, float] = decide(client, asked)["answers"]["q"]["probabilities"]
        return found

    single = [of([*names[i:], *names[:i]]) for i in range(3)]
    turned = of(names, rotations=3)
    assert list(turned) == names
    for name in names:
        assert turned[name] == pytest.approx(sum(each[name] for each in single) / 3, rel=1e-4)


def test_options_that_begin_alike(client: Client) -> None:
    criteria = {"New": None, "New York": None, "York": None}
    asked = {"questions": {"q": CAT_OR_DOG | {"criteria": criteria}}, "read": "options"}
    said = decide(client, {"state": "a town"} | asked)
    assert said["answers"]["q"]["probabilities"].keys() == criteria.keys()
    assert sum(shares_of(said)) == pytest.approx(1)
    assert said["diagnostics"]["q"]["num_reads"] > 3


def test_100_options(client: Client) -> None:
    """Their labels are numbers of several tokens, one of which begins another."""
    criteria = {f"{i}": None for i in range(100)}
    said = decide(client, {"state": "a", "questions": {"q": CAT_OR_DOG | {"criteria": criteria}}})
    assert len(shares_of(said)) == 100
    assert sum(shares_of(said)) == pytest.approx(1)


def test_many_questions_cost_one_prefill(client: Client) -> None:
    questions = {
        f"q{i}": CAT_OR_DOG | {"instructions": f"Is number {i} a cat?"}
        for i in range(NUM_QUESTIONS)
    }
    before = Counters.read(client.url)
    usage = decide(client, {"state": STATE, "questions": questions})["usage"]
    num_state = len(tokens_of(client, STATE))
    pages = num_state // PAGE * PAGE
    cached = usage["input_tokens_details"]["cached_tokens"]
    assert cached >= (NUM_QUESTIONS - 1) * (pages - PAGE) > 0
    # One state, and what each question adds to it from its last whole page on.
    longest = 2 * PAGE + 64
    assert usage["input_tokens"] - cached <= num_state + NUM_QUESTIONS * longest

    def hits() -> float:
        return Counters.read(client.url)("prefix_cache_hits_total") - before(
            "prefix_cache_hits_total"
        )

    assert eventually(lambda: hits() == cached)
    salted = decide(client, {"state": STATE, "questions": {"q": CAT_OR_DOG}, "cache_salt": "x"})
    assert salted["usage"]["input_tokens_details"]["cached_tokens"] == 0


def test_together_as_alone(client: Client) -> None:
    bodies = [
        {"state": f"pet number {i}", "questions": {"q": CAT_OR_DOG, "p": {"type": "noul"}}}
        for i in range(8)
    ]
    alone = [decide(client, body)["answers"] for body in bodies]
    at_once = together([partial(decide, client, body) for body in bodies])
    for one, said in zip(alone, at_once, strict=True):
        other = said["answers"]
        assert other["q"]["probabilities"] == pytest.approx(one["q"]["probabilities"], rel=1e-3)
        assert other["p"]["noul"] == pytest.approx(one["p"]["noul"], rel=1e-3)


def test_a_client_that_hangs_up(client: Client) -> None:
    """The reads that nobody waits for are aborted."""
    # So many that an idle machine is not done before the client has gone.
    num_questions, pets = 400, dict.fromkeys(("cat", "dog", "cow", "hen", "ant"))
    num_reads = num_questions * len(pets)
    questions = {
        f"q{i}": {"type": "choice", "instructions": f"Number {i}?", "criteria": pets}
        for i in range(num_questions)
    }
    asked = {"state": f"gone {STATE}", "questions": questions, "rotations": len(pets)}
    body = json.dumps(asked).encode()
    host, port = client.url.removeprefix("http://").split(":")

    def count(name: str) -> float:
        return Counters.read(client.url)(name)

    steps = "diffusion_num_denoising_steps_total"
    before = count(steps)
    with socket.create_connection((host, int(port))) as gone:
        head = f"POST {PATH} HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n"
        gone.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        assert eventually(lambda: count("num_requests_waiting") > 0)
    assert eventually(lambda: count("num_requests_running") + count("num_requests_waiting") == 0)
    decide(client, {"state": "a", "questions": {"q": CAT_OR_DOG}})
    assert eventually(lambda: count(steps) > before)
    assert count(steps) - before < num_reads


@pytest.mark.parametrize("name", UNSCORED)
def test_what_does_not_go_with_a_likelihood(client: Client, name: str) -> None:
    fields, parameter = UNSCORED[name]
    status, said = client.post("/v1/completions", ASKED | {"model": client.model} | fields)
    assert (status, said["error"]["param"]) == (400, parameter), said
    status, _ = client.post("/v1/completions", ASKED | {"model": client.model})
    assert status == 200


def test_a_refusal_says_how_to_ask(client: Client) -> None:
    body = {name: value for name, value in ASKED.items() if name != "vllm_xargs"}
    status, said = client.post("/v1/completions", body | {"model": client.model})
    assert (status, said["error"]["param"]) == (400, "echo")
    assert "diffusion_likelihood" in said["error"]["message"]


def test_a_text_is_scored_as_it_is_read(client: Client) -> None:
    """Each log-probability is that of a completion's first token behind the text before it."""
    body = ASKED | {"model": client.model, "max_tokens": 1}
    status, said = client.post("/v1/completions", body)
    assert status == 200, said
    scores = said["choices"][0]["logprobs"]
    ids = tokens_of(client, ASKED["prompt"])
    assert len(scores["tokens"]) == len(scores["token_logprobs"]) == len(ids) + 1
    assert scores["token_logprobs"][0] is None
    assert said["choices"][0]["text"].startswith(ASKED["prompt"])
    for k in range(1, len(ids)):
        direct = client.completion(
            ids[:k],
            max_tokens=1,
            diffusion_max_steps=1,
            logprobs=1,
            logprob_token_ids=[ids[k]],
        )
        tops = direct.choices[0].logprobs.top_logprobs[0]
        assert scores["token_logprobs"][k] == pytest.approx(
            tops[scores["tokens"][k]], rel=1e-3, abs=1e-4
        )
        assert max(scores["top_logprobs"][k].values()) >= scores["token_logprobs"][k]
    several = client.post("/v1/completions", body | {"prompt": [ids, ids[:3]]})[1]
    assert several["choices"][1]["logprobs"]["token_logprobs"][:3] == pytest.approx(
        scores["token_logprobs"][:3], nan_ok=True
    )


def scores_of(client: Client, **changes: Any) -> list[dict[str, Any]]:
    """Log-probabilities of each text."""
    status, said = client.post("/v1/completions", ASKED | {"model": client.model} | changes)
    assert status == 200, said
    assert said["diffusion_likelihood"] == changes["vllm_xargs"]["diffusion_likelihood"]
    return [choice["logprobs"] for choice in said["choices"]]


def test_the_bound_from_every_cut(client: Client) -> None:
    """The sum of what a harness takes is the bound behind its context, whichever that is."""
    ids = tokens_of(client, ASKED["prompt"])
    (every,) = scores_of(client, vllm_xargs=BOUND, seed=7, max_tokens=1)
    assert len(every["token_logprobs"]) == len(ids) + 1
    cuts = list(range(1, len(ids)))
    texts = scores_of(client, prompt=[ids] * len(cuts), vllm_xargs=BOUND | {CONTEXT: cuts}, seed=7)
    for cut, one in zip(cuts, texts, strict=True):
        assert one["token_logprobs"][:cut] == [None] * cut
        total = sum(one["token_logprobs"][cut:])
        assert sum(every["token_logprobs"][cut:-1]) == pytest.approx(total, rel=1e-3, abs=1e-3)
        for own, tops in zip(one["token_logprobs"], one["top_logprobs"], strict=True):
            assert tops is None or max(tops.values()) >= own


def test_the_bound_of_one_token_is_exact(client: Client) -> None:
    """One token has one mask, so that both estimates are what the model says."""
    ids = tokens_of(client, ASKED["prompt"])
    context = {CONTEXT: len(ids) - 1}
    (bound,) = scores_of(client, prompt=ids, vllm_xargs=BOUND | context)
    (chain,) = scores_of(client, prompt=ids, vllm_xargs=CHAIN | context)
    assert bound["token_logprobs"][:-1] == chain["token_logprobs"][:-1] == [None] * (len(ids) - 1)
    last = chain["token_logprobs"][-1]
    assert bound["token_logprobs"][-1] == pytest.approx(last, rel=1e-3, abs=1e-4)


def test_the_bound_is_drawn_by_the_seed(client: Client) -> None:
    fields: dict[str, Any] = {"vllm_xargs": BOUND | {CONTEXT: 1}}
    one, same, other = (
        scores_of(client, **fields, seed=seed)[0]["token_logprobs"][1:] for seed in (1, 1, 2)
    )
    assert same == pytest.approx(one, rel=1e-3, abs=1e-3)
    assert other != pytest.approx(one, rel=1e-2, abs=1e-2)
