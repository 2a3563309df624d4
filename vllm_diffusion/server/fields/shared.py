"""Fields that chats and completions have in common."""

from __future__ import annotations

from vllm_diffusion.server.fields.record import Field, depends, honoured, meaningless, refused

_DRAWN = honoured("the candidate is drawn from the tempered and cut distribution")
_PENALTY = honoured("counts tokens that are emitted or accepted in the canvas")
NO_MEDIA = "a text model has no media to process; leave it out"
NO_MEDIA_SHOWN = meaningless("says what a render response carries of media; a text has none")
_RENDER_ONLY = "only the render routes (`/v1/.../render`) return offsets; leave it out"

SHARED: dict[str, Field] = {
    "model": honoured("the served name; another is a 404"),
    # What is drawn.
    "temperature": _DRAWN,
    "top_p": _DRAWN,
    "top_k": _DRAWN,
    "min_p": _DRAWN,
    "top_n_sigma": honoured(
        "not vLLM's: draws are among logits within so many standard deviations of the largest"
    ),
    "seed": honoured("draws depend on (seed, position, step) only"),
    "n": honoured("each answer is a request of its own"),
    # What the logits become.
    "frequency_penalty": _PENALTY,
    "presence_penalty": _PENALTY,
    "repetition_penalty": honoured("the same, and tokens of the prompt"),
    "logit_bias": honoured("added to the logits at every position; from -100 to 100"),
    "allowed_token_ids": honoured("all others are impossible at every position"),
    "bad_words": honoured("never in the output, nor across a block's border"),
    "min_tokens": honoured("stop tokens are impossible at the first so many positions"),
    # Where the text ends.
    "max_tokens": honoured("cuts a block where it ends inside of one"),
    "stop": honoured("at most 64; found inside a block as well, whose rest is dropped"),
    "stop_token_ids": honoured("likewise"),
    "include_stop_str_in_output": honoured("by vLLM"),
    "ignore_eos": honoured("the end of sequence is a token like others"),
    "repetition_detection": honoured("by vLLM, token by token of a finished block"),
    "thinking_token_budget": depends('with `--reasoning-parser`; see "Two dials"'),
    # What is said about tokens.
    "logprobs": honoured("of a token at the step that accepted it"),
    "logprob_token_ids": honoured("likewise, of the tokens named; needs `logprobs`"),
    "prompt_logprobs": depends(
        "with causal context; elsewhere no row of the prompt predicts its next token"
    ),
    "return_tokens_as_token_ids": honoured("by vLLM; names tokens by id in `logprobs`"),
    "return_token_ids": honoured("by vLLM; a chunk has its block's"),
    # What the text must be.
    "response_format": honoured("as a grammar that blocks are held to"),
    "structured_outputs": honoured(
        "as a grammar that blocks are held to; its `disable_any_whitespace`, "
        "`disable_additional_properties` and `whitespace_pattern` are refused, being the server's "
        "to say"
    ),
    # The prompt.
    "truncate_prompt_tokens": honoured("by vLLM"),
    "truncation_side": honoured("by vLLM, together with `truncate_prompt_tokens`"),
    "add_special_tokens": honoured("by vLLM's tokenizer"),
    "cache_salt": honoured("by vLLM; prompts under another salt share no K and V"),
    "echo": honoured(
        "by vLLM; with `logprobs` it asks for the prompt's too, and is refused with "
        "`prompt_logprobs`"
    ),
    # How the answer comes.
    "stream": honoured("a block's text comes when the block has converged"),
    "stream_options": honoured(
        "`include_usage` and `continuous_usage_stats`, by vLLM; `diffusion_frames` (`frames.md`)"
    ),
    "stream_interval": honoured("by vLLM; blocks are held until so many tokens are there"),
    "skip_special_tokens": honoured("by vLLM's detokenizer"),
    "spaces_between_special_tokens": honoured(
        "by vLLM's detokenizer, with `skip_special_tokens` off and special tokens that have a "
        "space before them"
    ),
    "request_id": honoured("by vLLM; stands in the response's `id`"),
    "session_id": honoured("by vLLM, in its KV cache events; changes no text"),
    "vllm_xargs": honoured("the `diffusion_*` fields; any other key is refused"),
    "priority": depends("by vLLM with `--scheduling-policy priority`, which reads it"),
    "kv_transfer_params": depends("by vLLM with `--kv-transfer-config`, which reads it"),
    # What a canvas, or a text model, has no use for.
    "use_beam_search": refused(
        "beams are scored from left to right, and with one token a request; take n answers", False
    ),
    "length_penalty": refused("it belongs to beam search; leave it out", 1.0),
    "watermarking": refused("a canvas is not watermarked; leave it out", False),
    "ec_transfer_params": refused("a text model has no encoder cache; leave it out"),
    "routed_experts_prompt_start": refused(
        "routed experts are not returned, since every denoising step routes anew; leave it out", 0
    ),
    "return_token_offsets": refused(_RENDER_ONLY, False),
    "mm_payload": NO_MEDIA_SHOWN,
    "return_mm_kwargs": NO_MEDIA_SHOWN,
    "user": meaningless("names the caller; nothing here depends on who asks"),
}
