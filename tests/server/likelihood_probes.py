"""What may be asked beside an estimate of a prompt's log-probabilities, and what is refused."""

from __future__ import annotations

from typing import Any

CHAIN = {"diffusion_likelihood": "chain"}
BOUND = {"diffusion_likelihood": "mc", "diffusion_likelihood_samples": 4}
CONTEXT, SAMPLES = "diffusion_likelihood_context", "diffusion_likelihood_samples"
ASKED: dict[str, Any] = {
    "prompt": "Dear omar,",
    "echo": True,
    "logprobs": 1,
    "max_tokens": 0,
    "vllm_xargs": CHAIN,
}
REFUSED: dict[str, tuple[dict[str, Any], str]] = {
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
    "no samples": ({"vllm_xargs": BOUND | {SAMPLES: 0}}, SAMPLES),
    "too many samples": ({"vllm_xargs": BOUND | {SAMPLES: 1025}}, SAMPLES),
    "samples of the chain": ({"vllm_xargs": CHAIN | {SAMPLES: 4}}, SAMPLES),
    "samples of nothing": ({"vllm_xargs": {SAMPLES: 4}}, SAMPLES),
    "a context in words": ({"vllm_xargs": CHAIN | {CONTEXT: "all"}}, CONTEXT),
    "no context": ({"vllm_xargs": BOUND | {CONTEXT: 0}}, CONTEXT),
    "a context beyond the text": ({"vllm_xargs": BOUND | {CONTEXT: 999}}, CONTEXT),
    "two contexts of one text": ({"vllm_xargs": BOUND | {CONTEXT: [1, 1]}}, CONTEXT),
    "a mask to score": ({"prompt": [[5, 3, 6]], "vllm_xargs": BOUND}, "prompt"),
    "more reads than there may be": (
        {"prompt": [[5] * 300], "vllm_xargs": BOUND | {SAMPLES: 128}},
        "prompt",
    ),
    "long texts": ({"prompt": [[5] * 2000] * 5}, "prompt"),
    "nothing to score": ({"prompt": [[]]}, "prompt"),
}
