"""Structured output of a request: what it asks for, what goes together with it, what it becomes.

Nothing is compiled here: ``compilation`` has it done by other processes.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from vllm_diffusion.request.conflicts import NOT_VALID, conflict
from vllm_diffusion.request.features import Asked
from vllm_diffusion.server.refusal import refuse, refused_pair
from vllm_diffusion.server.taken import parsed_of
from vllm_diffusion.startup.serving import plan_of
from vllm_diffusion.structured.constraint import Constraint
from vllm_diffusion.structured.lexical import spec_of

if TYPE_CHECKING:
    from vllm.config import ModelConfig, VllmConfig
    from vllm.exceptions import VLLMValidationError
    from vllm.sampling_params import SamplingParams

    from vllm_diffusion.request.parsed import ParsedRequest

BY_SERVER = ("disable_any_whitespace", "disable_additional_properties", "whitespace_pattern")
"""Options of a grammar that are the server's alone."""

KINDS = ("json", "json_object", "regex", "choice", "grammar", "structural_tag")


def _invalid(kind: str, value: object, remedy: str) -> VLLMValidationError:
    return refuse(f"structured_outputs.{kind}", value, remedy, NOT_VALID, "field")


def check_structured(
    params: SamplingParams, model_config: ModelConfig, parsed: ParsedRequest | None = None
) -> None:
    """Check a request as far as that costs nothing.

    Args:
        params: of the request.
        model_config: of the server.
        parsed: the request's own fields, where they have been parsed.

    Raises:
        VLLMValidationError: with the field, its value and the remedy.
    """
    asked = params.structured_outputs
    if asked is None or asked.all_constraints_none():
        return
    for field in BY_SERVER:
        if value := getattr(asked, field):
            remedy = (
                "the server alone says how JSON is written, with --structured-outputs-config; "
                "leave it out"
            )
            raise refuse(f"structured_outputs.{field}", value, remedy, told="field")
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
    parsed = parsed or parsed_of(params, model_config)
    request = Asked(params=params, parsed=parsed, record=plan_of(model_config).record)
    if refusal := conflict(request, "form"):
        raise refused_pair(refusal)


def constraint_of(params: SamplingParams, vllm_config: VllmConfig) -> Constraint | None:
    """What the request's text is held to; None where it is free.

    Raises:
        VLLMValidationError: it cannot be written down, being nested too deep.
    """
    config = vllm_config.structured_outputs_config
    lexical = parsed_of(params, vllm_config.model_config).lexical
    asked = params.structured_outputs
    if lexical is not None:
        return Constraint("lexical", spec_of(lexical))
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
