"""Where steps come from: a running server, or an ``LLM()`` in this process.

Each source yields frames as a server tells them, and last what the text has cost and the text.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import Any

Message = dict[str, str]
Event = tuple[dict[str, Any] | None, dict[str, Any] | None]
"""A frame, or at the end ``{"diffusion": ..., "text": ...}``."""
PAUSE = 0.12
"""Seconds between the steps of a text that is made already."""


class Served:
    """A server's model.

    Args:
        base_url: up to ``/v1``.
        api_key: the server's, if it has one.
        model: its name; None takes the first.
    """

    def __init__(self, base_url: str, api_key: str, model: str | None) -> None:
        import openai

        self.client = openai.OpenAI(base_url=base_url, api_key=api_key, max_retries=0)
        self.model = model or self.client.models.list().data[0].id

    def ask(
        self, messages: Sequence[Message], max_tokens: int, fields: dict[str, Any]
    ) -> Iterator[Event]:
        """Frames as they come."""
        stream: Any = self.client.chat.completions.create(
            model=self.model,
            messages=list(messages),  # type: ignore[arg-type]
            max_tokens=max_tokens,
            temperature=0,
            stream=True,
            extra_body={
                "stream_options": {"diffusion_frames": True, "include_usage": True},
                **({"vllm_xargs": fields} if fields else {}),
            },
        )
        text, cost = "", None
        for chunk in stream:
            said = chunk.to_dict()
            if "diffusion_frame" in said:
                yield said["diffusion_frame"], None
            cost = said.get("diffusion") or cost
            if chunk.choices:
                text += chunk.choices[0].delta.content or ""
        yield None, {"diffusion": cost, "text": text}


class Loaded:
    """A model in this process; its steps are shown once the text is made.

    Args:
        model: a folder, or a name on the Hub.
        max_model_len: of the engine.
    """

    def __init__(self, model: str, max_model_len: int | None = None) -> None:
        from vllm import LLM

        self.llm = LLM(model, max_model_len=max_model_len, kv_cache_memory_bytes=1 << 28)

    def ask(
        self, messages: Sequence[Message], max_tokens: int, fields: dict[str, Any]
    ) -> Iterator[Event]:
        """Frames one after the other."""
        from vllm import SamplingParams

        from vllm_diffusion.metrics import decode_metrics
        from vllm_diffusion.trace import trace

        params = SamplingParams(temperature=0, max_tokens=max_tokens, extra_args=fields or None)
        recorded = trace(self.llm, list(messages), params)
        for number, step in enumerate(recorded.steps):
            start = sum(piece.state == "emitted" for piece in step)
            following = recorded.steps[number + 1 : number + 2]
            is_final = not following or any(p.state == "emitted" for p in following[0][start:])
            yield (
                {
                    "tokens": [piece.text for piece in step[start:]],
                    "states": [piece.state for piece in step[start:]],
                    "start": start,
                    "final": is_final,
                },
                None,
            )
            time.sleep(PAUSE)
        told = decode_metrics(recorded.output.outputs[0])
        cost = {"tokens": told.num_tokens, "forwards": told.num_forwards}
        yield None, {"diffusion": cost, "text": recorded.text}
