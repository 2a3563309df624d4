"""What a completion asks of an estimate of its text's log-probabilities, taken out of its fields.

In ``vllm_xargs``: ``diffusion_likelihood`` names the estimate, ``diffusion_likelihood_context`` how
many tokens are shown and not scored, ``diffusion_likelihood_samples`` how many masks the bound
draws. ``seed``, vLLM's own field, says which. A server's owner can name the estimate and the
samples for requests that do not.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from vllm_diffusion.request.field_errors import PREFIX, InvalidFieldError
from vllm_diffusion.server.admission import check_records
from vllm_diffusion.server.refusal import refuse

if TYPE_CHECKING:
    from vllm_diffusion.request.plan import DecodePlan

OPTION = "likelihood"
FIELD = f"{PREFIX}{OPTION}"
CONTEXT, SAMPLES = f"{FIELD}_context", f"{FIELD}_samples"
CHAIN, BOUND = "chain", "mc"
METHODS = (CHAIN, BOUND)
UNKNOWN = f"it must be {CHAIN!r} or {BOUND!r}"
DEFAULT_SAMPLES, MOST_SAMPLES = 32, 1024
FREE = frozenset({"model", "prompt", "echo", "logprobs", "max_tokens", "seed", "user"})
"""Fields that go with it; to the chain a seed means nothing, since nothing is drawn."""


class Asked(NamedTuple):
    """Of one request."""

    method: str
    samples: int = DEFAULT_SAMPLES
    context: int | list[int] | None = None
    """Tokens that are shown, of every text or of each; None scores all but the first."""


def default_of(additional_config: Any, plan: DecodePlan) -> Asked | None:
    """What the server's owner has chosen for requests that name nothing.

    Raises:
        InvalidFieldError: it is not an estimate that there is, or not with this model.
    """
    options = additional_config if isinstance(additional_config, dict) else {}
    method, samples = options.get(OPTION), options.get(f"{OPTION}_samples", DEFAULT_SAMPLES)
    name = f"additional_config.{OPTION}"
    if method is None:
        if f"{OPTION}_samples" in options:
            raise InvalidFieldError(f"{name}_samples", samples, f"it needs {OPTION}: {BOUND!r}")
        return None
    if method not in METHODS:
        raise InvalidFieldError(name, method, UNKNOWN)
    if method == BOUND and (why := without_bound(plan)):
        raise InvalidFieldError(name, method, why)
    if not _is_count(samples, MOST_SAMPLES):
        remedy = f"it must be an integer from 1 to {MOST_SAMPLES}"
        raise InvalidFieldError(f"{name}_samples", samples, remedy)
    return Asked(method, samples)


def without_bound(plan: DecodePlan) -> str:
    """Why a model has no bound by masks; empty where it has one."""
    record = plan.record
    if record.mask_group.has_causal_context:
        return (
            f"{record.title} reads its prompt from left to right, and its log-probabilities are "
            "exact; leave it out"
        )
    if record.has_seed:
        return (
            f"a block of {record.title} begins with an autoregressive token, which is never "
            f'masked, so that the bound does not hold; take "{CHAIN}"'
        )
    return ""


def take_asked(request: Any, plan: DecodePlan, default: Asked | None) -> Asked | None:
    """What a completion asks for, taken out of its fields; None for vLLM's own way.

    Raises:
        VLLMValidationError: it is unknown, or goes with another field.
    """
    xargs = dict(request.vllm_xargs or {})
    scores = bool(request.echo) and request.logprobs is not None
    is_exact = plan.record.mask_group.has_causal_context
    named = [name for name in (FIELD, CONTEXT, SAMPLES) if name in xargs]
    if not named:
        return default if scores and not is_exact else None
    said = {name: xargs.pop(name) for name in named}
    request.vllm_xargs = xargs or None
    if not scores:
        remedy = "it says how echo with logprobs is estimated; ask for both"
        raise refuse(named[0], said[named[0]], remedy)
    method = said.get(FIELD, default.method if default else None)
    if method is None:
        raise refuse(named[0], said[named[0]], f"it needs {FIELD}; add it", "is not valid")
    if method not in METHODS:
        raise refuse(FIELD, method, UNKNOWN, "is not valid")
    if method == BOUND and (why := without_bound(plan)):
        raise refuse(FIELD, method, why)
    samples = said.get(SAMPLES, default.samples if default else DEFAULT_SAMPLES)
    if SAMPLES in said and method != BOUND:
        raise refuse(SAMPLES, samples, f"only {BOUND!r} draws samples; leave it out")
    if not _is_count(samples, MOST_SAMPLES):
        remedy = f"it must be an integer from 1 to {MOST_SAMPLES}"
        raise refuse(SAMPLES, samples, remedy, "is not valid")
    context = said.get(CONTEXT)
    each = context if isinstance(context, list) else [context]
    if context is not None and not all(_is_count(one) for one in each):
        remedy = "it must be an integer from 1 on, or a list of one for each text"
        raise refuse(CONTEXT, context, remedy, "is not valid")
    # There a prompt's rows are its log-probabilities, from one forward.
    return None if is_exact else Asked(method, samples, context)


def _is_count(value: object, most: int = 2**31 - 1) -> bool:
    return type(value) is int and 1 <= value <= most


def check_fields(request: Any) -> None:
    """Refuse what an estimate has no place for."""
    check_records(request, "completion")
    for name in sorted(request.model_fields_set - FREE):
        field, value = type(request).model_fields.get(name), getattr(request, name)
        default = None if field is None else field.get_default(call_default_factory=True)
        is_greedy = name == "temperature" and value == 0
        if value not in (None, default) and not is_greedy:
            raise refuse(name, value, "leave it out", f"does not go together with {FIELD}")
    if request.max_tokens not in (0, 1):
        remedy = "the text is scored, with at most one token behind it; say 0 or 1"
        raise refuse("max_tokens", request.max_tokens, remedy, f"is not valid with {FIELD}")
    if request.logprobs not in (0, 1):
        remedy = "a read tells of one token beside the text's own; say 0 or 1"
        raise refuse("logprobs", request.logprobs, remedy, f"is not valid with {FIELD}")


def contexts_of(asked: Asked, texts: list[list[int]], mask_id: int) -> list[int | None]:
    """Of each text, what is shown and not scored.

    Raises:
        VLLMValidationError: lists of other lengths, nothing is left to score, or a mask is scored.
    """
    given = asked.context
    contexts = given if isinstance(given, list) else [given] * len(texts)
    if len(contexts) != len(texts):
        remedy = f"it has {len(contexts)} numbers for {len(texts)} texts"
        raise refuse(CONTEXT, given, remedy, "is not valid")
    for text, context in zip(texts, contexts, strict=True):
        if context is not None and context > len(text):
            remedy = f"a text has {len(text)} tokens"
            raise refuse(CONTEXT, given, remedy, "is not valid")
        if mask_id in text[context or 1 :]:
            remedy = f"the mask token ({mask_id}) has no probability; take it out of the text"
            raise refuse("prompt", "...", remedy, f"cannot be scored with {FIELD}")
    return list(contexts)
