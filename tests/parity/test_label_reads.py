"""Probabilities of options are the plain network's own: the chain rule, by brute force.

Every family, prompts around the borders of blocks, a whole trie in one batch. The yardstick
evaluates each token of each option by itself, and knows no trie.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import pytest
import torch

from tests.parity.cases import random_tokens
from tests.parity.engines import Engine, EnginePool
from tests.parity.families import FAMILIES, Family, FamilyYardstick
from tests.parity.references import block_causal, causal_context, masked_bound
from tests.parity.references.choose import Network, without
from vllm_diffusion.decisions.asked import Decision, Option, Question
from vllm_diffusion.decisions.reading import Asking, Read, Seen, spent_on
from vllm_diffusion.decisions.trie import Tokens, with_end
from vllm_diffusion.family import rows as families
from vllm_diffusion.mask_groups.block_causal import BlockCausal
from vllm_diffusion.mask_groups.full import Full

if TYPE_CHECKING:
    from vllm_diffusion.server.likelihood_bound import Share

NEAR: Any = {"abs": 1e-5, "rel": 1e-3}
STARTS = {"max_num_seqs": 16}


@torch.inference_mode()
def next_logs(
    yardstick: FamilyYardstick, family: Family, tokens: list[int], num_masks: int
) -> torch.Tensor:
    """Log-probabilities (V,) of the token behind ``tokens``, by the family's definition."""
    record, mask_id = families.FAMILIES[family.architecture], family.mask_id
    network: Network = yardstick.network
    num = len(tokens)
    if issubclass(record.mask_group, Full):
        canvas = tokens + [mask_id] * num_masks
        mask = torch.ones(len(canvas), len(canvas)).bool()
        logits = network.logits(canvas, mask)[num - record.logit_shift]
    elif issubclass(record.mask_group, BlockCausal):
        num_left = family.block - num % family.block
        is_seed = record.has_seed and num % family.block == 0
        canvas = tokens + [mask_id] * (0 if is_seed else num_left)
        mask = block_causal.block_causal_mask(len(canvas), family.block)
        blocks = torch.arange(len(canvas)) // family.block
        row = num - 1 if is_seed or record.logit_shift else num
        logits = network.logits(canvas, mask, blocks)[row]
    else:
        mask = causal_context.canvas_mask(num, num)
        logits = network.logits(tokens, mask)[-1]
    return without(mask_id, logits).log_softmax(-1)


def brute_force(
    yardstick: FamilyYardstick, family: Family, prompt: Sequence[int], options: Sequence[Tokens]
) -> list[float]:
    """Log-probability of each option: a forward for each of its tokens."""
    slots = max(map(len, options))
    return [
        sum(
            float(next_logs(yardstick, family, [*prompt, *option[:k]], slots - k)[token])
            for k, token in enumerate(option)
        )
        for option in options
    ]


def ask(engine: Engine, reads: Sequence[Read]) -> list[Seen]:
    """All reads at once."""
    from vllm_diffusion.server.label_reads import params_of, seen_of
    from vllm_diffusion.startup.serving import plan_of

    plan = plan_of(engine.engine.vllm_config.model_config)
    first: dict[str, Seen] = {}
    for number, read in enumerate(reads):
        params = params_of(read, plan)
        engine.engine.add_request(str(number), {"prompt_token_ids": list(read.prompt)}, params)
    while engine.engine.has_unfinished_requests():
        for output in engine.engine.step():
            if output.request_id not in first and output.outputs[0].token_ids:
                tokens = reads[int(output.request_id)].tokens
                first[output.request_id] = seen_of(output, tokens)
    return [first[str(number)] for number in range(len(reads))]


def asking_of(prompt: Sequence[int], options: Sequence[Tokens]) -> Asking:
    names = [str(i) for i in range(len(options))]
    question = Question(
        field="q",
        name="q",
        kind="choice",
        text="",
        type="choice",
        options=tuple(Option(name=name, value=name) for name in names),
    )
    return Asking.of(question, range(len(options)), prompt, names, options)


def compare(
    engine: Engine,
    yardstick: FamilyYardstick,
    family: Family,
    prompt: Sequence[int],
    asking: Asking,
) -> None:
    decision = Decision(
        shape="system_one", state="", state_field="state", questions=(asking.question,)
    )
    (answer,) = spent_on(decision, [asking], ask(engine, asking.reads()), {}).answers
    logs = brute_force(yardstick, family, prompt, asking.options)
    total = math.fsum(map(math.exp, logs))
    assert answer.label_mass == pytest.approx(total, **NEAR)
    assert answer.probabilities == pytest.approx([math.exp(log) / total for log in logs], **NEAR)


@pytest.fixture(scope="module", params=FAMILIES, ids=lambda family: family.architecture)
def served(
    request: pytest.FixtureRequest,
    engines: EnginePool,
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[Family, Callable[[], Engine], FamilyYardstick]:
    family: Family = request.param
    folder = family.write(tmp_path_factory.mktemp(family.architecture))
    engines.close()
    engine = engines(folder, **family.engine_options, **STARTS)
    return family, engine.fresh, FamilyYardstick(family, folder)


def lengths(family: Family) -> list[int]:
    """Around the borders of blocks and of a KV page."""
    block = min(family.block, 16)
    return sorted({1, block - 2, block - 1, block, block + 1, 31, 32, 45})


def test_labels_of_one_token(
    served: tuple[Family, Callable[[], Engine], FamilyYardstick],
) -> None:
    family, fresh, yardstick = served
    engine = fresh()
    for length in lengths(family):
        prompt = random_tokens(length, length)
        options = with_end([(token,) for token in random_tokens(5, 100 + length)], family.eos_id)
        assert all(len(option) == 1 for option in options)
        compare(engine, yardstick, family, prompt, asking_of(prompt, options))


def test_a_trie_of_options(
    served: tuple[Family, Callable[[], Engine], FamilyYardstick],
) -> None:
    """Options that begin alike, one that begins another, and more tokens than a block has left."""
    family, fresh, yardstick = served
    engine = fresh()
    a, b, c, d, e = random_tokens(5, 7)
    options = with_end([(a,), (a, b), (a, b, c), (d, e, a, b), (e, c)], family.eos_id)
    for length in lengths(family):
        prompt = random_tokens(length, 50 + length)
        asking = asking_of(prompt, options)
        assert len(asking.nodes) < sum(map(len, options)), "the trie shares reads"
        compare(engine, yardstick, family, prompt, asking)


def test_all_of_a_vocabulary(
    served: tuple[Family, Callable[[], Engine], FamilyYardstick],
) -> None:
    """More tokens than one read may ask for; together they are everything."""
    family, fresh, yardstick = served
    engine = fresh()
    prompt = random_tokens(19, 3)
    logs = next_logs(yardstick, family, list(prompt), 1)
    options = [(token,) for token in range(len(logs)) if token != family.mask_id]
    asking = asking_of(prompt, options)
    assert len(asking.nodes) > 1 or len(options) <= 128
    compare(engine, yardstick, family, prompt, asking)
    assert sum(math.exp(float(logs[token])) for (token,) in options) == pytest.approx(1, abs=1e-4)


def test_a_text_token_by_token(
    served: tuple[Family, Callable[[], Engine], FamilyYardstick],
) -> None:
    """Each token of a text, with what is behind it masked; and one more."""
    from vllm_diffusion.server.likelihood import reads_of

    family, fresh, yardstick = served
    engine = fresh()
    text = list(random_tokens(37, 11))
    *known, more = ask(engine, reads_of(text, 1))
    for k, seen in enumerate(known, start=1):
        logs = next_logs(yardstick, family, text[:k], len(text) - k)
        assert seen.logs[text[k]] == pytest.approx(float(logs[text[k]]), **NEAR)
        assert seen.top_log == pytest.approx(float(logs.max()), **NEAR)
    logs = next_logs(yardstick, family, text, 1)
    assert more.top_log == pytest.approx(float(logs.max()), **NEAR)


def bound_by(
    engine: Engine, text: list[int], cut: int | None, samples: int, seed: int
) -> list[Share | None]:
    """The bound's shares, read as the server reads them."""
    from vllm_diffusion.server.likelihood_bound import (
        WindowReader,
        by_token,
        num_windows,
        pieces_of,
        shares_of,
        windows_of,
    )
    from vllm_diffusion.startup.serving import plan_of

    plan = plan_of(engine.engine.vllm_config.model_config)
    reader = WindowReader(engine.engine, plan, "w")
    pieces = pieces_of(len(text), cut, plan)
    windows = [w for piece in pieces for w in windows_of(text, piece, samples, seed, plan)]
    assert len(windows) <= sum(num_windows(piece, samples, plan) for piece in pieces)
    for number, window in enumerate(windows):
        prompt = {"prompt_token_ids": reader.prompt(window)}
        engine.engine.add_request(str(number), prompt, reader.params(window))
    heard: dict[str, Any] = {}
    while engine.engine.has_unfinished_requests():
        for output in engine.engine.step():
            if output.request_id not in heard and output.outputs[0].token_ids:
                heard[output.request_id] = reader.seen(output, windows[int(output.request_id)])
    told = [heard[str(number)] for number in range(len(windows))]
    return by_token(len(text), cut, shares_of(text, windows, told))


def test_the_monte_carlo_bound(
    served: tuple[Family, Callable[[], Engine], FamilyYardstick],
) -> None:
    """Equal to plain loops, from a cut on and for every cut at once; or refused by name."""
    from vllm_diffusion.server.likelihood_fields import without_bound
    from vllm_diffusion.startup.serving import plan_of

    family, fresh, yardstick = served
    record, engine = families.FAMILIES[family.architecture], fresh()
    plan = plan_of(engine.engine.vllm_config.model_config)
    if record.has_seed or not issubclass(record.mask_group, (BlockCausal, Full)):
        assert record.title in without_bound(plan)
        return
    assert not without_bound(plan)
    block = family.block if issubclass(record.mask_group, BlockCausal) else None

    def wanted(text: list[int], cut: int, samples: int) -> tuple[torch.Tensor, torch.Tensor]:
        return masked_bound.bound(
            yardstick.network,
            text,
            cut,
            mask_id=family.mask_id,
            samples=samples,
            seed=5,
            block=block,
            shift=record.logit_shift,
        )

    text = list(random_tokens(min(2 * family.block + 3, 37), 21))
    for cut in (1, len(text) // 2, len(text) - 1):
        shares, gaps = wanted(text, cut, 6)
        told = bound_by(engine, text, cut, 6, 5)
        assert told[:cut] == [None] * cut
        for at, share in enumerate(told[cut:], start=cut):
            assert share is not None
            assert share.log == pytest.approx(float(shares[at]), **NEAR)
            assert share.top_log - share.log == pytest.approx(float(gaps[at]), abs=1e-4, rel=1e-3)
    text = text[: family.block + 2][:14]
    told = bound_by(engine, text, None, 3, 5)
    for cut in range(1, len(text)):
        total = sum(share.log for share in told[cut:] if share is not None)
        assert total == pytest.approx(float(wanted(text, cut, 3)[0].sum()), abs=1e-4, rel=1e-3)
