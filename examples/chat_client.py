"""Chat with a running server; the answer comes block by block.

    make serve  # in another terminal
    python examples/chat_client.py "Spell the digits of 96, 70, 15, 38."

Without words it asks for a message until it gets an empty one.

Any OpenAI client works; the decode fields travel in ``vllm_xargs``.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import Any

import openai


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("words", nargs="*", metavar="WORD", help="one message; none: ask for them")
    parser.add_argument("--url", default="http://127.0.0.1:8000/v1")
    parser.add_argument("--model", help="default: the first that is served")
    parser.add_argument("--threshold", type=float, help="default: the server's")
    parser.add_argument("--max-tokens", type=int, default=128)
    return parser.parse_args()


def answer(client: openai.OpenAI, messages: list[Any], arguments: argparse.Namespace) -> str:
    """Print one answer as it comes, and then what it cost; return its text."""
    decode = {} if arguments.threshold is None else {"diffusion_threshold": arguments.threshold}
    stream = client.chat.completions.create(
        model=arguments.model,
        messages=messages,
        max_tokens=arguments.max_tokens,
        temperature=0,
        stream=True,
        stream_options={"include_usage": True},
        extra_body={"vllm_xargs": decode} if decode else None,
    )
    text, metrics = "", {}
    for chunk in stream:
        if chunk.choices and (delta := chunk.choices[0].delta.content):
            print(delta, end="", flush=True)
            text += delta
        metrics = chunk.to_dict().get("metrics") or metrics
    cost = metrics.get("speculative_decoding", {}).get("diffusion")
    if cost:  # absent if the model is autoregressive
        print(
            f"\n  [{cost['num_tokens']} tokens in {cost['num_forwards']} forwards: "
            f"{cost['tokens_per_forward']:.2f} a forward]"
        )
    else:
        print()
    return text


def questions(arguments: argparse.Namespace) -> Iterator[str]:
    if arguments.words:
        yield " ".join(arguments.words)
        return
    while line := input("> "):
        yield line


def main() -> None:
    arguments = parse()
    client = openai.OpenAI(base_url=arguments.url, api_key="none")
    arguments.model = arguments.model or client.models.list().data[0].id
    messages: list[Any] = []
    for question in questions(arguments):
        messages.append({"role": "user", "content": question})
        messages.append({"role": "assistant", "content": answer(client, messages, arguments)})


if __name__ == "__main__":
    main()
