"""Which part of a selector is false on a device, and what the device has instead.

Purpose: "false: model == "H100" (model is "A100")" says more than two hundred characters of CEL.

Flow: `explained` splits the expression at its outermost `&&`, as often as that goes, and evaluates the parts:
the first one that is false is the reason (or, where none is false, the first one that raises). Then the
attributes and capacities that this part reads are looked up on the device.

Limits: parts are found in the source text, by its tokens, and each has to compile by itself; where that does
not work out the whole expression is given. More than `MAX_PARTS` parts are not looked at one by one. Values
that a part reads under computed names are not shown.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from driver.cel import DeviceView, SelectorRaisedError, compile_selector
from driver.cel.parser import parse
from driver.cel.syntax import Comprehension, Ident, Index, Literal, Node, Select, children
from driver.cel.tokens import OPERATOR, Token, tokenize
from driver.errors import SelectorError

MAX_PARTS = 64
MAX_VALUES = 4
_MAX_TEXT = 160
_MAX_VALUE = 48
_KIND: Final = 0
_TEXT: Final = 1
_POSITION: Final = 3
_OPEN, _CLOSED = frozenset("([{"), frozenset(")]}")


@dataclass(frozen=True, slots=True)
class Seen:
    """A value that an expression read.

    Attributes:
        name: Name of the attribute or capacity, with its domain if that is not the driver's.
        value: As a person writes it; "absent" if the device lacks it.
        number: The value as a number where it is one, so that several can be told as a range.
    """

    name: str
    value: str
    number: int | None = None


@dataclass(frozen=True, slots=True)
class Falsehood:
    """The part of a selector that rules a device out.

    Attributes:
        text: The part, as written.
        seen: What it read.
        error: What went wrong, "" if it is false.
    """

    text: str
    seen: tuple[Seen, ...]
    error: str = ""


def explained(expression: str, view: DeviceView, *, release: str) -> Falsehood | None:
    """Say what rules a device out; None if the expression is true.

    Args:
        expression: A selector.
        view: The device.
        release: Kubernetes release whose language applies.
    """
    outcome = _evaluated(expression, view, release)
    if outcome is True:
        return None
    text = expression
    while (part := _guilty(text, outcome, view, release)) is not None:
        text = part
    error = "" if outcome is False else _evaluated_error(text, view, release)
    return Falsehood(shortened(" ".join(text.split()), _MAX_TEXT), tuple(_seen(text, view)), error)


def conjuncts(expression: str) -> list[str]:
    """Split an expression at its outermost `&&`; one part if it has none."""
    try:
        tokens = tokenize(expression)[:-1]
    except SelectorError:
        return [expression]
    while _wrapped(tokens):
        tokens = tokens[1:-1]
    if not tokens:
        return [expression]
    depth, starts = 0, [0]
    for place, token in enumerate(tokens):
        if token[_KIND] != OPERATOR:
            continue
        if token[_TEXT] in _OPEN:
            depth += 1
        elif token[_TEXT] in _CLOSED:
            depth -= 1
        elif depth == 0 and (token[_TEXT] == "||" or (token[_TEXT] == "?" and not _optional(tokens, place))):
            # What binds less tightly than `&&` is one part with all that it joins.
            starts = [0]
            break
        elif depth == 0 and token[_TEXT] == "&&":
            starts.append(place + 1)
    ends = [*(start - 1 for start in starts[1:]), len(tokens)]
    after = _end(expression, tokens[-1])
    return [
        expression[tokens[start][_POSITION] : tokens[end][_POSITION] if end < len(tokens) else after].strip()
        for start, end in zip(starts, ends, strict=True)
    ]


def reads(expression: str) -> frozenset[tuple[str, ...]] | None:
    """Give all that an expression can read of a device; None if that cannot be told from its text.

    Two devices that are the same in this are the same to the expression.
    """
    try:
        tree = parse(expression)
    except SelectorError:
        # It compiles for no device.
        return frozenset()
    found: set[tuple[str, ...]] = set()
    waiting = [tree]
    while waiting:
        node = waiting.pop()
        path = _path(node)
        if path is not None and _known(path):
            found.add(path)
        elif isinstance(node, Ident) and node.name == "device":
            return None
        else:
            waiting.extend(children(node))
    return frozenset(found)


def shortened(text: str, limit: int) -> str:
    """Cut a text that is too long for a sentence."""
    return text if len(text) <= limit else f"{text[: limit - 1]}…"


def value_text(value: Any) -> str:
    """Write a value as a person would."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return shortened(f'"{value}"', _MAX_VALUE)
    if isinstance(value, list):
        return shortened(f"[{', '.join(map(value_text, value[:MAX_VALUES]))}]", _MAX_VALUE)
    return shortened(str(getattr(value, "text", "") or value), _MAX_VALUE)


def _evaluated(expression: str, view: DeviceView, release: str) -> bool | None:
    """Evaluate; None if it raises."""
    try:
        return compile_selector(expression, release=release).evaluate(view)
    except SelectorError:
        return None


def _evaluated_error(expression: str, view: DeviceView, release: str) -> str:
    try:
        compile_selector(expression, release=release).evaluate(view)
    except SelectorRaisedError as error:
        return re.sub(r" \(at [^)]*column \d+\)$", "", error.message)
    except SelectorError as error:
        return error.message
    return ""


def _guilty(text: str, outcome: object, view: DeviceView, release: str) -> str | None:
    """Give the first part with the same outcome, None if the text has no parts."""
    parts = conjuncts(text)
    if parts == [text] or len(parts) > MAX_PARTS:
        return None
    for part in parts:
        if len(part) >= len(text):
            return None
        try:
            compile_selector(part, release=release)
        except SelectorError:
            return None
        if _evaluated(part, view, release) is outcome:
            return part
    return None


def _wrapped(tokens: list[Token]) -> bool:
    if len(tokens) < 3 or tokens[0][_KIND] != OPERATOR or tokens[0][_TEXT] != "(":
        return False
    depth = 0
    for place, token in enumerate(tokens):
        if token[_KIND] == OPERATOR and token[_TEXT] in _OPEN:
            depth += 1
        elif token[_KIND] == OPERATOR and token[_TEXT] in _CLOSED:
            depth -= 1
            if depth == 0:
                return place == len(tokens) - 1
    return False


def _optional(tokens: list[Token], place: int) -> bool:
    """Whether a question mark belongs to `.?field`."""
    return place > 0 and tokens[place - 1][_KIND] == OPERATOR and tokens[place - 1][_TEXT] == "."


def _end(expression: str, last: Token) -> int:
    """Where the last token ends: before blanks, comments and the brackets around the whole."""
    rest = expression[last[_POSITION] :]
    length = len(last[_TEXT]) if rest.startswith(last[_TEXT]) else len(last[_TEXT]) + 2
    return last[_POSITION] + length


def _seen(text: str, view: DeviceView) -> Iterator[Seen]:
    try:
        tree = parse(text)
    except SelectorError:
        return
    found = dict.fromkeys(_paths(tree))
    for path in list(found)[:MAX_VALUES]:
        yield _value(path, view)


def _paths(tree: Node) -> Iterator[tuple[str, ...]]:
    """Give what is read of the device: its fields, and entries of its attributes and capacities."""
    waiting = [tree]
    while waiting:
        node = waiting.pop()
        if isinstance(node, Comprehension) and "device" in {node.variable, node.second}:
            continue
        path = _path(node)
        if path is not None and _known(path):
            yield path
        else:
            waiting.extend(reversed(children(node)))


def _known(path: tuple[str, ...]) -> bool:
    if len(path) == 3:
        return path[0] in {"attributes", "capacity"}
    return path in {("driver",), ("allowMultipleAllocations",)}


def _path(node: Node) -> tuple[str, ...] | None:
    keys: list[str] = []
    while True:
        match node:
            case Ident(name="device"):
                return tuple(reversed(keys))
            case Select(operand=operand, field=field):
                keys.append(field)
                node = operand
            case Index(operand=operand, key=Literal(value=str(key))):
                keys.append(key)
                node = operand
            case _:
                return None


def _value(path: tuple[str, ...], view: DeviceView) -> Seen:
    if path == ("driver",):
        return Seen("driver", value_text(view.driver))
    if path == ("allowMultipleAllocations",):
        return Seen("allowMultipleAllocations", value_text(view.allow_multiple_allocations))
    kind, domain, name = path
    shown = name if domain == view.driver else f"{domain}/{name}"
    value = (view.attributes if kind == "attributes" else view.capacity).get(domain, {}).get(name)
    if value is None:
        return Seen(shown, "absent")
    number = getattr(value, "nano", value * 10**9 if type(value) is int else None)
    return Seen(shown, value_text(value), number)
