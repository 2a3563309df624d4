"""What may be asked beside an estimate of a prompt's log-probabilities, and what is refused."""

from __future__ import annotations

from typing import Any

CHAIN = {"diffusion_likelihood": "chain"}
ASKED: dict[str, Any] = {
    "prompt": "Dear omar,",
    "echo": True,
    "logprobs": 1,
    "max_tokens": 0,
    "vllm_xargs": CHAIN,
}
REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "monte carlo": ({"vllm_xargs": {"diffusion_likelihood": "mc"}}, "diffusion_likelihood"),
    "another word": ({"vllm_xargs": {"diffusion_likelihood": "exact"}}, "diffusion_likelihood"),
    "no echo": ({"echo": False}, "diffusion_likelihood"),
    "no logprobs": ({"logprobs": None}, "diffusion_likelihood"),
    "five alternatives": ({"logprobs": 5}, "logprobs"),
    "a text behind it": ({"max_tokens": 16}, "max_tokens"),
    "a stream": ({"stream": True}, "stream"),
    "two of them": ({"n": 2}, "n"),
    "a stop string": ({"stop": ["a"]}, "stop"),
    "a penalty": ({"presence_penalty": 1.0}, "presence_penalty"),
    "other decoding": ({"vllm_xargs": CHAIN | {"diffusion_max_steps": 1}}, "vllm_xargs"),
    "an unknown field": ({"likelihood": "chain"}, "likelihood"),
    "long texts": ({"prompt": [[5] * 2000] * 5}, "prompt"),
    "nothing to score": ({"prompt": [[]]}, "prompt"),
}
