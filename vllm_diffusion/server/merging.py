"""``extra_body``: fields that stand one level too deep, as Mercury's client sends them."""

from __future__ import annotations

from typing import Any

from vllm_diffusion.request.quote import quoted
from vllm_diffusion.server.refusal import RefusedError

FIELD = "extra_body"


def merged(data: Any) -> Any:
    """A body with the fields of its ``extra_body`` at the top level.

    Raises:
        RefusedError: it is no object, or says a field otherwise than the body does.
    """
    if not isinstance(data, dict) or FIELD not in data:
        return data
    plain = {name: value for name, value in data.items() if name != FIELD}
    extra = data[FIELD]
    if extra is None:
        return plain
    if not isinstance(extra, dict):
        message = f"{FIELD}={quoted(extra)} is not valid: it must be an object"
        raise RefusedError(message, parameter=FIELD)
    for name, value in extra.items():
        if name == FIELD:
            message = f"{FIELD}.{FIELD}={quoted(value)} is not valid: leave it out"
            raise RefusedError(message, parameter=f"{FIELD}.{FIELD}")
        if name in plain and plain[name] != value:
            message = (
                f"{FIELD}.{name}={quoted(value)} does not go together with "
                f"{name}={quoted(plain[name])}: say it once"
            )
            raise RefusedError(message, parameter=f"{FIELD}.{name}")
    return plain | extra
