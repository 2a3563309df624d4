"""The shared server: what it serves and with which limits, which tests count on."""

import json

BLOCK_LENGTH = 16
"""Set by a flag; the checkpoint's own is 8."""
CHECKPOINT_BLOCK_LENGTH = 8
MASK_ID = 3
"""Its text is ``<|MASK|>``."""
EOS_ID = 2
VOCAB_SIZE = 512
PAGE = 128
"""Tokens in a KV page: a multiple of the block length."""
MAX_MODEL_LEN = 1024
MAX_BATCHED_TOKENS = 256
"""Small, so that long prompts take several chunks."""
MAX_SEQS = 8
"""Small, so that some of 16 requests have to wait."""
POLICY, THRESHOLD = "confidence", 0.6
"""Set by a flag; the checkpoint's ``generation_config.json`` says otherwise."""

SERVER_ARGS = (
    *("--dtype", "float32"),  # an answer does not depend on what shares its batch
    "--enforce-eager",  # starts sooner; the bundled model is served as compiled
    *("--kv-cache-memory-bytes", str(64 << 20)),
    *("--block-size", str(PAGE)),
    *("--max-model-len", str(MAX_MODEL_LEN)),
    *("--max-num-batched-tokens", str(MAX_BATCHED_TOKENS)),
    *("--max-num-seqs", str(MAX_SEQS)),
    *("--diffusion-config", json.dumps({"canvas_length": BLOCK_LENGTH})),
    *(
        "--additional-config",
        json.dumps({"diffusion": {"policy": POLICY, "threshold": THRESHOLD}}),
    ),
    "--enable-prompt-tokens-details",
    *("--enable-auto-tool-choice", "--tool-call-parser", "hermes"),
)
