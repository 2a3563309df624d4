"""Structured output of a request: what it asks for, what goes together with it, what it becomes.

Nothing is compiled here: ``compilation`` has it done by other processes.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from vllm.exceptions import VLLMValidationError

from vllm_diffusion.request.params import PREFIX
from vllm_diffusion.request.quote import quoted
from vllm_diffusion.request.wording import read_wording
from vllm_diffusion.startup.serving import plan_of
from vllm_diffusion.structured.constraint import Constraint
from vllm_diffusion.structured.lexical import spec_of

if TYPE_CHECKING:
    from vllm.config import ModelConfig, VllmConfig
    from vllm.sampling_params import SamplingParams

CONSTRAINTS: dict[str, Any] = {
    "min_tokens": 0,
    "allowed_token_ids": None,
    "bad_words": None,
    "ignore_eos": False,
}
"""Fields that could forbid the only token that a grammar allows; what asks for nothing."""

BY_SERVER = ("disable_any_whitespace", "disable_additional_properties", "whitespace_pattern")
"""Options of a grammar that are the server's alone."""

EDITS = ("edit_threshold", "preset", "max_post_steps")
KINDS = ("json", "json_object", "regex", "choice", "grammar", "structural_tag")


def _refuse(
    field: str, value: object, remedy: str, other: str = "structured output"
) -> VLLMValidationError:
    return VLLMValidationError(
        f"{field}={quoted(value)} does not go together with {other}: {remedy}",
        parameter=field,
    )


def _invalid(kind: str, value: object, remedy: str) -> VLLMValidationError:
    field = f"structured_outputs.{kind}"
    return VLLMValidationError(f"{field}={quoted(value)} is not valid: {remedy}", parameter=field)


def check_structured(params: SamplingParams, model_config: ModelConfig) -> None:
    """Check a request as far as that costs nothing.

    Raises:
        VLLMValidationError: with the field, its value and the remedy.
    """
    asked = params.structured_outputs
    if asked is None or asked.all_constraints_none():
        return
    for field in BY_SERVER:
        if value := getattr(asked, field):
            raise VLLMValidationError(
                f"structured_outputs.{field}={quoted(value)} is not supported for diffusion "
                "models: the server alone says how JSON is written, with "
                "--structured-outputs-config; leave it out",
                parameter=f"structured_outputs.{field}",
            )
    kind = next(kind for kind in KINDS if getattr(asked, kind) is not None)
    value = getattr(asked, kind)
    if kind == "json" and not isinstance(value, (str, dict, bool)):
        raise _invalid(kind, value, "it is a schema, or one as text")
    if kind == "json_object" and value is not True:
        raise _invalid(kind, value, "it is true, or left out")
    if kind == "choice" and not (
        isinstance(value, list) and value and all(isinstance(text, str) for text in value)
    ):
        raise _invalid(kind, value, "it is a list of texts that is not empty")
    if kind in ("regex", "grammar", "structural_tag") and not isinstance(value, str):
        raise _invalid(kind, value, "it is a text")
    if kind in ("grammar", "structural_tag") and not value.strip():
        raise _invalid(kind, value, "it is empty")
    against_grammar(params, model_config)


def constraint_of(params: SamplingParams, vllm_config: VllmConfig) -> Constraint | None:
    """What the request's text is held to; None where it is free.

    Raises:
        VLLMValidationError: it cannot be written down, being nested too deep.
    """
    config = vllm_config.structured_outputs_config
    wording = read_wording(params.extra_args)
    asked = params.structured_outputs
    if wording is not None:
        return Constraint("lexical", spec_of(wording))
    if asked is None or asked.all_constraints_none():
        return None
    kind = next(kind for kind in KINDS if getattr(asked, kind) is not None)
    value = getattr(asked, kind)
    try:
        spec = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    except (RecursionError, ValueError, TypeError) as error:
        raise _invalid(kind, "…", f"it cannot be written as JSON: {error}") from error
    return Constraint(
        kind,  # type: ignore[arg-type]
        spec,
        separators=(",", ":") if config.disable_any_whitespace else (", ", ": "),
        # Where objects do not say, texts with other properties are as good; few clients want them.
        is_closed=config.backend != "guidance" or config.disable_additional_properties,
    )


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
