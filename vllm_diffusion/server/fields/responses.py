"""Fields of OpenAI's responses."""

from __future__ import annotations

from vllm_diffusion.server.fields.openai import CHAT
from vllm_diffusion.server.fields.record import Field, depends, honoured, meaningless, refused
from vllm_diffusion.server.fields.shared import SHARED

_STORED = depends("with vLLM's `VLLM_ENABLE_RESPONSES_API_STORE`, which keeps answers")
_AS_ELSEWHERE = (
    "model temperature top_p top_k min_p top_n_sigma seed frequency_penalty "
    "presence_penalty repetition_penalty logit_bias stop stop_token_ids "
    "include_stop_str_in_output ignore_eos "
    "structured_outputs cache_salt stream skip_special_tokens request_id session_id vllm_xargs "
    "priority kv_transfer_params watermarking ec_transfer_params mm_payload return_mm_kwargs user"
).split()
_AS_IN_CHATS = (
    "parallel_tool_calls include_reasoning chat_template_kwargs media_io_kwargs mm_processor_kwargs"
).split()

RESPONSES: dict[str, Field] = {
    **{name: SHARED[name] for name in _AS_ELSEWHERE},
    **{name: CHAT[name] for name in _AS_IN_CHATS},
    "input": honoured("through the chat template"),
    "instructions": honoured("as the system's message"),
    "max_output_tokens": honoured("cuts a block where it ends inside of one"),
    "reasoning": honoured(
        "`effort` as a chat's `reasoning_effort`; a `summary` but for `auto` is refused, since "
        "thoughts are not summed up"
    ),
    "text": honoured(
        "`format` as a grammar that blocks are held to; a `verbosity` but for `medium` is refused"
    ),
    "tools": honoured(
        "functions, through the chat template and as the grammar of calls; tools that would run "
        "here are refused"
    ),
    "tool_choice": honoured(
        "as in chats; `allowed_tools` and tools that would run here are refused"
    ),
    "include": honoured("log-probabilities; the rest is of tools that would run here"),
    "top_logprobs": honoured("with log-probabilities in `include`"),
    "truncation": honoured("by vLLM"),
    "metadata": honoured("by vLLM; stands in the response"),
    "enable_response_messages": honoured("by vLLM"),
    "store": _STORED,
    "background": _STORED,
    "previous_response_id": _STORED,
    "previous_input_messages": refused("it belongs to gpt-oss; put them into input"),
    "prompt": refused("there are no stored prompts; send the text"),
    "max_tool_calls": meaningless("counts calls of tools that run here, which there are not"),
    "prompt_cache_key": meaningless("K and V of a prompt are found by its tokens"),
    "service_tier": refused("there is one tier; leave it out", "auto", "default"),
}

RESPONSES_OTHERS: dict[str, Field] = {
    "conversation": refused("conversations are not kept; put its items into input"),
    "context_management": refused("nothing is compacted here; leave it out"),
    "stream_options": refused(
        "chunks are not padded and usage always comes; leave it out", {"include_obfuscation": False}
    ),
    "image": refused("answers are text; leave it out"),
    "access_programs": refused("there are none here; leave it out"),
}
"""Those of OpenAI's that vLLM lacks."""
