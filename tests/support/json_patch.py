"""Applies a JSON patch (RFC 6902: add, remove, replace), as the API server does with a webhook's answer."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from typing import Any


def patched(document: Mapping[str, Any], patch: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """The document with the patch applied; a step that does not fit raises."""
    made: dict[str, Any] = copy.deepcopy(dict(document))
    for step in patch:
        *way, last = [part.replace("~1", "/").replace("~0", "~") for part in step["path"].split("/")[1:]]
        holder: Any = made
        for part in way:
            holder = holder[int(part)] if isinstance(holder, list) else holder[part]
        _apply(holder, last, step)
    return made


def _apply(holder: Any, last: str, step: Mapping[str, Any]) -> None:
    value = copy.deepcopy(step.get("value"))
    if step["op"] == "add" and isinstance(holder, list):
        holder.insert(len(holder) if last == "-" else int(last), value)
    elif step["op"] == "add":
        holder[last] = value
    elif step["op"] == "replace":
        key: Any = int(last) if isinstance(holder, list) else last
        holder[key]
        holder[key] = value
    else:
        assert step["op"] == "remove"
        del holder[int(last) if isinstance(holder, list) else last]
