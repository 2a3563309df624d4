"""How soon a voice could begin to speak: time to the first sentence, under load.

    make serve  # in another terminal
    python examples/voice.py --callers 8 --turns 4

Each caller asks one turn after another. A sentence is complete at its full stop or line end.
"""

from __future__ import annotations

import asyncio
import random
import re
import statistics
import time

import openai
from rich.progress import Progress
from served import client_of, parser_of

NAMES = ("ada", "ben", "mia", "tom", "nora", "finn")
THINGS = ("lamp", "book", "cup", "star", "stone", "door")
CITIES = ("oslo", "rome", "paris", "lima")
SENTENCE = re.compile(r"[.!?\n]")


def turn(rng: random.Random) -> str:
    to, sender = rng.sample(NAMES, 2)
    item, city = rng.choice(THINGS), rng.choice(CITIES)
    return f"Write a thank letter: sender {sender}, to {to}, item {item}, city {city}, day friday."


async def ask(
    client: openai.AsyncOpenAI, model: str, prompt: str, fields: dict[str, object]
) -> float:
    """Seconds until the first sentence is there."""
    began, text = time.perf_counter(), ""
    stream = await client.chat.completions.create(
        model=model,
        messages=[{"role": "user", "content": prompt}],
        max_tokens=160,
        temperature=0,
        stream=True,
        extra_body=fields,
    )
    spoken = 0.0
    async for chunk in stream:
        text += (chunk.choices[0].delta.content or "") if chunk.choices else ""
        if not spoken and SENTENCE.search(text):
            spoken = time.perf_counter() - began
    if not spoken:
        raise SystemExit(f"no sentence came: {text!r}")
    return spoken


async def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("--callers", type=int, default=8)
    parser.add_argument("--turns", type=int, default=4)
    parser.add_argument("--realtime", action="store_true", help="text before its block is finished")
    arguments = parser.parse_args()
    client_of(arguments)
    client = openai.AsyncOpenAI(base_url=arguments.base_url, api_key=arguments.api_key)
    fields: dict[str, object] = {"realtime": True} if arguments.realtime else {}
    times: list[float] = []
    with Progress() as progress:
        bar = progress.add_task("turns", total=arguments.callers * arguments.turns)

        async def call(number: int) -> None:
            rng = random.Random(number)
            for _ in range(arguments.turns):
                times.append(await ask(client, arguments.model, turn(rng), fields))
                progress.advance(bar)

        await asyncio.gather(*map(call, range(arguments.callers)))
    cuts = statistics.quantiles(times, n=20)
    print(
        f"{len(times)} turns of {arguments.callers} callers: first sentence after "
        f"{1000 * statistics.median(times):.0f} ms (p50), {1000 * cuts[-1]:.0f} ms (p95)"
    )


if __name__ == "__main__":
    asyncio.run(main())
