"""Arguments in Qwen's XML, as a parser of tool calls reads them, against their schema."""

from __future__ import annotations

import json
import re
from typing import Any

from vllm_diffusion.structured.json_schema.read import resolve
from vllm_diffusion.structured.validity.json_text import InvalidError, check_value, read_value

_PARAMETER = re.compile(r"\s*<parameter=([^<>]*)>(.*?)</parameter>", re.DOTALL)


def ends_of_parameters(schema: Any, text: str, start: int) -> list[int]:
    """Behind which parameters a text's arguments, read from a character on, are complete."""
    found, spec = [], json.dumps(schema)
    arguments: dict[str, Any] = {}
    at: int | None = start
    while at is not None:
        if _is_met(spec, arguments):
            found.append(at)
        parameter = _PARAMETER.match(text, at)
        at = None
        if parameter is not None and parameter[1] not in arguments:
            arguments[parameter[1]] = _value(schema, parameter[1], parameter[2])
            at = parameter.end()
    return found


def _value(schema: Any, name: str, raw: str) -> Any:
    """A text where the schema allows the text as it is, else what its JSON says."""
    schema = schema if isinstance(schema, dict) else {}
    of_name = schema.get("properties", {}).get(name, True)
    while isinstance(of_name, dict) and "$ref" in of_name:
        of_name = resolve(schema, of_name["$ref"], "")
    defs = {"$defs": schema.get("$defs", {}), "definitions": schema.get("definitions", {})}
    rooted = {**of_name, **defs} if isinstance(of_name, dict) else {}
    plain = raw.removeprefix("\n").removesuffix("\n")
    for one in (raw, plain):
        if _is_met(json.dumps(rooted), one):
            return one
    try:
        return read_value(plain)
    except InvalidError:
        return plain


def _is_met(spec: str, value: Any) -> bool:
    try:
        check_value(spec, value)
    except InvalidError:
        return False
    return True
