"""The tokenizer: byte-level BPE of 512 tokens, trained on samples of the tasks.

Any text can be encoded (all 256 bytes are tokens). Digits are always single tokens.

    python -m benchmarks.tiny.tokenizer
"""

import json
from pathlib import Path

from tokenizers import AddedToken, Regex, Tokenizer, decoders, pre_tokenizers
from tokenizers.models import BPE
from tokenizers.trainers import BpeTrainer

from .chat import CHAT_TEMPLATE, render
from .paths import MODELS_DIR, TOKENIZER_DIR
from .splits import draw_many

VOCAB_SIZE = 512
PAD, START, EOS, MASK = "<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|MASK|>"
CONTROL = (PAD, START, EOS, MASK)
MARKUP = ("<tool_call>", "</tool_call>")
PAD_ID, START_ID, EOS_ID, MASK_ID = range(4)
PIECES = r" ?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+|\s*\n+ *|\s+"


def train_tokenizer(num_samples: int = 12000) -> Tokenizer:
    """Learn the merges from training samples."""
    tokenizer = Tokenizer(BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(PIECES), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    control = [AddedToken(token, special=True, normalized=False) for token in CONTROL]
    markup = [AddedToken(token, special=False, normalized=False) for token in MARKUP]
    trainer = BpeTrainer(
        vocab_size=VOCAB_SIZE,
        special_tokens=[*control, *markup],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    texts = []
    for sample in draw_many("tokenizer", num_samples):
        texts += [render(sample.prompt_messages, sample.tools), sample.answer]
    for token in (*CONTROL, *MARKUP):
        texts = [text.replace(token, "\n") for text in texts]
    tokenizer.train_from_iterator(texts, trainer)
    assert tokenizer.get_vocab_size() == VOCAB_SIZE
    # The trainer marks everything it was given as special; tool-call tags must survive decoding.
    data = json.loads(tokenizer.to_str())
    for entry in data["added_tokens"]:
        entry["special"] = entry["content"] in CONTROL
    return Tokenizer.from_str(json.dumps(data))


def save_tokenizer(tokenizer: Tokenizer, folder: Path) -> None:
    """Write the files ``AutoTokenizer`` loads without remote code."""
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    special = {"eos_token": EOS, "pad_token": PAD, "mask_token": MASK}
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": 8192,
        "clean_up_tokenization_spaces": False,
        "add_bos_token": False,
        **special,
        "chat_template": CHAT_TEMPLATE,
    }
    for name, data in (("tokenizer_config", config), ("special_tokens_map", special)):
        (folder / f"{name}.json").write_text(json.dumps(data, indent=2) + "\n")


def load_tokenizer() -> Tokenizer:
    """The tokenizer trained here, or the bundled pair's, which its weights belong to."""
    path = TOKENIZER_DIR / "tokenizer.json"
    if not path.exists():
        path = MODELS_DIR / "tiny-diffusion" / "tokenizer.json"
    return Tokenizer.from_file(str(path))


if __name__ == "__main__":
    save_tokenizer(train_tokenizer(), TOKENIZER_DIR)
