"""Wrong tokens in the middle of a block: edits mend them, in bounded time, and unseen."""

from __future__ import annotations

from itertools import chain, count

import pytest
from safetensors.torch import load_file, save_file

from tests.parity.cases import random_tokens
from tests.parity.engines import Engine
from tests.parity.families import Mode, edits
from tests.parity.family_bench import LLADA2, FamilyBench, make_bench

bench = pytest.fixture(scope="module")(make_bench)

BLOCK = LLADA2.block
MAX_POST_STEPS = 3
# One token a step is accepted, and every token that the model would not say is edited.
MODE = edits(1.0, 0.0, MAX_POST_STEPS)
# Tokens of prompts are below, those of answers are not.
BORDER = 250


@pytest.fixture(scope="module")
def stubborn(bench: FamilyBench, tmp_path_factory: pytest.TempPathFactory) -> Engine:
    """A model whose text follows from the prompt alone, whatever stands in the canvas.

    It cannot tell the tokens of answers from each other, nor from the mask.
    """
    folder = LLADA2.write(tmp_path_factory.mktemp("stubborn"))
    weights = load_file(folder / "model.safetensors")
    weights["model.word_embeddings.weight"][BORDER:] = weights["model.word_embeddings.weight"][-1]
    weights["lm_head.weight"][:BORDER] = 0
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    bench.engine(LLADA2)
    return bench.engines(folder, **LLADA2.engine_options)


class Worker:
    """What the worker holds of the only request."""

    def __init__(self, engine: Engine) -> None:
        runner = engine.core.model_executor.driver_worker.worker.model_runner
        (slot,) = runner.model_state.slot_of.values()
        canvas = runner.model_state.sampler.canvas
        self.tokens, self.masked = canvas.tokens_SL[slot], canvas.masked_SL[slot]
        length = int(runner.req_states.total_len.gpu[slot])
        self.text = runner.req_states.all_token_ids.gpu[slot, :length].tolist()

    def plant(self) -> int:
        """Put another token of answers in the place of each accepted one; returns how many."""
        wrong = (self.tokens - BORDER + 7) % (LLADA2.mask_id - BORDER) + BORDER
        self.tokens.copy_(wrong.where(~self.masked, self.tokens))
        return int((~self.masked).sum())


def answer(engine: Engine, prompt: tuple[int, ...], mode: Mode, sabotage: range) -> list[int]:
    """The streamed pieces, put together; wrong tokens are planted after steps in ``sabotage``."""
    from vllm.sampling_params import RequestOutputKind

    from vllm_diffusion.metrics import decode_metrics

    engine.fresh()
    extra = {f"diffusion_{key}": value for key, value in mode.fields.items()}
    said = {"max_tokens": 3 * BLOCK, "ignore_eos": True, "extra_args": extra}
    engine.add("0", prompt, temperature=0.0, output_kind=RequestOutputKind.DELTA, **said)
    pieces: list[list[int]] = []
    num_planted = 0
    for step in count():
        outputs = engine.engine.step()
        pieces += [list(output.outputs[0].token_ids) for output in outputs]
        if not engine.engine.has_unfinished_requests():
            break
        worker = Worker(engine)
        assert worker.text == [*prompt, *chain(*pieces)], "what was seen is what is read"
        if step in sabotage and not outputs:
            num_planted += worker.plant()
    metrics = decode_metrics(outputs[0].outputs[0])
    assert max(metrics.blocks_by_steps) <= BLOCK + MAX_POST_STEPS + 1
    assert [len(piece) for piece in pieces] == piece_lengths(len(prompt))
    assert num_planted or not sabotage
    return list(chain(*pieces))


def piece_lengths(num_prompt: int) -> list[int]:
    """Of whole blocks, the first and the last of which may be cut."""
    first = BLOCK - num_prompt % BLOCK
    left = 3 * BLOCK - first
    return [first, *[BLOCK] * (left // BLOCK), *[left % BLOCK] * (left % BLOCK > 0)]


@pytest.mark.parametrize("length", [16, 21])
def test_edits_mend_what_was_planted(length: int, stubborn: Engine) -> None:
    prompt = tuple(token % BORDER for token in random_tokens(length, 0))
    undisturbed = answer(stubborn, prompt, MODE, range(0))
    assert len(set(undisturbed)) > 5
    # The step that emits a block edits it first, so it may come too late for no planted token.
    for sabotage in (range(1), range(5, 6), range(5, 9), range(1000)):
        assert answer(stubborn, prompt, MODE, sabotage) == undisturbed, sabotage


def test_without_edits_it_stays(stubborn: Engine) -> None:
    """So the planted tokens were there, and are what the text would have been."""
    prompt = tuple(token % BORDER for token in random_tokens(16, 0))
    undisturbed = answer(stubborn, prompt, MODE, range(0))
    never = edits(1.0, 1.0, MAX_POST_STEPS)
    assert answer(stubborn, prompt, never, range(0)) == undisturbed
    disturbed = answer(stubborn, prompt, never, range(3, 4))
    assert [a != b for a, b in zip(undisturbed, disturbed, strict=True)].count(True) == 4


def test_a_block_that_never_comes_to_rest(bench: FamilyBench) -> None:
    """Something is wrong in every step: the bound on steps ends the block, whatever it holds."""
    engine = bench.engine(LLADA2)
    for length in (16, 21):
        answer(engine, random_tokens(length, 0), edits(0.5, 0.0, MAX_POST_STEPS), range(1000))
