"""The bundled model: trained weights, a tokenizer, chat prompts, its own defaults."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.parity.cases import Case, Rule, Yardstick
from tests.parity.engines import Engine, EnginePool, Outcome

FOLDER = Path(__file__).resolve().parents[2] / "examples" / "models" / "tiny-diffusion"
OPTIONS: dict[str, Any] = {"skip_tokenizer_init": False, "max_model_len": 512}

pytestmark = pytest.mark.skipif(
    not (FOLDER / "model.safetensors").exists(), reason="examples/models/tiny-diffusion is missing"
)

QUESTIONS = (
    "hello",
    "What is 17 + 25?",
    "Write a function that adds two numbers.",
    "Sort these words: pear, apple, fig",
    "Repeat after me: the quick brown fox jumps over the lazy dog.",
    'Answer in JSON: {"name": "Ada", "age": 36}',
    "SELECT the oldest user",
    "Count from one to twenty.",
)

# Besides the checkpoint's own, which is what a request without fields gets.
OTHERS = (Rule("confidence", 0.8), Rule("static", max_steps=6), Rule("entropy"), Rule("margin"))

Yardsticks = Callable[[Path], Yardstick]


def default_rule() -> Rule:
    """What the checkpoint's ``generation_config.json`` says."""
    said = json.loads((FOLDER / "generation_config.json").read_text())
    return Rule(said.get("diffusion_policy"), said.get("diffusion_threshold"))


def chats(engine: Engine) -> list[tuple[int, ...]]:
    tokenizer = engine.llm.get_tokenizer()
    return [
        tuple(
            tokenizer.apply_chat_template(
                [{"role": "user", "content": question}],
                add_generation_prompt=True,
                return_dict=False,
            )
        )
        for question in QUESTIONS
    ]


def test_chats_by_default(engines: EnginePool, yardstick: Yardsticks) -> None:
    """Requests without a field, through ``LLM.chat``."""
    from vllm import SamplingParams

    reference, engine = yardstick(FOLDER), engines(FOLDER, **OPTIONS)
    prompts = chats(engine)
    outputs = engine.llm.chat(
        [[{"role": "user", "content": question}] for question in QUESTIONS],
        SamplingParams(temperature=0.0, max_tokens=80),
        use_tqdm=False,
    )
    assert [tuple(output.prompt_token_ids) for output in outputs] == prompts
    cases = [Case(prompt=p, max_tokens=80, block=16, rule=default_rule()) for p in prompts]
    outcomes = [Outcome.of(output, output.outputs[0]) for output in outputs]
    clear = reference.only_clear(cases)
    reference.compare(clear, [outcomes[cases.index(case)] for case in clear])
    tokenizer = engine.llm.get_tokenizer()
    for output in outputs:
        answer = output.outputs[0]
        assert answer.text == tokenizer.decode(answer.token_ids, skip_special_tokens=True)


def test_stop_strings(engines: EnginePool, yardstick: Yardsticks) -> None:
    """Found in the front end, in the middle of a block; the others in the batch go on."""
    reference, engine = yardstick(FOLDER), engines(FOLDER, **OPTIONS)
    tokenizer = engine.llm.get_tokenizer()
    rule = default_rule()
    cases = [
        Case(prompt=prompt, max_tokens=60, block=16, rule=rule, ignore_eos=True)
        for prompt in chats(engine)
    ]
    cases = reference.only_clear(cases)
    texts = [tokenizer.decode(reference(case).tokens, skip_special_tokens=True) for case in cases]
    stops = [text[len(text) // 2 :][:3] or "never" for text in texts]
    for number, (case, stop) in enumerate(zip(cases, stops, strict=True)):
        engine.add(str(number), case.prompt, **case.arguments())
        engine.add(f"stop-{number}", case.prompt, stop=stop, detokenize=True, **case.arguments())
    engine.drain()
    reference.compare(cases, [engine.outcomes(str(number))[0] for number in range(len(cases))])
    for number, (text, stop) in enumerate(zip(texts, stops, strict=True)):
        answer = engine.finished[f"stop-{number}"].outputs[0]
        assert answer.text == text.split(stop)[0]
        assert answer.finish_reason == ("stop" if stop in text else "length")
    assert sum(stop != "never" for stop in stops) > len(stops) // 2


def test_every_policy(engines: EnginePool, yardstick: Yardsticks) -> None:
    """And shorter blocks than it was trained with; staggered, and with ends of all kinds."""
    reference, engine = yardstick(FOLDER), engines(FOLDER, **OPTIONS)
    rules = (default_rule(), *OTHERS)
    cases = [
        Case(
            prompt=prompt,
            max_tokens=20 + number,
            block=(16, 16, 8, 4)[number % 4],
            served=16,
            rule=rules[number % len(rules)],
            ignore_eos=number % 3 == 0,
        )
        for number, prompt in enumerate(chats(engine) * 3)
    ]
    cases = reference.only_clear(cases)
    reference.compare(cases, engine.run(cases, every=1))
