"""inceptionai: Mercury's own client."""

from __future__ import annotations

from typing import Any

import inceptionai
from checks import ASKED, MODEL, base_url, is_code, told

CLIENT: Any = inceptionai.Inception(base_url=base_url(), api_key="none", max_retries=0)
ASK: dict[str, Any] = {"model": MODEL, "messages": [{"role": "user", "content": ASKED}]}


def chat() -> bool:
    return is_code(CLIENT.chat.completions.create(**ASK).choices[0].message.content)


def extra_params() -> bool:
    extra = {"vllm_xargs": {"diffusion_max_steps": 16}}
    answer = CLIENT.chat.completions.create(**ASK, extra_params=extra)
    return is_code(answer.choices[0].message.content)


def drafts() -> bool:
    chunks = CLIENT.chat.completions.create(**ASK, stream=True, diffusing=True)
    texts = [c.choices[0].delta.content for c in chunks if c.choices and c.choices[0].delta.content]
    return is_code(texts[-1]) and any(not is_code(text) for text in texts)


def models() -> bool:
    (card,) = CLIENT.models.list().data
    return card.name == MODEL and "chat.completions" in card.supported_endpoints


told(
    "inceptionai",
    {
        "chat": chat,
        "extra_params": extra_params,
        "diffusing": drafts,
        "models list": models,
    },
)
