"""lm-eval: generation, and log-probabilities that are compared with a computation of our own.

It runs from the root of the checkout, and reads ``build/lm-eval`` and ``examples/lm_eval``.
"""

from __future__ import annotations

import importlib.util
import json
import urllib.request
from collections.abc import Sequence
from functools import cache
from math import isclose
from pathlib import Path
from typing import Any

import numpy as np
from checks import MODEL, URL, told
from lm_eval import simple_evaluate
from lm_eval.tasks import TaskManager
from transformers import AutoTokenizer

FOLDER = Path("examples/lm_eval")
MODEL_FOLDER = Path("examples/models") / MODEL
SAMPLES, SEED = 6, 1234
"""As many as the runner's server draws for requests that name no estimate; lm-eval's own seed."""
LIMIT = 2
COMPLETIONS = {
    "model": MODEL,
    "base_url": f"{URL}/v1/completions",
    "tokenizer": str(MODEL_FOLDER),
    "tokenizer_backend": "huggingface",
    "max_retries": 1,
}


def load_own_model() -> None:
    """Register ``diffusion-completions``."""
    spec = importlib.util.spec_from_file_location("likelihood", FOLDER / "likelihood.py")
    assert spec is not None
    assert spec.loader is not None
    spec.loader.exec_module(importlib.util.module_from_spec(spec))


def evaluated(model: str, task: str, limit: int | None, **options: Any) -> dict[str, Any]:
    results: dict[str, Any] = simple_evaluate(
        model=model,
        model_args=COMPLETIONS | options,
        tasks=[task],
        task_manager=TaskManager(include_path=str(FOLDER)),
        apply_chat_template=True,
        limit=limit,
        bootstrap_iters=0,
    )
    return results


def generated(model: str, **options: Any) -> bool:
    scores = evaluated(model, "tiny", None, **options)["results"]["tiny"]
    return bool(scores["exact_match,stripped"] == 1.0)


def generation() -> bool:
    return generated("local-completions")


def chat() -> bool:
    url = f"{URL}/v1/chat/completions"
    return generated("local-chat-completions", base_url=url, tokenizer_backend=None)


Scored = list[tuple[str, str, float]]
"""Context, continuation, and lm-eval's total of each choice."""


@cache
def scored(model: str, **options: Any) -> tuple[float, Scored]:
    """The accuracy as well."""
    results = evaluated(model, "tiny_choice", LIMIT, **options)
    told_choices: Scored = []
    for sample in results["samples"]["tiny_choice"]:
        for arguments, ((total, _),) in zip(sample["arguments"], sample["resps"], strict=True):
            told_choices.append((arguments[0], arguments[1], float(total)))
    return results["results"]["tiny_choice"]["acc,none"], told_choices


def posted(body: dict[str, Any]) -> dict[str, Any]:
    request = urllib.request.Request(
        f"{URL}/v1/completions",
        json.dumps({"model": MODEL, "temperature": 0, "max_tokens": 1} | body).encode(),
        {"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request) as response:
        answer: dict[str, Any] = json.load(response)
    return answer


def logs_of(
    shown: Sequence[int], canvas: Sequence[int], mask_id: int, wanted: Sequence[int]
) -> list[dict[str, float]]:
    """Log-probabilities of ``wanted`` at each position of a canvas, from one denoising step."""
    laid = {
        "diffusion_seed_canvas": list(canvas),
        "diffusion_pinned": [at for at, token in enumerate(canvas) if token != mask_id],
        "diffusion_read_only": 1,
    }
    step = {"diffusion_max_steps": 1, "diffusion_policy": "static", "diffusion_threshold": 0.0}
    answer = posted(
        {
            "prompt": list(shown),
            "max_tokens": len(canvas),
            "logprobs": 1,
            "logprob_token_ids": sorted(set(wanted)),
            "return_tokens_as_token_ids": True,
            "vllm_xargs": laid | step,
        }
    )
    tops: list[dict[str, float]] = answer["choices"][0]["logprobs"]["top_logprobs"]
    return tops


def by_chain(text: list[int], cut: int, mask_id: int) -> float:
    """The definition, a request for each token."""
    logs = [logs_of(text[:k], [mask_id], mask_id, [text[k]]) for k in range(cut, len(text))]
    return sum(log[0][f"token_id:{text[cut + i]}"] for i, log in enumerate(logs))


def by_bound(text: list[int], cut: int, mask_id: int) -> float:
    """The definition of ``docs/likelihood.md``, a request for each sample of each block."""
    block = json.loads((MODEL_FOLDER / "config.json").read_text())["block_size"]
    total, start = 0.0, cut
    while start < len(text):
        end = min(len(text), start - start % block + block)
        length, state = end - start, np.random.RandomState(SEED)
        offset = int(state.random_sample() * length)
        for sample in range(SAMPLES):
            keys = state.random_sample(length)
            count = (offset + sample * length // SAMPLES) % length + 1
            masked = np.argsort(keys)[:count].tolist()
            canvas = [mask_id if i in masked else text[start + i] for i in range(length)]
            wanted = [text[start + i] for i in masked]
            logs = logs_of(text[:start], canvas, mask_id, wanted)
            own = sum(logs[i][f"token_id:{text[start + i]}"] for i in masked)
            total += length / count / SAMPLES * own
        start = end
    return total


def equals(options: dict[str, Any], compute: Any) -> bool:
    """All right answers are found, and the totals of one question are our own."""
    accuracy, choices = scored("diffusion-completions", **options)
    tokenizer = AutoTokenizer.from_pretrained(MODEL_FOLDER)
    mask_id = json.loads((MODEL_FOLDER / "config.json").read_text())["mask_token_id"]
    for context, continuation, total in choices[:2]:
        whole = tokenizer(context + continuation, add_special_tokens=False).input_ids
        # lm-eval moves white space at the context's end to the continuation.
        cut = len(tokenizer(context.rstrip(), add_special_tokens=False).input_ids)
        if not isclose(total, compute(whole, cut, mask_id), rel_tol=2e-3, abs_tol=2e-2):
            return False
    return accuracy == 1.0


BOUND = {"likelihood": "mc", "samples": SAMPLES}


def chain() -> bool:
    return equals({"likelihood": "chain"}, by_chain)


def bound() -> bool:
    return equals(BOUND, by_bound)


def stock() -> bool:
    """lm-eval as it is, which sends no context: its sums are those of the same masks."""
    accuracy, plain = scored("local-completions")
    _, ours = scored("diffusion-completions", **BOUND)
    pairs = zip(plain, ours, strict=True)
    return accuracy == 1.0 and all(
        isclose(one[2], other[2], rel_tol=2e-3, abs_tol=2e-2) for one, other in pairs
    )


load_own_model()
told(
    "lm-eval",
    {
        "generate_until": generation,
        "generate_until, chat": chat,
        "loglikelihood, chain": chain,
        "loglikelihood, Monte Carlo": bound,
        "loglikelihood, lm-eval as it is": stock,
    },
)
