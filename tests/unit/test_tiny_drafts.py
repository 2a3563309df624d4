"""Drafts in training and in the reference decoder: where they lie, and which tokens stay."""

from random import Random

import torch

from benchmarks.tiny.batches import BLOCK, Encoded, collate
from benchmarks.tiny.decode import generate_blocks, keep_drafted
from benchmarks.tiny.drafts import HOLE, draft_starts, lay_draft, next_place
from benchmarks.tiny.loss import build_canvas, draw_drafted, draw_masks
from benchmarks.tiny.model import Shape, TinyModel
from benchmarks.tiny.tasks.registry import LATE_TASKS
from benchmarks.tiny.tokenizer import EOS_ID

TEXT = list(range(100, 160))


def test_blocks_begin_where_the_text_before_ends() -> None:
    inserted = [*TEXT[:20], 7, 8, 9, *TEXT[20:]]
    assert draft_starts(inserted, TEXT, [0, 16, 32, 48]) == [0, 16, 29, 45]
    removed = [*TEXT[:10], *TEXT[14:]]
    assert draft_starts(removed, TEXT, [0, 16, 32]) == [0, 20, 36]


def test_a_draft_fills_blocks_to_the_last() -> None:
    answer = [*TEXT, EOS_ID]
    for num_prompt in (16, 21):
        laid = lay_draft(answer, TEXT, num_prompt, BLOCK, Random(1))
        assert (num_prompt + len(laid)) % BLOCK == 0
        assert laid[: 2 * BLOCK - num_prompt] == TEXT[: 2 * BLOCK - num_prompt]
        assert set(laid) <= {*TEXT, EOS_ID, HOLE}


def test_a_decoded_text_is_found_in_its_draft() -> None:
    assert next_place([*TEXT[:20], 7, 8, *TEXT[20:30]], TEXT, 32) == 30
    assert next_place([*TEXT[:5], *TEXT[9:16]], TEXT, 12) == 16
    assert next_place([1, 2, 3], TEXT, 3) == 3
    assert next_place([], TEXT, 0) == 0
    periodic = [5, 6] * 30
    assert next_place(periodic[:20], periodic, 20) == 20


def test_kept_is_what_is_probable() -> None:
    logits = torch.zeros(1, BLOCK, 50)
    logits[0, 3, 7] = 20.0
    laid = torch.full((1, BLOCK), HOLE)
    laid[0, 3], laid[0, 4] = 7, 8
    assert keep_drafted(logits, laid, 0.9)[0].nonzero()[:, 0].tolist() == [3]


def test_drafts_are_shown_whole_or_where_nothing_is_masked() -> None:
    items = [Encoded(TEXT[:20], [*TEXT, EOS_ID], lay_draft(TEXT, TEXT, 20, BLOCK, Random(0)))] * 40
    canvas = build_canvas(collate(items))
    generator = torch.Generator().manual_seed(0)
    masked = draw_masks(canvas.can_mask_BR[:, None].expand(-1, 2, -1), generator)
    drafted = draw_drafted(canvas, masked, generator)
    assert not drafted[:, 1].any()
    assert not (drafted[:, 0] & (canvas.draft_BR == HOLE)).any()
    could = (canvas.draft_BR != HOLE) & canvas.can_mask_BR
    blocks = drafted[:, 0].unflatten(1, (-1, BLOCK))
    whole = (blocks == could.unflatten(1, (-1, BLOCK))).all(-1)
    shows = blocks.any(-1)
    assert 0.4 < (whole & shows).float().mean() < 0.8


def test_gaps_move_positions_alone() -> None:
    plain, gapped = Encoded(TEXT, [1, 2, 3]), Encoded(TEXT, [1, 2, 3], [], {2: 500})
    one, two = collate([plain]), collate([gapped])
    assert torch.equal(one.tokens_BT, two.tokens_BT)
    moved = two.position_BT - one.position_BT
    assert moved[0].tolist() == [0] * 2 * BLOCK + [500] * (moved.shape[1] - 2 * BLOCK)


def test_a_batch_of_drafts_equals_each_alone() -> None:
    torch.manual_seed(0)
    model = TinyModel(Shape(hidden_size=32, intermediate_size=48, num_hidden_layers=2, head_dim=8))
    for param in model.parameters():
        param.data += 0.3 * torch.randn_like(param)
    prompts = [list(range(10, 10 + n)) for n in (3, 16, 21, 40)]
    drafts = [TEXT[:30], [], TEXT[5:9], TEXT]
    together = generate_blocks(model, prompts, 0.05, 40, drafts)
    for i, (prompt, draft) in enumerate(zip(prompts, drafts, strict=True)):
        alone = generate_blocks(model, [prompt], 0.05, 40, [draft])
        num_tokens = min(len(alone.answers[0]), len(together.answers[i]))
        assert alone.answers[0][:num_tokens] == together.answers[i][:num_tokens]


def test_late_tasks_are_functions_of_their_generator() -> None:
    for name, task in LATE_TASKS.items():
        assert task(Random(3)) == task(Random(3))
        assert task(Random(3)).task == name


def test_an_edit_changes_what_it_names() -> None:
    rng = Random(4)
    for _ in range(400):
        sample = LATE_TASKS["edit"](rng)
        instruction, _, text = sample.prompt_messages[0]["content"].partition("\n\n")
        assert text == sample.draft != sample.answer
        if instruction.startswith(("Replace", "Rename")):
            old = instruction.split()[1]
            assert old in text and old not in sample.answer
