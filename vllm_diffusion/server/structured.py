"""Structured output: what of a request goes together with a grammar.

Whether the grammar itself can be compiled is vLLM's check.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from vllm.exceptions import VLLMValidationError

from vllm_diffusion.models.serving import plan_of
from vllm_diffusion.params import PREFIX
from vllm_diffusion.structured.matcher import BACKENDS

if TYPE_CHECKING:
    from vllm.config import ModelConfig
    from vllm.sampling_params import SamplingParams

CONSTRAINTS: dict[str, Any] = {
    "min_tokens": 0,
    "allowed_token_ids": None,
    "bad_words": None,
    "ignore_eos": False,
}
"""Fields that could forbid the only token that a grammar allows; what asks for nothing."""

BY_SERVER = ("disable_any_whitespace", "disable_additional_properties", "whitespace_pattern")
"""Options of a grammar that vLLM's backends read off the server's alone."""

EDITS = ("edit_threshold", "preset", "max_post_steps")


class AsAutoregressive:
    """A model config that does not say that it is a diffusion model's."""

    is_diffusion = False

    def __init__(self, model_config: ModelConfig) -> None:
        self._model_config = model_config

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model_config, name)


def _refuse(
    field: str, value: object, remedy: str, other: str = "structured output"
) -> VLLMValidationError:
    return VLLMValidationError(
        f"{field}={value!r} does not go together with {other}: {remedy}",
        parameter=field,
        value=value,
    )


def check_structured(params: SamplingParams, model_config: ModelConfig) -> None:
    """Check a request whose grammar vLLM has found sound.

    Raises:
        VLLMValidationError: with the field, its value and the remedy.
    """
    asked = params.structured_outputs
    if asked is None or asked.all_constraints_none():
        return
    if asked._backend not in BACKENDS:
        raise VLLMValidationError(
            f"structured output is followed by {' or '.join(BACKENDS)} for diffusion models, and "
            f"this one needs {asked._backend!r}; start the server with "
            '--structured-outputs-config \'{"backend": "auto"}\' and write the grammar so that '
            "one of the two can compile it",
            parameter="structured_outputs",
        )
    for field in BY_SERVER:
        if value := getattr(asked, field):
            raise VLLMValidationError(
                f"structured_outputs.{field}={value!r} is not supported for diffusion models: the "
                "server alone says how JSON is written, with --structured-outputs-config; "
                "leave it out",
                parameter=f"structured_outputs.{field}",
                value=value,
            )
    against_grammar(params, model_config)


def against_grammar(
    params: SamplingParams, model_config: ModelConfig, other: str = "structured output"
) -> None:
    """Refuse what a text that is followed token by token cannot honour.

    Args:
        params: of the request.
        model_config: of the server.
        other: what the text is followed for.
    """
    for field, unset in CONSTRAINTS.items():
        value = getattr(params, field)
        if value and value != unset:
            raise _refuse(field, value, "leave one of the two out", other)
    said = params.extra_args or {}
    for name in EDITS:
        if PREFIX + name in said:
            remedy = "an edit could undo what the grammar has passed; leave it out"
            raise _refuse(PREFIX + name, said[PREFIX + name], remedy, other)
    policy = plan_of(model_config).request_params(said).policy
    if policy == "self_speculation":
        remedy = "its drafts are verified without a grammar; ask for another policy"
        raise _refuse(f"{PREFIX}policy", policy, remedy, other)
