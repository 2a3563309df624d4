"""A decision of many questions about one state, against the same questions asked as chats.

    vllm-diffusion serve examples/models/tiny-diffusion --kv-cache-memory-bytes 268435456 \\
        --served-model-name tiny-diffusion
    python benchmarks/decisions.py --url http://127.0.0.1:8000

Each round has a state of its own, so no round finds another one's pages. Medians of the rounds.
"""

from __future__ import annotations

import argparse
import random
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
from rich.console import Console
from rich.progress import track
from rich.table import Table

WORDS = "apple lemon river stone lamp tree cloud horse paper wheel bread chair".split()


def state_of(seed: int, num_words: int) -> str:
    """Words that no other round has in this order."""
    rng = random.Random(seed)
    return " ".join(rng.choices(WORDS, k=num_words))


def post(client: httpx.Client, path: str, body: dict[str, Any]) -> dict[str, Any]:
    response = client.post(path, json=body)
    response.raise_for_status()
    told: dict[str, Any] = response.json()
    return told


CHOICE = {"type": "choice", "criteria": {"yes": None, "no": None}}
"""Read by letters, which are a token each; yes and no are several in the tiny tokenizer."""


def decision(
    client: httpx.Client, model: str, state: str, count: int, **kind: Any
) -> dict[str, Any]:
    questions = {
        f"q{number}": (kind or CHOICE) | {"instructions": f"Is there {number} of a {word}?"}
        for number, word in enumerate((WORDS * count)[:count])
    }
    return post(client, "/v1/decisions", {"model": model, "state": state, "questions": questions})


def chats(client: httpx.Client, model: str, state: str, count: int, max_tokens: int) -> None:
    """All at once."""

    def ask(number: int) -> None:
        content = f"{state}\nIs there {number} of a {WORDS[number % len(WORDS)]}?"
        message = {"role": "user", "content": content}
        body = {"model": model, "messages": [message], "max_tokens": max_tokens, "temperature": 0}
        post(client, "/v1/chat/completions", body)

    with ThreadPoolExecutor(count) as pool:
        list(pool.map(ask, range(count)))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--url", default="http://127.0.0.1:8000")
    parser.add_argument("--questions", type=int, default=64, metavar="N")
    parser.add_argument("--words", type=int, default=400, metavar="N", help="of a state")
    parser.add_argument("--rounds", type=int, default=5, metavar="N")
    arguments = parser.parse_args()
    count = arguments.questions
    limits = httpx.Limits(max_connections=count)
    with httpx.Client(base_url=arguments.url, timeout=120, limits=limits) as client:
        model = client.get("/v1/models").json()["data"][0]["id"]
        kinds: dict[str, Callable[[str], object]] = {
            f"{count} questions, one decision": lambda s: decision(client, model, s, count),
            f"{count} questions of yes or no": lambda s: decision(
                client, model, s, count, type="noul"
            ),
            f"{count} chats, max_tokens 1": lambda s: chats(client, model, s, count, 1),
            f"{count} chats, max_tokens 16": lambda s: chats(client, model, s, count, 16),
            "one question": lambda s: decision(client, model, s, 1),
            "one chat, max_tokens 16": lambda s: chats(client, model, s, 1, 16),
        }
        spent: dict[str, list[float]] = {kind: [] for kind in kinds}
        seed = time.time_ns()
        for number in track(range(arguments.rounds + 1), "rounds"):
            for place, (kind, ask) in enumerate(kinds.items()):
                state = state_of(seed + 100 * number + place, arguments.words)
                began = time.perf_counter()
                ask(state)
                if number:  # the first one warms up
                    spent[kind].append(time.perf_counter() - began)
        usage = decision(client, model, state_of(seed - 1, arguments.words), count)["usage"]
    table = Table("what", "seconds", "least, most")
    for kind, times in spent.items():
        median = statistics.median(times)
        table.add_row(kind, f"{median:.3f}", f"{min(times):.3f}, {max(times):.3f}")
    Console().print(table)
    Console().print("usage of one decision:", usage)


if __name__ == "__main__":
    main()
