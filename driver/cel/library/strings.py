"""Functions of strings.

Purpose: CEL's standard string functions and version 2 of its strings extension, which Kubernetes uses.

Flow: overloads; `format` is in `string_format`, regular expressions in `regexes`.

Limits: positions count characters, as there. Up to 1.36 a search for "" answers with the offset whatever it
is.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from driver.cel.errors import EvaluationError
from driver.cel.library import costs
from driver.cel.library.entry import Release, overload

# As of this release, cel-go counts and clamps differently.
NEWER: Release = (1, 37)

_LOWER = {code: code + 32 for code in range(ord("A"), ord("Z") + 1)}
_UPPER = {lower: upper for upper, lower in _LOWER.items()}
# Go's white space; Python's own also has the four separators U+001C to U+001F.
_SPACE = "\t\n\v\f\r \x85\xa0\u1680\u2028\u2029\u202f\u205f\u3000" + "".join(map(chr, range(0x2000, 0x200B)))
_ESCAPES = {
    ord(character): f"\\{escape}" for character, escape in zip('\a\b\f\n\r\t\v\\"', 'abfnrtv\\"', strict=True)
}


def _twice(text: str, *_: Any) -> int:
    return costs.traversed(2 * len(text))


@overload("startsWith(string, string) -> bool", method=True, cost=costs.first, until=NEWER)
@overload("startsWith(string, string) -> bool", method=True, cost=costs.second, since=NEWER)
def _starts_with(text: str, prefix: str) -> bool:
    return text.startswith(prefix)


@overload("endsWith(string, string) -> bool", method=True, cost=costs.first, until=NEWER)
@overload("endsWith(string, string) -> bool", method=True, cost=costs.second, since=NEWER)
def _ends_with(text: str, suffix: str) -> bool:
    return text.endswith(suffix)


@overload("contains(string, string) -> bool", method=True, cost=costs.product)
def _contains(text: str, part: str) -> bool:
    return part in text


@overload("charAt(string, int) -> string", method=True)
def _char_at(text: str, index: int) -> str:
    _within(text, index)
    return text[index : index + 1]


def _within(text: str, index: int) -> None:
    if not 0 <= index <= len(text):
        raise EvaluationError(f"index out of range: {index}")


def _searching(search: Callable[[str, str, int], int], *, clamped: bool) -> Callable[[str, str, int], int]:
    def find(text: str, part: str, offset: int) -> int:
        if not part and not clamped:
            return offset
        if offset < 0:
            raise EvaluationError(f"index out of range: {offset}")
        if not part:
            return min(offset, len(text))
        return -1 if offset >= len(text) else search(text, part, offset)

    return find


def _register_searches() -> None:
    forward: Callable[[str, str, int], int] = str.find

    def backward(text: str, part: str, offset: int) -> int:
        return text.rfind(part, 0, offset + len(part))

    for name, search in (("indexOf", forward), ("lastIndexOf", backward)):
        signature = f"{name}(string, string, int) -> int"
        overload(signature, method=True, cost=costs.walked, until=NEWER)(_searching(search, clamped=False))
        overload(signature, method=True, cost=costs.walked, since=NEWER)(_searching(search, clamped=True))


@overload("indexOf(string, string) -> int", method=True, cost=costs.walked)
def _index_of(text: str, part: str) -> int:
    return text.find(part)


@overload("lastIndexOf(string, string) -> int", method=True, cost=costs.walked)
def _last_index_of(text: str, part: str) -> int:
    return text.rfind(part)


_register_searches()


@overload("lowerAscii(string) -> string", method=True, cost=costs.first)
def _lower_ascii(text: str) -> str:
    return text.translate(_LOWER)


@overload("upperAscii(string) -> string", method=True, cost=costs.first)
def _upper_ascii(text: str) -> str:
    return text.translate(_UPPER)


def _replaced(text: str, old: str, new: str, limit: int = -1) -> int:
    growth = len(new) - len(old)
    if growth <= 0:
        return _twice(text)
    times = text.count(old)
    return _twice(text) + costs.large(len(text) + growth * (times if limit < 0 else min(times, limit)))


@overload("replace(string, string, string) -> string", method=True, cost=_replaced)
def _replace(text: str, old: str, new: str) -> str:
    return text.replace(old, new)


@overload("replace(string, string, string, int) -> string", method=True, cost=_replaced)
def _replace_some(text: str, old: str, new: str, limit: int) -> str:
    return text.replace(old, new, -1 if limit < 0 else min(limit, len(text) + 1))


@overload("split(string, string) -> list(string)", method=True, cost=_twice)
def _split(text: str, separator: str) -> list[str]:
    return text.split(separator) if separator else list(text)


@overload("split(string, string, int) -> list(string)", method=True, cost=_twice)
def _split_some(text: str, separator: str, limit: int) -> list[str]:
    if limit < 0:
        return _split(text, separator)
    if limit == 0:
        return []
    limit = min(limit, len(text) + 1)
    if separator:
        return text.split(separator, limit - 1)
    return list(text) if limit > len(text) else [*text[: limit - 1], text[limit - 1 :]]


@overload("substring(string, int) -> string", method=True, cost=costs.first)
def _substring_from(text: str, start: int) -> str:
    _within(text, start)
    return text[start:]


@overload("substring(string, int, int) -> string", method=True, cost=costs.first)
def _substring(text: str, start: int, end: int) -> str:
    if start > end:
        raise EvaluationError(f"a substring from {start} to {end} has no length")
    _within(text, start)
    _within(text, end)
    return text[start:end]


@overload("trim(string) -> string", method=True, cost=costs.first)
def _trim(text: str) -> str:
    return text.strip(_SPACE)


@overload("strings.quote(string) -> string", cost=costs.first)
def _quote(text: str) -> str:
    return f'"{text.translate(_ESCAPES)}"'


def _joined(elements: list[Any], separator: str = "") -> int:
    length = sum(map(costs.size, elements)) + len(separator) * max(0, len(elements) - 1)
    return costs.traversed(2 * length) + 2 * costs.large(len(elements))


@overload("join(list(string)) -> string", method=True, cost=_joined)
@overload("join(list(string), string) -> string", method=True, cost=_joined)
def _join(elements: list[Any], separator: str = "") -> str:
    for element in elements:
        if type(element) is not str:
            raise EvaluationError("join takes strings only")
    return separator.join(elements)
