"""Options of vLLM's that are turned off or served otherwise: each says so in one line of the log.

``docs/parallelism.md`` has the list. Options that are refused are in ``composition``.
"""

from __future__ import annotations

import logging
import multiprocessing
from dataclasses import dataclass

from vllm.logger import init_logger

# A child of the logger that vLLM configures; ours alone would print nothing.
logger = init_logger(f"vllm.{__name__}")

FRONT_END = "ApiServer_"
"""How the names of processes start that vLLM makes for requests, where there are several."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Notice:
    """What is said of an option, once."""

    flag: str
    when: str
    """For the list; the line in the log stands for itself."""
    text: str
    """Without the flag, with a place for each value."""
    level: int = logging.INFO


ASYNC_SCHEDULING = Notice(
    flag="--async-scheduling",
    when="always",
    text="is off: what a diffusion model computes next depends on whether the step in flight "
    "finishes a block.",
    level=logging.WARNING,
)
PREFIX_CACHING = Notice(
    flag="--enable-prefix-caching",
    when="full attention",
    text="is off: here the K and V of a prompt depend on what follows.",
)
PAGES = Notice(
    flag="--block-size",
    when="not said, and vLLM's own does not hold whole blocks",
    text="is %d, so that each page holds whole diffusion blocks of %d.",
)
CONTEXT = Notice(
    flag="--max-model-len",
    when="block-causal, and the last block would not fit",
    text="is %d instead of %d: the last diffusion block (of %d) has to fit.",
    level=logging.WARNING,
)
BUDGET = Notice(
    flag="--max-num-batched-tokens",
    when="full attention, and a whole request does not fit",
    text="is %d instead of %d: %s in every step.",
)
BACKEND = Notice(
    flag="--structured-outputs-config.backend",
    when="another one than `auto`",
    text="%s compiles nothing here: canvases are held to automata of this package's own. It is "
    "read for how whitespace and further properties are taken.",
)
BLOCK_LENGTH = Notice(
    flag="--kv-transfer-config",
    when="block-causal",
    text="serves one block length, %d: K and V are found by tokens alone, so requests with another "
    "diffusion_block_length are refused.",
)
RAY = Notice(
    flag="--distributed-executor-backend ray",
    when="hosts without an accelerator",
    text="gives each rank one CPU of Ray's, since this host has no accelerator to count.",
)
NOTICES = (
    ASYNC_SCHEDULING,
    PREFIX_CACHING,
    PAGES,
    CONTEXT,
    BUDGET,
    BACKEND,
    BLOCK_LENGTH,
    RAY,
)


def say(notice: Notice, *values: object) -> None:
    """Log the line; not in a front end whose parent has read the same options before it."""
    if not multiprocessing.current_process().name.startswith(FRONT_END):
        logger.log(notice.level, f"{notice.flag} {notice.text}", *values)
