"""Features of a request that exclude each other: one table, with the reason of each pair.

``CONFLICTS`` names a feature and what cannot be had beside it; ``features`` says how each is
recognised. ``conflict`` alone reads the table. It answers and does not raise: of a server's
options and of a request's fields, errors are different ones.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

from vllm_diffusion.request.features import EDITS, Asked, Calls, Decoding, Found, found
from vllm_diffusion.request.quote import quoted

NOT_SUPPORTED = "is not supported for diffusion models"
NOT_HONOURED = "cannot be honoured"
NOT_VALID = "is not valid"
TOGETHER = "does not go together with {other}"

Told = Literal["text", "field", "value"]
"""How far vLLM's own error repeats behind the text what the text says already."""


class Refusal(NamedTuple):
    """What is wrong with a request."""

    field: str
    value: object
    text: str
    reason: str
    told: Told = "text"


@dataclass(frozen=True, slots=True)
class Conflict:
    """One pair: what cannot be had beside the feature under which it stands, and why."""

    one: str
    """A key of ``FEATURES``, or a field of vLLM's sampling parameters."""
    reason: str
    why: str = NOT_SUPPORTED
    told: Told = "text"
    names_other: bool = False
    """The message is about the feature under which this stands."""
    text: str = "{field}={value} {why}: {reason}"

    def refusal(self, one: Found, other: Found) -> Refusal:
        words = {
            "one": one.field,
            "one_value": quoted(one.value),
            "note": one.note,
            "other": other.field,
        }
        field, value, _ = other if self.names_other else one
        reason, why = self.reason.format(**words), self.why.format(**words)
        text = self.text.format(field=field, value=quoted(value), why=why, reason=reason)
        return Refusal(field, value, text, reason, self.told)


_TWO_FORMS = "they ask for two forms of the text; choose one"
_BY_POSITION = ("repetition_penalty", "frequency_penalty", "presence_penalty", "bad_words")
_WALKED = (
    # Each could forbid the only token that a grammar allows.
    *(
        Conflict(name, "leave one of the two out", TOGETHER, "field")
        for name in ("min_tokens", "allowed_token_ids", "bad_words", "ignore_eos")
    ),
    *(
        Conflict(
            f"sent {name}",
            "an edit could undo what the grammar has passed; leave it out",
            TOGETHER,
            "field",
        )
        for name in EDITS
    ),
    Conflict(
        "speculation",
        "its drafts are verified without a grammar; ask for another policy",
        TOGETHER,
        "field",
    ),
)
"""What a text that is followed token by token cannot honour."""

_LAID = tuple(
    Conflict(
        name,
        "the text would be held to two things, which nothing makes meet; leave one of them out",
        "does not go together with {one}",
        "field",
        names_other=True,
    )
    for name in ("form", "words", "thinking_token_budget")
)
"""What a canvas that a request lays cannot be had with."""

CONFLICTS: dict[str, tuple[Conflict, ...]] = {
    "unread prompt": tuple(
        Conflict(
            name,
            "this model does not read its prompt from left to right, so no row of it is a "
            "prediction of the next token; leave it out",
        )
        for name in ("prompt_logprobs", "prompt_logprob_token_ids")
    ),
    "speculation": tuple(
        Conflict(
            name,
            "policy 'self_speculation' verifies a whole draft at once, in which each token "
            "would have to wait for the one before it; take another diffusion_policy",
        )
        for name in (*_BY_POSITION, "logprobs", "logprob_token_ids")
    ),
    "form": _WALKED,
    "words": (
        Conflict(
            "another form",
            "choose one",
            "does not go together with another form of the text (structured_outputs, "
            "response_format, tool_choice)",
            "field",
            names_other=True,
            text="{field} {why}; {reason}",
        ),
        *_WALKED,
        Conflict(
            "stop too early",
            "it could end the text too early; leave one of the two out",
            TOGETHER,
            "value",
        ),
    ),
    **dict.fromkeys(
        ("seed canvas", "draft"),
        (
            *_LAID,
            Conflict(
                "speculation",
                "policy 'self_speculation' verifies drafts of its own from left to right; take "
                "another diffusion_policy",
                "does not go together with {one}",
                "field",
                names_other=True,
            ),
        ),
    ),
    "drafted canvas": (
        Conflict(
            "bad_words",
            "tokens that are kept together could make a word; pin them, or leave {one} out",
            "does not go together with {one}",
            "field",
            names_other=True,
        ),
    ),
    "read-only canvas": (
        *_LAID,
        Conflict(
            "min_tokens",
            "no token ends a canvas that is read only; leave {one} out",
            "does not go together with {one}",
            "field",
            names_other=True,
        ),
    ),
    "constrained canvas": (
        *_LAID,
        Conflict(
            "allowed_token_ids",
            "logprob_token_ids are what is allowed; leave one of the two out",
            "does not go together with {one}",
            "field",
            names_other=True,
        ),
    ),
    "thinking_token_budget": (
        Conflict(
            "speculation",
            "policy 'self_speculation' verifies a whole draft at once; take another "
            "diffusion_policy",
            NOT_HONOURED,
            names_other=True,
        ),
        *(
            Conflict(f"sent {name}", "an edit could undo the end that {other} forces", NOT_HONOURED)
            for name in EDITS
        ),
        Conflict(
            "form of thoughts",
            "this server's grammars cover thoughts (enable_in_reasoning)",
            NOT_HONOURED,
            names_other=True,
        ),
        Conflict(
            "end not allowed",
            "the end of thoughts is not among them; add {note}, or leave out {other}",
            NOT_HONOURED,
        ),
        Conflict("end forbidden", "{other} forces the end of thoughts", NOT_HONOURED),
    ),
    "words of answer": (Conflict("calls", _TWO_FORMS, TOGETHER),),
    "form of answer": (
        Conflict(
            "calls by choice",
            "the text would be held to that form, and no tool could be called; leave one of the "
            'two out, or say tool_choice "none"',
            TOGETHER,
        ),
        Conflict("a call", _TWO_FORMS, TOGETHER),
    ),
    "effort": (
        Conflict(
            "preset", "{one} says the same; leave one of the two out", NOT_VALID, names_other=True
        ),
        Conflict(
            "drafts",
            "with the policy {one_value} the text is that of the causal mode, however it was "
            "drafted; leave the field out or name another policy",
            NOT_VALID,
            names_other=True,
        ),
    ),
    "clock": (
        Conflict(
            "sub-blocks",
            "its clock runs over whole blocks; say {one}={one_value} as well",
            NOT_VALID,
            names_other=True,
        ),
    ),
    "guidance": (
        Conflict(
            "approximate cache",
            "the kv_cache {one_value} holds one sequence; take 'exact' with guidance",
            NOT_VALID,
            names_other=True,
        ),
    ),
}
"""By feature: what is refused beside it, in the order in which it is asked for."""


def conflict(asked: Asked | Calls | Decoding, *features: str) -> Refusal | None:
    """The first pair that a request asks for, among those of some features."""
    for feature in features:
        other = found(feature, asked)
        if other is None:
            continue
        for row in CONFLICTS[feature]:
            if (one := found(row.one, asked)) is not None:
                return row.refusal(one, other)
    return None
