"""``suffix``: the text between two passages, asked for in the form that the model has learned.

A checkpoint says its form with ``infill_prompt`` in ``config.json``, a message for its chat
template in which ``{prefix}`` and ``{suffix}`` stand; else a tokenizer's own markers are the form.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from vllm_diffusion.server.account import FIELD as ACCOUNT
from vllm_diffusion.server.refusal import refuse, refused
from vllm_diffusion.server.sse import DONE, event_of

MARKERS = (
    ("<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>"),
    ("<fim_prefix>", "<fim_suffix>", "<fim_middle>"),
    ("<\uff5cfim\u2581begin\uff5c>", "<\uff5cfim\u2581hole\uff5c>", "<\uff5cfim\u2581end\uff5c>"),
    ("<|fim_begin|>", "<|fim_hole|>", "<|fim_end|>"),
)
"""Of Qwen, StarCoder, DeepSeek and others: in front of the prefix, the suffix, and the answer."""
NOT_A_SUFFIX = ("", "<|endoftext|>")
"""What editors send where there is no text behind the cursor."""
LEAST_OVERLAP = 4
"""Characters, white space not counted, that must be alike before the answer's end is taken for the
beginning of the suffix."""
NAME = "infill_prompt"
ALONE = ("echo", "logprobs", "prompt_logprobs", "truncate_prompt_tokens", "return_token_ids")
"""Fields about a prompt or about tokens: with a suffix the prompt is ours, and the text is cut."""


@dataclass(frozen=True, slots=True)
class Form:
    """How a model is asked for what is missing."""

    template: str = ""
    """A message with ``{prefix}`` and ``{suffix}``."""
    markers: tuple[str, str, str] | None = None

    def prompt(self, prefix: str, suffix: str, tokenizer: Any) -> str:
        """The prompt, special tokens included."""
        if self.markers is not None:
            before, hole, answer = self.markers
            return f"{before}{prefix}{hole}{suffix}{answer}"
        # Not by ``str.format``: the passages may have braces.
        head, _, rest = self.template.partition("{prefix}")
        middle, _, tail = rest.partition("{suffix}")
        message = {"role": "user", "content": f"{head}{prefix}{middle}{suffix}{tail}"}
        rendered: str = tokenizer.apply_chat_template(
            [message], tokenize=False, add_generation_prompt=True
        )
        return rendered


def form_of(hf_config: Any, tokenizer: Any) -> Form | None:
    """The form that a checkpoint has learned; None where nothing says one.

    Raises:
        ValueError: what the checkpoint says is not usable.
    """
    template = getattr(hf_config, NAME, None)
    if template is not None:
        places = [str(template).find(place) for place in ("{prefix}", "{suffix}")]
        if not isinstance(template, str) or not -1 < places[0] < places[1]:
            raise ValueError(
                f"config.json: {NAME}={template!r} must be a text with {{prefix}} and, behind it, "
                "{suffix}"
            )
        return Form(template=template)
    known = tokenizer.get_vocab() if tokenizer is not None else {}
    found = [markers for markers in MARKERS if all(marker in known for marker in markers)]
    return Form(markers=found[0]) if found else None


def split_marked(prompt: str, form: Form | None) -> tuple[str, str] | None:
    """Prefix and suffix of a prompt that has markers in it; None of one that has not, or whose
    markers the model itself reads."""
    for markers in MARKERS:
        before, hole, answer = (prompt.find(marker) for marker in markers)
        is_whole = before == 0 < hole < answer == len(prompt) - len(markers[2])
        if is_whole and (form is None or form.markers != markers):
            return prompt[len(markers[0]) : hole], prompt[hole + len(markers[1]) : answer]
    return None


def without_overlap(text: str, suffix: str) -> str:
    """The answer without what it has begun to say of the suffix."""
    for size in range(min(len(text), len(suffix)), 0, -1):
        overlap = suffix[:size]
        if text.endswith(overlap):
            is_told = len("".join(overlap.split())) >= LEAST_OVERLAP or overlap == text
            return text[:-size] if is_told else text
    return text


def passages_of(request: Any, form: Form | None) -> tuple[str, str] | None:
    """Prefix and suffix of a completion; None where it is a plain one.

    Raises:
        VLLMValidationError: it asks for what does not go together with a suffix.
    """
    prompt, suffix = request.prompt, request.suffix
    if isinstance(prompt, str) and suffix is None:
        return split_marked(prompt, form)
    if suffix is None or suffix in NOT_A_SUFFIX:
        return None
    if not isinstance(prompt, str):
        raise refuse("prompt", prompt, "with suffix it is one text", "is not valid")
    for field in ALONE:
        value = getattr(request, field, None)
        if value is not None and value is not False:
            raise refused(f"{field} does not go together with suffix; leave it out", field, value)
    return prompt, suffix


Answer = Callable[[Any], Awaitable[Any]]


async def fill_in(
    answer: Answer, request: Any, passages: tuple[str, str], form: Form | None, tokenizer: Any
) -> Any:
    """The response to a completion with a suffix; whole, whatever ``stream`` says.

    Args:
        answer: a plain completion.
        request: the client's, as it was sent.
        passages: before and behind the hole.
        form: of the model.
        tokenizer: of the server.

    Raises:
        VLLMValidationError: the model has learned no such form.
    """
    prefix, suffix = passages
    if form is None:
        raise refuse(
            "suffix",
            suffix,
            "neither the checkpoint's config.json (infill_prompt) nor its tokenizer's markers say "
            "how this model is asked for the text between two passages; leave it out",
        )
    changes = {
        "prompt": form.prompt(prefix, suffix, tokenizer),
        "suffix": None,
        "stream": False,
        "stream_options": None,
        "add_special_tokens": False,
    }
    plain = request.model_copy(update=changes)
    plain.__pydantic_fields_set__ = request.model_fields_set - {"suffix", "stream_options"}
    response = await answer(plain)
    for choice in getattr(response, "choices", ()):
        choice.text = without_overlap(choice.text, suffix)
    if hasattr(response, "choices"):
        response.diffusion = {**(getattr(response, ACCOUNT, None) or {}), "infill": "prompted"}
    return response


async def as_stream(response: Any, request: Any) -> AsyncGenerator[str, None]:
    """A whole response as the events of a stream, in OpenAI's order."""
    whole = response.model_dump()
    head = {key: whole[key] for key in ("id", "object", "created", "model")}
    options = getattr(request, "stream_options", None)
    with_usage = bool(options and options.include_usage)
    rest = {"usage": None} if with_usage else {}
    for choice in whole["choices"]:
        told = {"index": choice["index"], "logprobs": None}
        if choice["text"]:
            text = {**told, "text": choice["text"], "finish_reason": None}
            yield event_of({**head, "choices": [text], **rest})
        reasons = {key: choice.get(key) for key in ("finish_reason", "stop_reason")}
        yield event_of({**head, "choices": [{**told, "text": "", **reasons}], **rest})
    if with_usage:
        numbers = {key: whole[key] for key in ("usage", ACCOUNT) if whole.get(key)}
        yield event_of({**head, "choices": [], **numbers})
    yield f"{DONE}\n\n"


def filling(handler: Callable[..., Awaitable[Any]], form: Form | None, tokenizer: Any) -> Any:
    """A handler of completions that knows ``suffix``, and markers in prompts.

    Args:
        handler: of plain completions.
        form: of the model.
        tokenizer: returns the server's.
    """

    async def answer(request: Any, *args: Any, **kwargs: Any) -> Any:
        passages = passages_of(request, form)
        if passages is None:
            request.suffix = None
            return await handler(request, *args, **kwargs)
        response = await fill_in(
            lambda plain: handler(plain, *args, **kwargs), request, passages, form, tokenizer()
        )
        if request.stream and hasattr(response, "choices"):
            return as_stream(response, request)
        return response

    return answer
