"""Where things are kept, relative to the repository root."""

from pathlib import Path

BUILD_DIR = Path("build/tiny")  # ignored by git: checkpoints and logs
TOKENIZER_DIR = BUILD_DIR / "tokenizer"
MODELS_DIR = Path("examples/models")
PLOTS_DIR = Path("docs/plots")
