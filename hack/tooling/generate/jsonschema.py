"""Turns a pydantic model into one flat JSON schema that Kubernetes and Helm both understand.

Purpose: pydantic's schema uses `$defs`, `anyOf … null`, `const` and titles; a CRD's structural schema knows
none of them, and Helm before 3.18 only draft 7.
Flow: `flat_schema` inlines references and folds what has a plainer form; `crd` and `chart_values` add their
own rules. Limits: real unions are refused, except that of the scalar types, which a CRD can only leave open.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel

Schema = dict[str, Any]

_DROPPED = ("title", "default")
_SCALARS = ({"string"}, {"integer"}, {"boolean"}, {"number"})


def flat_schema(model: type[BaseModel], *, keep_defaults: bool = False) -> Schema:
    """The model's schema without references, titles and (unless asked for) defaults.

    Raises:
        ValueError: The model holds a union that has no plain form.
    """
    raw = model.model_json_schema(by_alias=True)
    return _flat(raw, definitions=raw.get("$defs", {}), keep_defaults=keep_defaults)


def _flat(node: Mapping[str, Any], *, definitions: Mapping[str, Any], keep_defaults: bool) -> Schema:
    if "$ref" in node:
        target = dict(definitions[node["$ref"].rpartition("/")[2]])
        beside = {key: value for key, value in node.items() if key != "$ref"}
        return _flat({**target, **beside}, definitions=definitions, keep_defaults=keep_defaults)
    if "anyOf" in node:
        return _flat(_folded(node), definitions=definitions, keep_defaults=keep_defaults)
    dropped = ("title",) if keep_defaults else _DROPPED
    flat: Schema = {}
    for key, value in node.items():
        if key in ("$defs", *dropped) or (key == "default" and value is None):
            continue
        if key == "const":
            flat["enum"] = [value]
        elif key == "properties":
            flat[key] = {
                name: _flat(child, definitions=definitions, keep_defaults=keep_defaults)
                for name, child in value.items()
            }
        elif key in ("items", "additionalProperties") and isinstance(value, Mapping):
            flat[key] = _flat(value, definitions=definitions, keep_defaults=keep_defaults)
        elif key == "description":
            flat[key] = " ".join(str(value).split("\n\n")[0].split())
        else:
            flat[key] = value
    return flat


def _folded(node: Mapping[str, Any]) -> Schema:
    options = [option for option in node["anyOf"] if option.get("type") != "null"]
    beside = {key: value for key, value in node.items() if key != "anyOf"}
    if len(options) == 1:
        return {**options[0], **beside}
    if all({option.get("type")} in _SCALARS for option in options):
        return {"type": sorted(option["type"] for option in options), **beside}
    raise ValueError(f"a union has no plain form: {node}")
