"""Structured output that cannot end within ``max_tokens``, where that is certain.

Of a regular language the fewest characters are known at once; no token holds more of them than
the longest one all of whose neighbouring bytes the language has. Other requests end with
``length``.
"""

from __future__ import annotations

import warnings
from functools import lru_cache
from re import _parser as parser  # type: ignore[attr-defined]
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from vllm.exceptions import VLLMValidationError

from vllm_diffusion.structured.regex_dfa import byte_table

if TYPE_CHECKING:
    from vllm.config import VllmConfig
    from vllm.sampling_params import SamplingParams
    from vllm.v1.engine import EngineCoreRequest


def check_room(request: EngineCoreRequest, vllm_config: VllmConfig, tokenizer: Any) -> None:
    """Check a request's grammar against the tokens that its output has.

    Raises:
        VLLMValidationError: no text of it fits.
    """
    params = request.sampling_params
    if params is None or params.structured_outputs is None or params.max_tokens is None:
        return
    length = vllm_config.model_config.max_model_len - len(request.prompt_token_ids or ())
    room = min(params.max_tokens, length)
    regex = _regex(params, vllm_config)
    if regex is None:
        return
    fewest = fewest_chars(regex)
    if fewest < room:
        return  # even with one character a token
    needed = 1 + -(-fewest // longest_token(regex, tokenizer))
    if needed > room:
        raise VLLMValidationError(
            f"max_tokens={params.max_tokens} cannot be honoured: the shortest text of the "
            f"structured output has {fewest} characters, which are at least {needed} tokens with "
            f"the stop token, and the output has {room}; raise max_tokens",
            parameter="max_tokens",
            value=params.max_tokens,
        )


def _regex(params: SamplingParams, vllm_config: VllmConfig) -> str | None:
    from vllm.v1.structured_output.request import get_structured_output_key

    # Not above: autoregressive models load nothing of the engine.
    from vllm_diffusion.engine.automata import regex_of

    asked, config = params.structured_outputs, vllm_config.structured_outputs_config
    if asked is None or asked.all_constraints_none():
        return None
    kind, spec = get_structured_output_key(asked)
    separators = (",", ":") if config.disable_any_whitespace else (", ", ": ")
    is_closed = asked._backend == "xgrammar" or config.disable_additional_properties
    return regex_of(kind, spec, separators, is_closed=is_closed)


@lru_cache(maxsize=256)
def fewest_chars(regex: str) -> int:
    """Of all texts that it matches; 0 where Python might read it otherwise than the libraries."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            return int(parser.parse(regex).getwidth()[0])
    except (ValueError, Warning, parser.error, OverflowError, RecursionError):
        return 0


@lru_cache(maxsize=64)
def longest_token(regex: str, tokenizer: Any) -> int:
    """Most bytes of a token that may stand in a text that matches."""
    bytes_VB, length_V = _spelled(tokenizer)
    try:
        # Whatever a dot and a class stand for, as much of it as any library would have.
        table, _ = byte_table(regex, dot_all=True, has_ascii_classes=False)
    except ValueError:
        return int(length_V.max())
    is_next_SB = table[:-1] != len(table) - 1
    may_follow = np.zeros((256, 256), dtype=np.bool_)
    for is_next_B, row_B in zip(is_next_SB, table[:-1], strict=True):
        for state in np.unique(row_B[is_next_B]):
            may_follow[(row_B == state) & is_next_B] |= is_next_SB[state]
    is_used_B = is_next_SB.any(axis=0)
    is_pair_VB = may_follow[bytes_VB[:, :-1], bytes_VB[:, 1:]]
    is_inside_VB = np.arange(1, bytes_VB.shape[1]) < length_V[:, None]
    fits_V = is_used_B[bytes_VB[:, 0]] & (is_pair_VB | ~is_inside_VB).all(axis=1)
    return max(int(length_V[fits_V].max(initial=0)), 1)


@lru_cache(maxsize=1)
def _spelled(tokenizer: Any) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """The bytes (V, B) of the tokens, and how many each has."""
    import xgrammar

    texts = xgrammar.TokenizerInfo.from_huggingface(tokenizer).decoded_vocab
    length_V = np.array([len(text) for text in texts])
    bytes_VB = np.zeros((len(texts), max(length_V.max(), 1)), dtype=np.uint8)
    for token, text in enumerate(texts):
        bytes_VB[token, : len(text)] = np.frombuffer(text, dtype=np.uint8)
    return bytes_VB, length_V
