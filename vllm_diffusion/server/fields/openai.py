"""Fields of chats alone, and of completions alone."""

from __future__ import annotations

from vllm_diffusion.server.fields.record import Field, depends, honoured, refused
from vllm_diffusion.server.fields.shared import NO_MEDIA

CHAT: dict[str, Field] = {
    "messages": honoured("through the chat template"),
    "max_completion_tokens": honoured("as `max_tokens`, which it wins over"),
    "top_logprobs": honoured("alternatives at the step that accepted the token"),
    "tools": honoured(
        "through the chat template, and as the grammar of calls; refused beside a form of the "
        "text, unless `tool_choice` is `none`"
    ),
    "tool_choice": honoured(
        "`auto` needs `--enable-auto-tool-choice --tool-call-parser`; `required` and a name hold "
        "the text to the form of a call, and are refused beside another grammar"
    ),
    "parallel_tool_calls": honoured("false: the first call alone"),
    "reasoning_effort": honoured(
        'how much the model thinks, and a default of `diffusion_effort`; see "Two dials"'
    ),
    "include_reasoning": honoured(
        "false: no thoughts in the answer, nor token ids and log-probabilities, which would tell "
        "them; without `--reasoning-parser` no text counts as thoughts"
    ),
    "add_generation_prompt": honoured("by the chat template"),
    "continue_final_message": honoured("by the chat template; blocks begin behind the message"),
    "chat_template": depends("with `--trust-request-chat-template`"),
    "chat_template_kwargs": depends("what the chat template, or the reasoning parser, reads"),
    "documents": depends("where the chat template reads them"),
    "return_prompt_text": honoured("by vLLM"),
    "media_io_kwargs": refused(NO_MEDIA),
    "mm_processor_kwargs": refused(NO_MEDIA),
}

COMPLETION: dict[str, Field] = {
    "prompt": honoured("text or tokens, one or several"),
    "suffix": depends("where the checkpoint says how it is asked to fill in (`infill.md`)"),
    "prompt_embeds": refused("a prompt must be text or tokens"),
}
