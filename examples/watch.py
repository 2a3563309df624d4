"""How one text came about, step by step: a page to play with, and a moving picture.

python examples/watch.py [--model DIR] [--threshold 0.999] [--out FOLDER] [PROMPT]
"""

from __future__ import annotations

import argparse
from pathlib import Path

from vllm import LLM, SamplingParams

from vllm_diffusion.metrics import decode_metrics
from vllm_diffusion.trace import trace

TINY = Path(__file__).parent / "models" / "tiny-diffusion"


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "prompt", nargs="?", default="Write a function lemon that checks cup, lake, star."
    )
    parser.add_argument("--model", default=str(TINY), help="a folder or a name on the Hub")
    parser.add_argument("--threshold", type=float, default=0.999)
    parser.add_argument("--max-tokens", type=int, default=160)
    parser.add_argument("--out", type=Path, default=Path("."), help="where both files go")
    return parser.parse_args()


def main() -> None:
    arguments = parse()
    memory = {"kv_cache_memory_bytes": 256 << 20} if arguments.model == str(TINY) else {}
    llm = LLM(arguments.model, max_model_len=1024, **memory)
    params = SamplingParams(
        temperature=0,
        max_tokens=arguments.max_tokens,
        extra_args={"diffusion_threshold": arguments.threshold},
    )
    recorded = trace(llm, [{"role": "user", "content": arguments.prompt}], params)
    for name in ("watch.html", "watch.gif"):
        recorded.save(arguments.out / name)
    metrics = decode_metrics(recorded.output.outputs[0])
    print(recorded.text)
    print(f"{len(recorded.steps)} steps for {metrics.num_tokens} tokens: watch.html, watch.gif")


if __name__ == "__main__":
    main()
