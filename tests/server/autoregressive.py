"""Run an autoregressive model in this process and print what it did, as JSON.

Usage: python -m tests.server.autoregressive MODEL. Whether the plugin is loaded
is up to ``VLLM_PLUGINS``.
"""

from __future__ import annotations

import json
import os
import sys
import time
from typing import Any

PROMPTS = [[20], list(range(20, 60)), [30, 31] * 100, list(range(100, 117))]


def worker_facts(worker: Any) -> dict[str, Any]:
    """What the worker process runs on."""
    from vllm.triton_utils import dispatcher

    overrides = [name for name in dispatcher._registry if "vllm.v1.worker.gpu." in name]
    return {
        "runner": type(worker.model_runner).__module__,
        "model": type(worker.model_runner.model).__module__,
        "overrides": overrides,
        "package": sorted(name for name in sys.modules if name.startswith("vllm_diffusion")),
    }


def embeddings(model: str) -> list[list[float]]:
    """What the same network says as an embedding model, by an engine in this process."""
    from vllm import LLM

    os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"
    llm = LLM(
        model,
        runner="pooling",
        convert="embed",
        dtype="float32",
        max_model_len=512,
        kv_cache_memory_bytes=32 << 20,
        enforce_eager=True,
    )
    prompts: Any = [{"prompt_token_ids": prompt} for prompt in PROMPTS]
    return [each.outputs.embedding for each in llm.embed(prompts, use_tqdm=False)]


def main(model: str) -> None:
    from vllm import LLM, SamplingParams

    llm = LLM(
        model,
        dtype="float32",
        max_model_len=512,
        kv_cache_memory_bytes=32 << 20,
        enforce_eager=True,
        seed=0,
    )
    prompts: Any = [{"prompt_token_ids": prompt} for prompt in PROMPTS]
    greedy = SamplingParams(temperature=0, max_tokens=40, ignore_eos=True, logprobs=3)
    drawn = SamplingParams(temperature=1, seed=5, max_tokens=40, min_tokens=3, min_p=0.01)
    answers: list[Any] = []
    start = time.perf_counter()
    for params in (greedy, drawn):
        for output in llm.generate(prompts, params, use_tqdm=False):
            (completion,) = output.outputs
            answers.append(
                {
                    "token_ids": list(completion.token_ids),
                    "text": completion.text,
                    "logprobs": [
                        sorted((token_id, value.logprob) for token_id, value in position.items())
                        for position in completion.logprobs or ()
                    ],
                    "metrics": completion.spec_decode_metrics is not None,
                }
            )
    seconds = time.perf_counter() - start
    config = llm.llm_engine.vllm_config
    facts = {
        "answers": answers,
        "seconds": seconds,
        "use_v2_model_runner": config.use_v2_model_runner,
        "async_scheduling": config.scheduler_config.async_scheduling,
        "scheduler": config.scheduler_config.get_scheduler_cls().__module__,
        "block_size": config.cache_config.block_size,
        "is_diffusion": config.model_config.is_diffusion,
        "plugin": "vllm_diffusion.plugin" in sys.modules,
        "worker": llm.collective_rpc(worker_facts)[0],
    }
    del llm
    facts["embeddings"] = embeddings(model)
    print("FACTS " + json.dumps(facts))


if __name__ == "__main__":
    main(sys.argv[1])
