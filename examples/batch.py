"""Answer a file of prompts offline; a run that was stopped goes on where it was.

    python examples/batch.py prompts.jsonl answers.jsonl [--model DIR]

A line of the prompts is ``{"id": ..., "prompt": ...}``, one of the answers
``{"id": ..., "text": ..., "tokens": ..., "forwards": ...}``. Lines of the answers are whole,
whenever a run was stopped.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tqdm import tqdm
from vllm import LLM, SamplingParams

from vllm_diffusion.metrics import decode_metrics

TINY = Path(__file__).parent / "models" / "tiny-diffusion"


def read(path: Path) -> Iterator[dict[str, Any]]:
    """Whole lines; one that a stopped run has begun is none."""
    if path.exists():
        for line in path.read_text(encoding="utf-8").splitlines(keepends=True):
            if line.endswith("\n"):
                yield json.loads(line)


def keep_whole_lines(path: Path) -> None:
    """Cut off what a stopped run has begun to write."""
    if path.exists():
        text = path.read_bytes()
        path.write_bytes(text[: text.rfind(b"\n") + 1])


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("prompts", type=Path)
    parser.add_argument("answers", type=Path)
    parser.add_argument("--model", default=str(TINY), help="a folder or a name on the Hub")
    parser.add_argument("--at-once", type=int, default=256, help="prompts between two writes")
    parser.add_argument("--max-tokens", type=int, default=160)
    arguments = parser.parse_args()
    keep_whole_lines(arguments.answers)
    done = {row["id"] for row in read(arguments.answers)}
    left = [row for row in read(arguments.prompts) if row["id"] not in done]
    print(f"{len(done)} answered before, {len(left)} to go")
    if not left:
        return
    memory = {"kv_cache_memory_bytes": 256 << 20} if arguments.model == str(TINY) else {}
    llm = LLM(arguments.model, max_model_len=1024, **memory)
    params = SamplingParams(temperature=0, max_tokens=arguments.max_tokens)
    num_tokens = num_forwards = 0
    with arguments.answers.open("a", encoding="utf-8") as file, tqdm(total=len(left)) as bar:
        for first in range(0, len(left), arguments.at_once):
            rows = left[first : first + arguments.at_once]
            chats: Any = [[{"role": "user", "content": row["prompt"]}] for row in rows]
            for row, output in zip(rows, llm.chat(chats, params, use_tqdm=False), strict=True):
                cost = decode_metrics(output.outputs[0])
                num_tokens += cost.num_tokens
                num_forwards += cost.num_forwards
                answer = {
                    "id": row["id"],
                    "text": output.outputs[0].text,
                    "tokens": cost.num_tokens,
                    "forwards": cost.num_forwards,
                }
                file.write(json.dumps(answer, ensure_ascii=False) + "\n")
            file.flush()
            bar.update(len(rows))
            bar.set_postfix(tokens_per_forward=f"{num_tokens / num_forwards:.2f}")


if __name__ == "__main__":
    main()
