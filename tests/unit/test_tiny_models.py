"""The bundled model folders: complete, small, loadable without remote code."""

import json
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2] / "examples/models"
NAMES = ("tiny-diffusion", "tiny-ar")
pytestmark = pytest.mark.skipif(not (ROOT / NAMES[0]).exists(), reason="models not built")


@pytest.mark.parametrize("name", NAMES)
def test_folder_is_complete_and_small(name: str) -> None:
    files = {path.name: path.stat().st_size for path in (ROOT / name).iterdir()}
    assert {"config.json", "generation_config.json", "tokenizer.json"} <= set(files)
    assert sum(files.values()) < 8 * 2**20


def test_pair_has_one_shape() -> None:
    diffusion, ar = (json.loads((ROOT / name / "config.json").read_text()) for name in NAMES)
    extra = {"block_size", "mask_token_id", "infill_prompt", "edit_prompt"}
    differing = {key for key in diffusion if diffusion[key] != ar.get(key)} - extra
    assert differing == {"architectures", "model_type"}


@pytest.mark.parametrize("name", NAMES)
def test_tokenizer_takes_any_text(name: str) -> None:
    transformers = pytest.importorskip("transformers")
    tokenizer = transformers.AutoTokenizer.from_pretrained(ROOT / name)
    for text in (
        "plain text, 12 words",
        "\u00fcber \u4f60\u597d \U0001f600\n\n\t  x",
        "<tool_call>{}</tool_call>",
    ):
        assert tokenizer.decode(tokenizer.encode(text), skip_special_tokens=True) == text
    assert tokenizer.eos_token_id == 2
    assert len(tokenizer("1234")["input_ids"]) == 4


def test_weights_are_those_of_a_qwen3_model() -> None:
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    from safetensors.torch import load_file

    from benchmarks.tiny.model import TinyModel

    folder = ROOT / "tiny-ar"
    theirs = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    ours = TinyModel()
    ours.load_state_dict(load_file(folder / "model.safetensors"))
    tokens = torch.randint(4, 512, (2, 50), generator=torch.Generator().manual_seed(0))
    mask = torch.ones(50, 50, dtype=torch.bool).tril().expand(2, 1, -1, -1)
    with torch.inference_mode():
        expected = theirs(tokens).logits
        logits = ours.lm_head(ours(tokens, torch.arange(50).expand(2, -1), mask))
    torch.testing.assert_close(logits, expected, atol=1e-3, rtol=1e-3)
