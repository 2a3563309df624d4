"""Fields of Anthropic's messages."""

from __future__ import annotations

from vllm_diffusion.server.fields.openai import CHAT
from vllm_diffusion.server.fields.record import Field, depends, honoured, meaningless, refused
from vllm_diffusion.server.fields.shared import SHARED

_AS_ELSEWHERE = (
    "model temperature top_p top_k max_tokens stream cache_salt vllm_xargs kv_transfer_params "
    "watermarking ec_transfer_params mm_payload return_mm_kwargs"
).split()
_CALLER = "names the caller; nothing here depends on who asks"

MESSAGES: dict[str, Field] = {
    **{name: SHARED[name] for name in _AS_ELSEWHERE},
    "chat_template_kwargs": CHAT["chat_template_kwargs"],
    "messages": CHAT["messages"],
    "system": honoured("as the system's message"),
    "stop_sequences": SHARED["stop"],
    "tools": honoured("through the chat template, and as the grammar of calls"),
    "tool_choice": honoured(
        "`auto`, `any` and `tool` need the server's tool parser; the last two hold the text to the "
        "form of a call"
    ),
    "thinking": depends("`enabled` with `--reasoning-parser`, which knows what thoughts are"),
    "output_config": honoured(
        "`format` as a grammar that blocks are held to, `effort` as a chat's `reasoning_effort`"
    ),
    "metadata": meaningless(_CALLER),
}

MESSAGES_OTHERS: dict[str, Field] = {
    "cache_control": meaningless("K and V of a prompt are found by its tokens"),
    "inference_geo": meaningless("all is computed where the server runs"),
    "user_profile_id": meaningless(_CALLER),
    "workspace_id": meaningless(_CALLER),
    "service_tier": refused("there is one tier; leave it out", "auto", "standard_only"),
    "speed": refused("there is one speed; leave it out", "standard"),
    "container": refused("no tools run here; leave it out"),
    "mcp_servers": refused("no tools run here; leave it out"),
    "context_management": refused("nothing is edited out of the context; leave it out"),
    "diagnostics": refused("there are none; leave it out"),
    "output_format": refused("use output_config.format"),
    "extra_body": refused("put its fields at the top level, as clients do with it"),
}
"""Those of Anthropic's that vLLM would drop."""
