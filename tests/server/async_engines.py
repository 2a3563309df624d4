"""``AsyncLLM`` with two engines, in a process of its own.

Requests name their engine. The first round leaves the second one idle.
"""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path
from typing import Any

from tests.server import limits
from tests.server.forked import fork_engines, write_to


def answer(folder: str, prompts: list[list[int]], max_tokens: int, answers: str, log: str) -> None:
    """In the forked process: write the tokens of each prompt, of both rounds."""
    os.setsid()
    write_to(log)
    fork_engines()
    tokens = asyncio.run(_rounds(folder, prompts, max_tokens))
    Path(answers).write_text(json.dumps(tokens))


async def _rounds(folder: str, prompts: list[list[int]], max_tokens: int) -> list[list[list[int]]]:
    from vllm import AsyncEngineArgs, SamplingParams
    from vllm.v1.engine.async_llm import AsyncLLM

    engine = AsyncLLM.from_engine_args(
        AsyncEngineArgs(
            model=folder,
            data_parallel_size=2,
            distributed_executor_backend="uni",
            dtype="float32",
            enforce_eager=True,
            max_model_len=limits.MAX_MODEL_LEN,
            kv_cache_memory_bytes=16 << 20,
            diffusion_config={"canvas_length": limits.BLOCK_LENGTH},
            additional_config={
                "diffusion": {"policy": limits.POLICY, "threshold": limits.THRESHOLD}
            },
        )
    )
    params = SamplingParams(temperature=0, max_tokens=max_tokens)

    async def ask(name: str, prompt: list[int], rank: int) -> list[int]:
        found: list[int] = []
        request: Any = {"prompt_token_ids": prompt}
        async for output in engine.generate(request, params, name, data_parallel_rank=rank):
            found = list(output.outputs[0].token_ids)
        return found

    try:
        rounds = []
        for ranks in ((0,), (0, 1)):
            calls = [
                ask(f"{len(ranks)}-{n}", prompt, ranks[n % len(ranks)])
                for n, prompt in enumerate(prompts)
            ]
            rounds.append(list(await asyncio.gather(*calls)))
        return rounds
    finally:
        engine.shutdown()
