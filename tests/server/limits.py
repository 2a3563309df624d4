"""The limits of the shared server, which tests count on."""

BLOCK_LENGTH = 16
"""Of the bundled model."""
MASK_ID = 3
"""Of the bundled model; its text is ``<|MASK|>``."""
VOCAB_SIZE = 512
PAGE = 128
"""Tokens in a KV page: a multiple of the block length."""
MAX_MODEL_LEN = 1024
MAX_BATCHED_TOKENS = 256
"""Small, so that long prompts take several chunks."""
MAX_SEQS = 8
"""Small, so that some of 16 requests have to wait."""

SERVER_ARGS = (
    *("--dtype", "float32"),  # an answer does not depend on what shares its batch
    *("--kv-cache-memory-bytes", str(64 << 20)),
    *("--block-size", str(PAGE)),
    *("--max-model-len", str(MAX_MODEL_LEN)),
    *("--max-num-batched-tokens", str(MAX_BATCHED_TOKENS)),
    *("--max-num-seqs", str(MAX_SEQS)),
    "--enable-prompt-tokens-details",
)
