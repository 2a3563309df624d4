"""What a request lays into its output, checked against the model and the prompt.

``request.seed_canvas`` has read it; ``docs/seed-canvas.md`` says what each key means.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vllm_diffusion.request.conflicts import NOT_HONOURED, NOT_VALID
from vllm_diffusion.request.field_errors import PREFIX
from vllm_diffusion.request.seed_canvas import DRAFT, PINNED, SEED
from vllm_diffusion.server.refusal import refuse

if TYPE_CHECKING:
    from vllm.config import ModelConfig
    from vllm.sampling_params import SamplingParams

    from vllm_diffusion.request.parsed import ParsedRequest


def check_seed(params: SamplingParams, parsed: ParsedRequest, model_config: ModelConfig) -> None:
    """Refuse what no prompt could make right.

    Raises:
        VLLMValidationError: ids outside of the vocabulary, a seed that is longer than the output,
            or a closed set of candidates that nothing names.
    """
    seed = parsed.seed
    if seed is None:
        return
    if seed.constrained and not params.logprob_token_ids:
        raise refuse(
            f"{PREFIX}constrained",
            True,
            "logprob_token_ids are the tokens that it allows, and they are not said; add them",
            NOT_VALID,
        )
    if not seed.tokens:
        return
    size = model_config.get_vocab_size()
    name = DRAFT if seed.follows else SEED
    if max(seed.tokens) >= size:
        raise refuse(name, list(seed.tokens), f"token ids are from 0 to {size - 1}", NOT_VALID)
    if seed.follows and len(seed.tokens) > model_config.max_model_len:
        remedy = f"it has {len(seed.tokens)} tokens and the context {model_config.max_model_len}"
        raise refuse(name, list(seed.tokens), f"{remedy}; shorten it", NOT_HONOURED)
    _check_length(params, parsed, model_config.max_model_len)


def _check_length(params: SamplingParams, parsed: ParsedRequest, num_free: int) -> None:
    seed = parsed.seed
    assert seed is not None
    length, most = len(seed.tokens), params.max_tokens
    if seed.follows:
        return  # What the text does not get to is not laid.
    if most is not None and length > most:
        remedy = f"it has {length} tokens and max_tokens is {most}; raise max_tokens"
        raise refuse(SEED, list(seed.tokens), remedy, NOT_HONOURED)
    if length > num_free:
        remedy = f"it has {length} tokens and the output has room for {num_free}; shorten it"
        raise refuse(SEED, list(seed.tokens), remedy, NOT_HONOURED)


def settle(params: SamplingParams, parsed: ParsedRequest) -> None:
    """Say in vLLM's own fields what follows from the keys, in place."""
    seed = parsed.seed
    if seed is None:
        return
    if seed.read_only:
        most = len(seed.tokens) or parsed.decode.block_length
        params.max_tokens = min(params.max_tokens or most, most)
        params.ignore_eos = True
    if seed.constrained:
        params.allowed_token_ids = list(params.logprob_token_ids)


def check_laid(
    params: SamplingParams, parsed: ParsedRequest, *, num_free: int, mask_id: int
) -> None:
    """Check a request that has passed ``check_seed`` together with its prompt.

    Args:
        params: of the request, as the engine gets them.
        parsed: the request.
        num_free: tokens that the prompt leaves.
        mask_id: the mask token.

    Raises:
        VLLMValidationError: the seed does not fit, or what is pinned would be cut off.
    """
    seed = parsed.seed
    if seed is None or not seed.tokens:
        return
    _check_length(params, parsed, num_free)
    if not seed.pinned:
        return
    stops = set(params.stop_token_ids or ())
    if params.eos_token_id is not None:
        stops.add(params.eos_token_id)
    last = seed.pinned[-1]
    ends = next((at for at in seed.pinned if seed.tokens[at] in stops), last)
    if ends < last:
        remedy = (
            f"token {seed.tokens[ends]} at position {ends} ends the text, so what is pinned behind "
            "it would be cut off; pin it last, or say ignore_eos"
        )
        raise refuse(PINNED, list(seed.pinned), remedy, NOT_HONOURED)
    if seed.tokens[last] in stops and params.min_tokens > last:
        remedy = f"{PINNED} ends the text after {last + 1} tokens; lower min_tokens"
        raise refuse("min_tokens", params.min_tokens, remedy, NOT_HONOURED)
    _check_candidates(params, stops, last + 1 - len(seed.pinned), mask_id)


def _check_candidates(
    params: SamplingParams, stops: set[int], num_holes: int, mask_id: int
) -> None:
    """In front of what is pinned nothing may end the text, so another token must be allowed."""
    allowed = params.allowed_token_ids
    if not allowed or not num_holes:
        return
    in_words = {token for word in params.bad_words_token_ids or [] for token in word}
    if not set(allowed) - stops - in_words - {mask_id}:
        remedy = f"in front of {PINNED} no token may end the text; allow one that does not"
        raise refuse("allowed_token_ids", allowed, remedy, NOT_HONOURED)
