"""The acceptance rule of the reference decoder, on scripted logits."""

import torch

from benchmarks.tiny.batches import BLOCK
from benchmarks.tiny.decode import NEVER, accept, generate_blocks, generate_tokens
from benchmarks.tiny.model import Shape, TinyModel
from benchmarks.tiny.tokenizer import EOS_ID, MASK_ID

VOCAB = 20


def script(confidences: dict[int, tuple[int, float]]) -> torch.Tensor:
    """Logits of one block: position -> (token, probability); the rest is nearly uniform."""
    probs = torch.full((BLOCK, VOCAB), 1.0 / VOCAB)
    for position, (token, prob) in confidences.items():
        probs[position] = (1 - prob) / (VOCAB - 1)
        probs[position, token] = prob
    return probs.log()[None]


def decide(confidences, tokens=None, threshold=0.9) -> list[int]:
    tokens_BL = torch.full((1, BLOCK), MASK_ID)
    for position, token in (tokens or {}).items():
        tokens_BL[0, position] = token
    is_answer_BL = torch.ones(1, BLOCK, dtype=torch.bool)
    _, accepted = accept(script(confidences), tokens_BL, is_answer_BL, threshold)
    return accepted[0].nonzero()[:, 0].tolist()


def test_all_above_the_threshold_are_accepted() -> None:
    assert decide({0: (5, 0.95), 3: (6, 0.99), 4: (7, 0.5)}) == [0, 3]


def test_best_is_accepted_when_none_is_above() -> None:
    assert decide({2: (5, 0.8), 9: (6, 0.7)}) == [2]


def test_nothing_after_a_predicted_eos_is_accepted() -> None:
    assert decide({1: (5, 0.95), 4: (EOS_ID, 0.6), 6: (7, 0.99)}) == [1]


def test_nothing_after_an_accepted_eos_is_accepted() -> None:
    assert decide({1: (5, 0.6), 6: (7, 0.99)}, tokens={4: EOS_ID}) == [1]


def test_mask_is_never_predicted() -> None:
    logits = script({0: (MASK_ID, 0.99)})
    tokens = torch.full((1, BLOCK), MASK_ID)
    predicted, _ = accept(logits, tokens, torch.ones_like(tokens, dtype=torch.bool), 0.9)
    assert (predicted != MASK_ID).all()


def test_batch_of_many_equals_batches_of_one() -> None:
    torch.manual_seed(0)
    model = TinyModel(Shape(hidden_size=32, intermediate_size=48, num_hidden_layers=2, head_dim=8))
    for param in model.parameters():
        param.data += 0.3 * torch.randn_like(param)
    prompts = [list(range(10, 10 + n)) for n in (3, 16, 21, 40)]
    for decode in (
        lambda p: generate_blocks(model, p, 0.5, max_tokens=40),
        lambda p: generate_blocks(model, p, NEVER, max_tokens=40),
        lambda p: generate_tokens(model, p, max_tokens=40),
    ):
        together = decode(prompts)
        for i, prompt in enumerate(prompts):
            alone = decode([prompt])
            num_tokens = min(len(alone.answers[0]), len(together.answers[i]))
            assert alone.answers[0][:num_tokens] == together.answers[i][:num_tokens]
