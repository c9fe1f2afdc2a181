"""JSON that others wrote, read so that no text can end the reader.

Purpose: the API server stores what a user puts into a claim's opaque parameters as it is: nested thousands of
levels deep, or with half a surrogate pair. One such object must not end a process that reads all objects.

Flow: `json.loads` -> what lies deeper than `MAX_DEPTH` becomes null. A text too deep for `json.loads` itself
is cut before it is parsed again.

Limits: lone surrogates stay in the strings: who writes them as UTF-8 has to allow for them (`surrogatepass`,
or ASCII escapes). Kubernetes' own fields lie fewer than 30 levels deep.
"""

from __future__ import annotations

import json
import re
from typing import Any

MAX_DEPTH = 100
"""Levels of objects and lists that are kept, the outermost included."""

# The end of a string is optional, so that an unterminated one is passed over once and not tried again.
_TOKEN = re.compile(r'"[^"\\]*+(?:\\.[^"\\]*+)*+"?|[\[\]{}]', re.DOTALL)


def parse_json(data: bytes | str) -> Any:
    """Decodes a JSON text; what is nested deeper than `MAX_DEPTH` becomes None.

    Raises:
        ValueError: It is no JSON.
    """
    text = data if isinstance(data, str) else data.decode("utf-8", "surrogatepass")
    try:
        document = _loaded(text)
    except RecursionError:
        return _loaded(_cut_text(text))
    # What has no more brackets than that is not nested deeper; nearly every object is told by this alone.
    if text.count("{") + text.count("[") > MAX_DEPTH:
        _cut(document)
    return document


def _loaded(text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        raise
    except ValueError:
        # Python refuses integers of thousands of digits; the API server may pass them on.
        return json.loads(text, parse_int=float)


def _cut(document: Any) -> None:
    """Cuts in place, level by level, without recursion."""
    level = [document] if isinstance(document, dict | list) else []
    for _ in range(MAX_DEPTH - 1):
        # The exact types are what json.loads makes; this runs for all that the controller reads.
        level = [
            child
            for one in level
            for child in (one.values() if type(one) is dict else one)
            if type(child) is dict or type(child) is list
        ]
        if not level:
            return
    for one in level:
        for key, child in one.items() if isinstance(one, dict) else enumerate(one):
            if isinstance(child, dict | list):
                one[key] = None


def _cut_text(text: str) -> str:
    """The text with null in place of what lies too deep."""
    kept: list[str] = []
    depth, begin = 0, 0
    for token in _TOKEN.finditer(text):
        sign = token.group()
        if sign in "[{":
            depth += 1
            if depth == MAX_DEPTH + 1:
                kept += (text[begin : token.start()], "null")
        elif sign in "]}":
            if depth == MAX_DEPTH + 1:
                begin = token.end()
            depth -= 1
    kept.append("" if depth > MAX_DEPTH else text[begin:])
    return "".join(kept)
