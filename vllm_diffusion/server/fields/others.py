"""Fields that vLLM's models do not have, and would drop."""

from __future__ import annotations

from vllm_diffusion.server.fields.record import Field, depends, honoured, meaningless, refused

_GUIDED = refused("it has gone from vLLM; use structured_outputs")
_DRAFTS = "answers hold settled text alone; leave it out"
_SUMMARY = "thoughts are not summed up; leave it out"

OTHERS: dict[str, Field] = {
    # OpenAI's, which vLLM lacks.
    "metadata": meaningless("labels for a store of answers, which there is not"),
    "safety_identifier": meaningless("names the caller; nothing here depends on who asks"),
    "prompt_cache_key": meaningless("K and V of a prompt are found by its tokens"),
    "prompt_cache_options": refused("the server alone says what is cached; leave it out"),
    "prompt_cache_retention": refused(
        "K and V are kept while there is memory, no longer; leave it out", "in_memory"
    ),
    "store": refused("no answer is stored; leave it out", False),
    "service_tier": refused("there is one tier; leave it out", "auto", "default"),
    "verbosity": refused("say in the prompt how long the answer should be", "medium"),
    "modalities": refused("answers are text; leave it out", ["text"]),
    "audio": refused("answers are text; leave it out"),
    "prediction": depends(
        "of chats, as the draft of the answer; `usage` counts how many of its tokens stand there "
        "(`edit.md`)"
    ),
    "moderation": refused("nothing is moderated here; leave it out"),
    "web_search_options": refused("nothing is searched here; leave it out"),
    "functions": refused("use tools"),
    "function_call": refused("use tool_choice", "none"),
    "early_stopping": refused("it belongs to beam search; leave it out", False),
    "best_of": refused("take n answers and choose among them", 1),
    "stream_options.include_obfuscation": refused("chunks are not padded; leave it out", False),
    # Mercury's.
    "diffusing": depends(
        "streams of chats, without tools, log-probabilities and a reasoning parser: each chunk has "
        "the whole text so far, of every denoising step (`frames.md`)"
    ),
    "realtime": depends(
        "streams of chats: text goes out before its block is finished, as far as it is settled; it "
        "waits for its block where it may still be cut or changed (`stop`, tools, "
        "log-probabilities, a reasoning parser, `n`, edits, self-speculation)"
    ),
    "reasoning_summary": refused(_SUMMARY, False, "none"),
    "reasoning_summary_wait": refused(_SUMMARY, False),
    # What vLLM once had, and what belongs elsewhere.
    "guided_json": _GUIDED,
    "guided_regex": _GUIDED,
    "guided_choice": _GUIDED,
    "guided_grammar": _GUIDED,
    "guided_decoding_backend": _GUIDED,
    "guided_whitespace_pattern": _GUIDED,
    "enable_thinking": refused("it belongs into chat_template_kwargs"),
    "extra_body": honoured(
        "its fields are merged into the top level; one that stands there with another value is "
        "refused"
    ),
}
NO_DRAFTS: dict[str, Field] = {
    "diffusing": refused(_DRAFTS, False),
    "realtime": refused("it is of a chat's stream; leave it out", False),
    "prediction": refused("chats alone have it; say diffusion_draft in vllm_xargs"),
}
"""Of routes whose chunks have no place for them."""
