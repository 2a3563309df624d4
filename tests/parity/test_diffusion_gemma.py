"""DiffusionGemma as vLLM serves it, on this package's CPU kernels: equal to plain torch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

pytest.importorskip("vllm", reason="the engine is vLLM's")

from vllm.platforms import current_platform
from vllm.triton_utils import HAS_TRITON

from tests.checkpoints import diffusion_gemma
from tests.parity.cases import MIN_SLACK, random_tokens
from tests.parity.engines import Engine, EnginePool
from tests.parity.references.diffusion_gemma import FixedNoise, GlobalNoise, Model, generate

CANVAS = diffusion_gemma.CONFIG["canvas_length"]
VOCAB = diffusion_gemma.TEXT["vocab_size"]

needs_cpu = pytest.mark.skipif(
    HAS_TRITON or not current_platform.is_cpu(), reason="vLLM serves it alone where it has Triton"
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return diffusion_gemma.write(tmp_path_factory.mktemp("diffusion-gemma"))


@pytest.fixture(scope="module")
def model(folder: Path) -> Model:
    return Model(folder)


@pytest.fixture
def eager() -> Iterator[None]:
    """Compiled, vLLM's sampler would draw from inductor's generator instead of torch's."""
    with torch.compiler.set_stance("force_eager"):
        yield


@pytest.fixture
def noise() -> FixedNoise:
    """The same draws for every request and step."""
    return FixedNoise(CANVAS, VOCAB, seed=0)


@contextmanager
def drawing(noise: FixedNoise) -> Iterator[None]:
    """Give ``noise`` to vLLM's sampler too."""

    def randint(low: int, high: int, size: Sequence[int], **options: Any) -> Tensor:
        return noise.tokens.expand(size).to(options["dtype"])

    def rand_like(rows: Tensor) -> Tensor:
        return noise.chances.repeat(len(rows) // CANVAS, 1)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch, "randint", randint)
        patch.setattr(torch, "rand_like", rand_like)
        yield


Prompt = Sequence[int]


def serve(
    engine: Engine, prompts: Sequence[Prompt], *, every: int = 0, **sampling: Any
) -> list[list[int]]:
    """The requests' tokens; a new request ``every`` so many steps."""
    for number, prompt in enumerate(prompts):
        engine.add(str(number), prompt, **{"ignore_eos": True} | sampling)
        for _ in range(every):
            engine.step()
    engine.drain()
    return [list(engine.finished[str(n)].outputs[0].token_ids) for n in range(len(prompts))]


class Case(NamedTuple):
    """A request, and the reference's answer."""

    prompt: Prompt
    seed: int
    tokens: list[int]
    steps: list[int]


def clear(
    model: Model, length: int, max_tokens: int, noise: GlobalNoise, steps: int | None = None
) -> Case:
    """The first random prompt of ``length`` without a near-tie in its answer."""
    for seed in count():
        prompt = random_tokens(length, seed)
        torch.manual_seed(seed)
        tokens, counts, slack = generate(model, prompt, max_tokens, noise, steps)
        if slack >= MIN_SLACK:
            return Case(prompt, seed, tokens, counts)
    raise AssertionError


@needs_cpu
@pytest.mark.usefixtures("eager")
@pytest.mark.parametrize("length", [1, 5, 16, 31, 64, 100])
def test_generation(length: int, folder: Path, model: Model, engines: EnginePool) -> None:
    """Same seed, same draws in the same order: equal tokens and forwards."""
    case = clear(model, length, 40, GlobalNoise())
    engine = engines(folder)
    torch.manual_seed(case.seed)
    assert serve(engine, [case.prompt], max_tokens=40) == [case.tokens]
    # One forward for the prompt, one a denoising step, one to commit each canvas.
    assert engine.num_forwards == 1 + sum(case.steps) + len(case.steps)


def test_canvases_settle_early(model: Model) -> None:
    """Or the stopping rule would not be tried above."""
    steps = {n for length in (1, 5) for n in clear(model, length, 40, GlobalNoise()).steps}
    assert len(steps) > 2
    assert min(steps) < model.generation["max_denoising_steps"]


@needs_cpu
@pytest.mark.usefixtures("eager")
@pytest.mark.parametrize(("every", "options"), [(0, {}), (3, {"max_num_batched_tokens": 48})])
def test_batch(
    every: int,
    options: dict[str, Any],
    folder: Path,
    model: Model,
    engines: EnginePool,
    noise: FixedNoise,
) -> None:
    """A request's tokens do not depend on who shares its steps, on chunks or on cached pages."""
    cases = [clear(model, length, 40, noise) for length in (3, 90, 16, 33, 57, 1)]
    engine = engines(folder, **options)
    for _ in range(2):
        with drawing(noise):
            got = serve(engine, [case.prompt for case in cases], every=every, max_tokens=40)
        assert got == [case.tokens for case in cases]
    assert engine.finished["1"].num_cached_tokens > 0


@needs_cpu
@pytest.mark.usefixtures("eager")
def test_preemption(folder: Path, model: Model, engines: EnginePool, noise: FixedNoise) -> None:
    """A request that has to give up its first canvas starts again, and ends the same."""
    cases = [clear(model, length, 40, noise) for length in (60, 61, 62)]
    engine = engines(folder, max_model_len=160, num_gpu_blocks_override=20)
    with drawing(noise):
        got = serve(engine, [case.prompt for case in cases], max_tokens=40)
    assert got == [case.tokens for case in cases]
    assert engine.preempted


@needs_cpu
@pytest.mark.usefixtures("eager")
def test_options(folder: Path, model: Model, engines: EnginePool, noise: FixedNoise) -> None:
    """A request's own step cap, log probabilities, and a stop token inside of a canvas."""
    case = clear(model, 20, 40, noise, steps=2)
    options = {"max_tokens": 40, "extra_args": {"diffusion_max_steps": 2}}
    engine = engines(folder)
    with drawing(noise):
        assert serve(engine, [case.prompt], logprobs=2, **options) == [case.tokens]
        reported = engine.finished["0"].outputs[0].logprobs
        stop = case.tokens[20]
        cut = serve(engine, [case.prompt], stop_token_ids=[stop], **options)
    assert cut == [case.tokens[: case.tokens.index(stop) + 1]]
    assert len(reported) == len(case.tokens)
    for token, row in zip(case.tokens, reported, strict=True):
        assert row[token].rank == 1
        assert row[token].logprob == max(entry.logprob for entry in row.values())


@needs_cpu
@pytest.mark.slow
def test_compiled_sampler(folder: Path, model: Model, engines: EnginePool) -> None:
    """As served: one step on a given canvas draws nothing that could show in the answer."""
    prompt, canvas = random_tokens(20, 0), random_tokens(CANVAS, 1)
    with torch.inference_mode():
        logits = model.logits(model.context(prompt), torch.tensor(canvas))
    extra = {"diffusion_max_steps": 1, "diffusion_seed_canvas": list(canvas)}
    got = serve(engines(folder), [prompt], max_tokens=CANVAS, extra_args=extra)
    assert got == [logits.argmax(-1).tolist()]


@needs_cpu
def test_images_are_refused(folder: Path, engines: EnginePool) -> None:
    engine = engines(folder)
    prompt = {"prompt_token_ids": [3], "multi_modal_data": {"image": torch.zeros(3, 8, 8)}}
    with pytest.raises(ValueError, match="text-only models"):
        engine.llm.generate(prompt)


@pytest.mark.parametrize("length", [5, 24, 60])
def test_network_is_that_of_transformers(length: int, folder: Path) -> None:
    """The yardstick's own check: encoder, decoder and self-conditioning."""
    from transformers import DiffusionGemmaConfig, DiffusionGemmaForBlockDiffusion

    oracle = DiffusionGemmaForBlockDiffusion(DiffusionGemmaConfig.from_pretrained(folder)).eval()
    unknown = oracle.load_state_dict(load_file(folder / "model.safetensors"), strict=False)
    assert not unknown.unexpected_keys
    oracle.tie_weights()
    model = Model(folder, one_window=True)
    prompt, canvas = (torch.tensor(random_tokens(n, 0)) for n in (length, CANVAS))
    for earlier in (None, torch.randn(CANVAS, VOCAB)):
        probs = None if earlier is None else earlier.softmax(-1)
        with torch.inference_mode():
            expected = oracle(
                input_ids=prompt[None],
                decoder_input_ids=canvas[None],
                self_conditioning_logits=None if earlier is None else earlier[None],
            ).logits[0]
            logits = model.logits(model.context(prompt.tolist()), canvas, probs)
        torch.testing.assert_close(logits, expected, rtol=0, atol=2e-4)
