"""What becomes of every field of a chat or completion request, one record each.

Data alone: ``field_checks`` refuses by it, ``scripts/field_tables.py`` writes
``docs/api.md`` from it, and tests hold it against vLLM's request models and a
real server. ``SHARED`` are fields of both models, ``CHAT`` and ``COMPLETION``
those of one; ``OTHERS`` are fields that vLLM's models do not have, and would
drop.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

Status = Literal["honoured", "depends", "refused", "meaningless"]


@dataclass(frozen=True, slots=True)
class Field:
    """One field of a request."""

    status: Status
    """``depends``: on the model or on the server's options, honoured or else refused."""
    says: str
    """How it is honoured, why it is refused and what to do, or why it means nothing."""
    nothing: tuple[Any, ...] | None = None
    """Of a field that ``field_checks`` refuses by this record: the values, beside null and what is
    empty, that ask for nothing. None where another check decides, vLLM's or this package's."""


def _honoured(says: str) -> Field:
    return Field("honoured", says)


def _depends(says: str) -> Field:
    return Field("depends", says)


def _meaningless(says: str) -> Field:
    return Field("meaningless", says)


def _refused(says: str, *nothing: Any) -> Field:
    return Field("refused", says, nothing)


_DRAWN = _honoured("the candidate is drawn from the tempered and cut distribution")
_PENALTY = _honoured("counts tokens that are emitted or accepted in the canvas")
_NO_MEDIA = "a text model has no media to process; leave it out"
_NO_MEDIA_SHOWN = _meaningless("says what a render response carries of media; a text has none")
_RENDER_ONLY = "only the render routes (`/v1/.../render`) return offsets; leave it out"

SHARED: dict[str, Field] = {
    "model": _honoured("the served name; another is a 404"),
    # What is drawn.
    "temperature": _DRAWN,
    "top_p": _DRAWN,
    "top_k": _DRAWN,
    "min_p": _DRAWN,
    "seed": _honoured("draws depend on (seed, position, step) only"),
    "n": _honoured("each answer is a request of its own"),
    # What the logits become.
    "frequency_penalty": _PENALTY,
    "presence_penalty": _PENALTY,
    "repetition_penalty": _honoured("the same, and tokens of the prompt"),
    "logit_bias": _honoured("added to the logits at every position"),
    "allowed_token_ids": _honoured("all others are impossible at every position"),
    "bad_words": _honoured("never in the output, nor across a block's border"),
    "min_tokens": _honoured("stop tokens are impossible at the first so many positions"),
    # Where the text ends.
    "max_tokens": _honoured("cuts a block where it ends inside of one"),
    "stop": _honoured("found inside a block as well, whose rest is dropped"),
    "stop_token_ids": _honoured("likewise"),
    "include_stop_str_in_output": _honoured("by vLLM"),
    "ignore_eos": _honoured("the end of sequence is a token like others"),
    "repetition_detection": _honoured("by vLLM, token by token of a finished block"),
    "thinking_token_budget": _depends('with `--reasoning-parser`; see "Two dials"'),
    # What is said about tokens.
    "logprobs": _honoured("of a token at the step that accepted it"),
    "logprob_token_ids": _honoured("likewise, of the tokens named; needs `logprobs`"),
    "prompt_logprobs": _depends(
        "with causal context; elsewhere no row of the prompt predicts its next token"
    ),
    "return_tokens_as_token_ids": _honoured("by vLLM; names tokens by id in `logprobs`"),
    "return_token_ids": _honoured("by vLLM; a chunk has its block's"),
    # What the text must be.
    "response_format": _honoured("as a grammar that blocks are held to"),
    "structured_outputs": _honoured(
        "as a grammar that blocks are held to; its `disable_any_whitespace`, "
        "`disable_additional_properties` and `whitespace_pattern` are refused, being the server's "
        "to say"
    ),
    # The prompt.
    "truncate_prompt_tokens": _honoured("by vLLM"),
    "truncation_side": _honoured("by vLLM, together with `truncate_prompt_tokens`"),
    "add_special_tokens": _honoured("by vLLM's tokenizer"),
    "cache_salt": _honoured("by vLLM; prompts under another salt share no K and V"),
    "echo": _honoured(
        "by vLLM; with `logprobs` it asks for the prompt's too, and is refused with "
        "`prompt_logprobs`"
    ),
    # How the answer comes.
    "stream": _honoured("a block's text comes when the block has converged"),
    "stream_options": _honoured("`include_usage` and `continuous_usage_stats`, by vLLM"),
    "stream_interval": _honoured("by vLLM; blocks are held until so many tokens are there"),
    "skip_special_tokens": _honoured("by vLLM's detokenizer"),
    "spaces_between_special_tokens": _honoured(
        "by vLLM's detokenizer, with `skip_special_tokens` off and special tokens that have a "
        "space before them"
    ),
    "request_id": _honoured("by vLLM; stands in the response's `id`"),
    "session_id": _honoured("by vLLM, in its KV cache events; changes no text"),
    "vllm_xargs": _honoured("the `diffusion_*` fields; any other key is refused"),
    "priority": _depends("by vLLM with `--scheduling-policy priority`, which reads it"),
    "kv_transfer_params": _depends("by vLLM with `--kv-transfer-config`, which reads it"),
    # What a canvas, or a text model, has no use for.
    "use_beam_search": _refused(
        "beams are scored from left to right, and with one token a request; take n answers", False
    ),
    "length_penalty": _refused("it belongs to beam search; leave it out", 1.0),
    "watermarking": _refused("a canvas is not watermarked; leave it out", False),
    "ec_transfer_params": _refused("a text model has no encoder cache; leave it out"),
    "routed_experts_prompt_start": _refused(
        "routed experts are not returned, since every denoising step routes anew; leave it out", 0
    ),
    "return_token_offsets": _refused(_RENDER_ONLY, False),
    "mm_payload": _NO_MEDIA_SHOWN,
    "return_mm_kwargs": _NO_MEDIA_SHOWN,
    "user": _meaningless("names the caller; nothing here depends on who asks"),
}

CHAT: dict[str, Field] = {
    "messages": _honoured("through the chat template"),
    "max_completion_tokens": _honoured("as `max_tokens`, which it wins over"),
    "top_logprobs": _honoured("alternatives at the step that accepted the token"),
    "tools": _honoured("through the chat template, and as the grammar of calls"),
    "tool_choice": _honoured(
        "`auto` needs `--enable-auto-tool-choice --tool-call-parser`; `required` and a name hold "
        "the text to the form of a call, and are refused beside another grammar"
    ),
    "parallel_tool_calls": _honoured("false: the first call alone"),
    "reasoning_effort": _honoured(
        'how much the model thinks, and a default of `diffusion_effort`; see "Two dials"'
    ),
    "include_reasoning": _honoured(
        "false: no thoughts in the answer, nor token ids and log-probabilities, which would tell "
        "them; without `--reasoning-parser` no text counts as thoughts"
    ),
    "add_generation_prompt": _honoured("by the chat template"),
    "continue_final_message": _honoured("by the chat template; blocks begin behind the message"),
    "chat_template": _depends("with `--trust-request-chat-template`"),
    "chat_template_kwargs": _depends("what the chat template, or the reasoning parser, reads"),
    "documents": _depends("where the chat template reads them"),
    "return_prompt_text": _honoured("by vLLM"),
    "media_io_kwargs": _refused(_NO_MEDIA),
    "mm_processor_kwargs": _refused(_NO_MEDIA),
}

COMPLETION: dict[str, Field] = {
    "prompt": _honoured("text or tokens, one or several"),
    "suffix": Field("refused", "no family's prompt has a form for it yet; leave it out"),
    "prompt_embeds": _refused("a prompt must be text or tokens"),
}

RECORDS: dict[str, dict[str, Field]] = {
    "chat": CHAT | SHARED,
    "completion": COMPLETION | SHARED,
}

_GUIDED = _refused("it has gone from vLLM; use structured_outputs")
_DRAFTS = "answers hold settled text alone; leave it out"
_SUMMARY = "thoughts are not summed up; leave it out"

OTHERS: dict[str, Field] = {
    # OpenAI's, which vLLM lacks.
    "metadata": _meaningless("labels for a store of answers, which there is not"),
    "safety_identifier": _meaningless("names the caller; nothing here depends on who asks"),
    "prompt_cache_key": _meaningless("K and V of a prompt are found by its tokens"),
    "prompt_cache_options": _refused("the server alone says what is cached; leave it out"),
    "prompt_cache_retention": _refused(
        "K and V are kept while there is memory, no longer; leave it out", "in_memory"
    ),
    "store": _refused("no answer is stored; leave it out", False),
    "service_tier": _refused("there is one tier; leave it out", "auto", "default"),
    "verbosity": _refused("say in the prompt how long the answer should be", "medium"),
    "modalities": _refused("answers are text; leave it out", ["text"]),
    "audio": _refused("answers are text; leave it out"),
    "prediction": _refused("a canvas starts from masks alone; leave it out"),
    "moderation": _refused("nothing is moderated here; leave it out"),
    "web_search_options": _refused("nothing is searched here; leave it out"),
    "functions": _refused("use tools"),
    "function_call": _refused("use tool_choice", "none"),
    "best_of": _refused("take n answers and choose among them", 1),
    "stream_options.include_obfuscation": _refused("chunks are not padded; leave it out", False),
    # Mercury's.
    "diffusing": _refused(_DRAFTS, False),
    "realtime": _refused("there is one service level; leave it out", False),
    "reasoning_summary": _refused(_SUMMARY, False, "none"),
    "reasoning_summary_wait": _refused(_SUMMARY, False),
    # What vLLM once had, and what belongs elsewhere.
    "guided_json": _GUIDED,
    "guided_regex": _GUIDED,
    "guided_choice": _GUIDED,
    "guided_grammar": _GUIDED,
    "guided_decoding_backend": _GUIDED,
    "guided_whitespace_pattern": _GUIDED,
    "enable_thinking": _refused("it belongs into chat_template_kwargs"),
    "extra_body": _refused("put its fields at the top level, as clients do with it"),
}
