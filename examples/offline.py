"""A batch of prompts without a server: texts, and what they cost.

    python examples/offline.py [--model DIR] [--threshold 0.9] [--max-tokens 128] [PROMPT ...]

A lower threshold accepts more tokens in a step: faster, and less careful.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from vllm import LLM, SamplingParams

from vllm_diffusion.metrics import decode_metrics

TINY = Path(__file__).parent / "models" / "tiny-diffusion"
PROMPTS = [  # The bundled model does eleven small tasks; see benchmarks/tiny/README.md.
    "Write a thank letter: sender eva, to omar, item lamp, city oslo, day friday.",
    "Convert this CSV to JSON:\ncity,age\nrome,31\nlima,57",
    "Spell the digits of 96, 70, 15, 38, 42.",
    "Write a function moon that adds lamp, pear, melon.",
]


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("prompts", nargs="*", default=PROMPTS, metavar="PROMPT")
    parser.add_argument("--model", default=str(TINY), help="a folder or a name on the Hub")
    parser.add_argument("--threshold", type=float, help="default: the checkpoint's own")
    parser.add_argument("--max-tokens", type=int, default=128)
    return parser.parse_args()


def main() -> None:
    arguments = parse()
    # Memory for the KV cache is set aside at the start; the bundled model needs little.
    memory = {"kv_cache_memory_bytes": 256 << 20} if arguments.model == str(TINY) else {}
    llm = LLM(arguments.model, max_model_len=1024, **memory)

    decode = {} if arguments.threshold is None else {"diffusion_threshold": arguments.threshold}
    params = SamplingParams(
        temperature=0, max_tokens=arguments.max_tokens, extra_args=decode or None
    )
    conversations = [[{"role": "user", "content": prompt}] for prompt in arguments.prompts]
    start = time.perf_counter()
    outputs = llm.chat(conversations, params)  # with a progress bar
    seconds = time.perf_counter() - start

    num_tokens = num_forwards = 0
    for prompt, output in zip(arguments.prompts, outputs, strict=True):
        (completion,) = output.outputs
        metrics = decode_metrics(completion)
        num_tokens += metrics.num_tokens
        num_forwards += metrics.num_forwards
        print(f"\n> {prompt}\n{completion.text.strip()}")
        print(
            f"  [{metrics.num_tokens} tokens in {metrics.num_forwards} forwards: "
            f"{metrics.tokens_per_forward:.2f} a forward; "
            f"blocks by steps: {metrics.blocks_by_steps}]"
        )
    print(
        f"\n{num_tokens} tokens in {seconds:.2f} s, {num_tokens / num_forwards:.2f} a forward "
        "(one, if a model is autoregressive)"
    )


if __name__ == "__main__":
    main()
