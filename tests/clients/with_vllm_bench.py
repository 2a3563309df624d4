"""``vllm bench serve``, in the environment of the server itself."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from checks import CHATS, MODEL, URL, all_right, told

VLLM = Path(sys.executable).with_name("vllm")
PLACE = Path(sys.argv[2]).parent / "vllm_bench"
SECONDS = 120
MODEL_FOLDER = Path("examples/models") / MODEL


def measured(backend: str, endpoint: str, *options: str) -> dict[str, Any]:
    """What it saves of a run."""
    command = (
        *(str(VLLM), "bench", "serve", "--backend", backend, "--base-url", URL),
        *("--endpoint", endpoint, "--model", MODEL, "--tokenizer", str(MODEL_FOLDER)),
        *("--save-result", "--save-detailed", "--result-dir", str(PLACE), "--disable-tqdm"),
        *("--result-filename", f"{backend}.json", "--temperature", "0", *options),
        *("--ready-check-timeout-sec", "10"),
    )
    done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS)
    if done.returncode:
        raise RuntimeError(done.stderr.strip().splitlines()[-1])
    result: dict[str, Any] = json.loads((PLACE / f"{backend}.json").read_text())
    return result


def answered() -> bool:
    """Its prompts are ours, and so are the answers that it saves."""
    PLACE.mkdir(parents=True, exist_ok=True)
    prompts = PLACE / "prompts.json"
    # ShareGPT's form: other files of prompts need pandas, which a server does not.
    talks = [[{"value": one["question"]}, {"value": one["answer"]}] for one in CHATS]
    prompts.write_text(json.dumps([{"conversations": talk} for talk in talks]))
    result = measured(
        "openai-chat",
        "/v1/chat/completions",
        *("--dataset-name", "sharegpt", "--dataset-path", str(prompts), "--disable-shuffle"),
        *("--sharegpt-output-len", "160", "--num-prompts", str(len(CHATS))),
    )
    answers = dict(zip((one["question"] for one in CHATS), result["generated_texts"], strict=True))
    return bool(result["failed"] == 0) and all_right(answers.get)


def completed() -> bool:
    """Random tokens: every request is served, and told with its tokens."""
    num = 8
    result = measured(
        "openai",
        "/v1/completions",
        *("--dataset-name", "random", "--random-input-len", "32", "--random-output-len", "32"),
        *("--num-prompts", str(num), "--ignore-eos"),
    )
    told_tokens = result["total_output_tokens"] == num * 32
    return bool(result["completed"] == num and result["failed"] == 0 and told_tokens)


told("vllm", {"chat, streamed": answered, "completions, random tokens": completed})
