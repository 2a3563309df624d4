"""What the examples of a running server share: where it is, and which model it serves."""

from __future__ import annotations

import argparse

import openai

URL = "http://127.0.0.1:8000/v1"


def parser_of(doc: str | None) -> argparse.ArgumentParser:
    """With the options that all of them have."""
    parser = argparse.ArgumentParser(description=(doc or "").splitlines()[0])
    parser.add_argument("--base-url", default=URL)
    parser.add_argument("--api-key", default="none")
    parser.add_argument("--model", help="default: the first that is served")
    return parser


def client_of(arguments: argparse.Namespace) -> openai.OpenAI:
    """A client; ``arguments.model`` names the model then."""
    client = openai.OpenAI(base_url=arguments.base_url, api_key=arguments.api_key)
    arguments.model = arguments.model or client.models.list().data[0].id
    return client
