"""Ray Data: the prompts of a folder of JSONL through several engines, resumed where it was killed.

    python examples/ray/batch_ray_data.py PROMPTS ANSWERS [--model DIR] [--workers 2] [--batch 64]
        [--sampling '{"temperature": 0, "max_tokens": 128}'] [--engine '{"max_model_len": 1024}']

PROMPTS holds *.jsonl: `{"prompt": "..."}` or `{"messages": [...]}` a line, with an `id` of its own
(FILE:LINE if it has none) and, if it likes, `"sampling": {...}` beside the command's; `diffusion_*`
fields stand in its `extra_args`. ANSWERS/parts gets a file a batch, which is there whole or not at
all; what is in them is not computed again. In the end ANSWERS/answers.jsonl has each line once, in
the order of the prompts. A prompt that is refused has an `error` there instead of a text.

Each worker is one Ray actor with an engine in it, on any node of the cluster (RAY_ADDRESS; a
cluster of its own if there is none). One that dies is started again, and its batch is repeated.
ANSWERS has to be the same folder on every node. `--workers 0` computes in this process, without
Ray. Needs `pip install 'vllm-diffusion[data]'`.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

TINY = Path(__file__).resolve().parents[1] / "models" / "tiny-diffusion"
SAY_SECONDS = 5.0
Row = dict[str, Any]


class Worker:
    """One engine; `__call__` is what Ray Data gives a batch to."""

    def __init__(self, model: str, engine: Row, sampling: Row, parts: str) -> None:
        # An actor is a process of its own already.
        os.environ.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "0")
        from vllm import LLM

        self.llm = LLM(model, **engine)
        self.sampling, self.parts = sampling, Path(parts)

    def __call__(self, batch: Row) -> Row:
        """Answer a batch of lines and write it; its ids."""
        ids, lines = [str(each) for each in batch["id"]], batch["line"]
        rows = [json.loads(str(line)) for line in lines]
        answers = self.answer(rows)
        text = "".join(
            json.dumps({"id": name, **answer}, ensure_ascii=False) + "\n"
            for name, answer in zip(ids, answers, strict=True)
        )
        # A batch that is repeated writes the same file again.
        name = hashlib.sha256("\n".join(ids).encode()).hexdigest()[:24]
        write_whole(self.parts / f"{name}.jsonl", text)
        return {"id": batch["id"]}

    def answer(self, rows: Sequence[Row]) -> list[Row]:
        """What the engine says to each row; an error where it refuses one."""
        try:
            return self.ask(rows)
        except (ValueError, TypeError) as error:  # what is wrong with a request
            if len(rows) == 1:
                return [{"error": str(error)}]
            return [self.answer([row])[0] for row in rows]

    def ask(self, rows: Sequence[Row]) -> list[Row]:
        from vllm import SamplingParams
        from vllm.sampling_params import StructuredOutputsParams

        def params(row: Row) -> SamplingParams:
            said = self.sampling | row.get("sampling", {})
            if form := said.get("structured_outputs"):
                said["structured_outputs"] = StructuredOutputsParams(**form)
            return SamplingParams(**said)

        chats = [
            row.get("messages") or [{"role": "user", "content": row["prompt"]}] for row in rows
        ]
        outputs = self.llm.chat(chats, [params(row) for row in rows], use_tqdm=False)
        answers = []
        for output in outputs:
            (done,) = output.outputs
            reason = done.finish_reason
            if reason == "error":
                answers.append({"error": str(done.stop_reason)})
            else:
                answers.append({"text": done.text, "finish_reason": reason})
        return answers


def write_whole(path: Path, text: str) -> None:
    """A reader sees all of it, or the file that was there before."""
    beside = path.with_suffix(f".{os.getpid()}.tmp")
    with beside.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    beside.replace(path)


def read_prompts(folder: Path) -> Iterator[Row]:
    """Every line of every file, with its id.

    Raises:
        SystemExit: a line that is no prompt, or an id that is there twice.
    """
    seen: set[str] = set()
    for path in sorted(folder.glob("*.jsonl")):
        with path.open(encoding="utf-8") as file:
            for number, line in enumerate(file, 1):
                where = f"{path.name}:{number}"
                if not line.strip():
                    continue
                try:
                    row = json.loads(line)
                    if not isinstance(row, dict) or not ({"prompt", "messages"} & row.keys()):
                        raise ValueError("it has neither a prompt nor messages")
                except ValueError as error:
                    raise SystemExit(f"{where} is no prompt: {error}") from None
                name = str(row.get("id", where))
                if name in seen:
                    raise SystemExit(f"{where} has the id {name!r}, as another line has")
                seen.add(name)
                yield {"id": name, "line": line}


def read_answers(parts: Path) -> dict[str, str]:
    """Lines that are there, by id."""
    lines: dict[str, str] = {}
    for path in sorted(parts.glob("*.jsonl")):
        for line in path.read_text(encoding="utf-8").splitlines():
            lines[json.loads(line)["id"]] = line
    return lines


def batches_of(pending: Sequence[Row], arguments: argparse.Namespace, parts: Path) -> Iterator[int]:
    """Compute all of it; the size of each batch that is written."""
    made = (arguments.model, arguments.engine, arguments.sampling, str(parts))
    if arguments.workers == 0:
        worker = Worker(*made)
        for start in range(0, len(pending), arguments.batch):
            rows = pending[start : start + arguments.batch]
            worker({key: [row[key] for row in rows] for key in ("id", "line")})
            yield len(rows)
        return
    import ray

    ray.init(log_to_driver=arguments.verbose, logging_level="warning")
    ray.data.DataContext.get_current().enable_progress_bars = False
    num_blocks = max(1, -(-len(pending) // arguments.batch))
    done = ray.data.from_items(list(pending), override_num_blocks=num_blocks).map_batches(
        Worker,
        fn_constructor_args=made,
        batch_size=arguments.batch,
        batch_format="numpy",
        compute=ray.data.ActorPoolStrategy(size=arguments.workers),
        num_cpus=1,
        num_gpus=arguments.gpus,
    )
    for batch in done.iter_batches(batch_size=None, batch_format="numpy", prefetch_batches=0):
        yield len(batch["id"])


def compute(pending: Sequence[Row], arguments: argparse.Namespace, parts: Path) -> None:
    """Say now and then how far it is."""
    begin = said = time.monotonic()
    num_done = 0
    for size in batches_of(pending, arguments, parts):
        num_done += size
        now = time.monotonic()
        if now - said > SAY_SECONDS or num_done == len(pending):
            rate, said = num_done / (now - begin), now
            left = (len(pending) - num_done) / rate
            print(
                f"{num_done} of {len(pending)}, {rate:.1f} a second, {left:.0f} s left", flush=True
            )


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("prompts", type=Path)
    add("answers", type=Path)
    add("--model", default=str(TINY), help="a folder that every node has, or a name on the Hub")
    add("--workers", type=int, default=2, help="engines; 0 computes in this process")
    add("--gpus", type=float, default=0, help="of each engine")
    add("--batch", type=int, default=64, help="prompts of one part")
    add("--sampling", type=json.loads, default={"temperature": 0, "max_tokens": 128})
    add("--engine", type=json.loads, default={}, help="options, as LLM() takes them")
    add("--verbose", action="store_true", help="show what the workers say")
    return parser.parse_args()


def main() -> None:
    arguments = parse()
    parts = arguments.answers.resolve() / "parts"
    parts.mkdir(parents=True, exist_ok=True)
    prompts = list(read_prompts(arguments.prompts))
    known = read_answers(parts)
    pending = [row for row in prompts if row["id"] not in known]
    print(f"{len(prompts)} prompts, {len(prompts) - len(pending)} answered before", flush=True)
    if pending:
        compute(pending, arguments, parts)
    lines = read_answers(parts)
    missing = [row["id"] for row in prompts if row["id"] not in lines]
    if missing:
        raise SystemExit(f"{len(missing)} prompts have no answer, such as {missing[0]}")
    whole = [lines[row["id"]] for row in prompts]
    write_whole(arguments.answers / "answers.jsonl", "".join(f"{line}\n" for line in whole))
    num_errors = sum("error" in json.loads(line) for line in whole)
    print(
        f"{len(whole)} answers, {num_errors} of them errors, in {arguments.answers}/answers.jsonl"
    )


if __name__ == "__main__":
    main()
