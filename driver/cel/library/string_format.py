"""`format`: strings put together from values.

Purpose: `"%s has %d".format([name, count])`, to the letter as the reference writes it.

Flow: one reader of the clauses serves evaluation and, where both the string and the list are literals, the
check at compile time.

Limits: what looks odd is the reference's: `%f` groups digits by thousands and counts its precision modulo
256 for the zeros it fills up with; `%e` takes its precision for a width; and a precision of eight digits or
more gives `%!(NOVERB)`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import Any

from driver.cel.errors import EvaluationError
from driver.cel.library import costs
from driver.cel.library.conversions import to_text
from driver.cel.library.entry import overload
from driver.cel.library.go_text import plain, quoted
from driver.cel.syntax import ListLiteral, Literal, MapLiteral, Node, children
from driver.cel.types import Type
from driver.cel.values import INT_MAX, OptionalValue, key_value, kind_of

_CLAUSE = re.compile(r"(?:\.([0-9]*))?(.?)", re.DOTALL)
_NO_VERB = "%!(NOVERB)"
_WIDEST = 1_000_000
_DEFAULT_PRECISION = 6
_SUPERSCRIPTS = str.maketrans("0123456789-", "⁰¹²³⁴⁵⁶⁷⁸⁹⁻")
_SPECIAL = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}
_WHOLE = frozenset({"int", "uint"})
# What each verb takes; a string may stand for a double only if it is one of those in `_SPECIAL`.
_TAKEN = {
    "s": frozenset(
        {"list", "map", "int", "uint", "double", "bool", "string", "timestamp", "bytes", "duration", "type"}
        | {"null_type"}
    ),
    "d": _WHOLE,
    "f": frozenset({"double", "string"}),
    "e": frozenset({"double", "string"}),
    "b": _WHOLE | {"bool"},
    "x": _WHOLE | {"string", "bytes"},
    "X": _WHOLE | {"string", "bytes"},
    "o": _WHOLE,
}

# Is given the place of an argument, the verb and the precision.
_Put = Callable[[int, str, int | None], str]


def _formatted(text: str, count: int, put: _Put) -> tuple[str, int]:
    parts: list[str] = []
    place = used = 0
    while (found := text.find("%", place)) >= 0:
        parts.append(text[place:found])
        place = found + 1
        if text.startswith("%", place):
            parts.append("%")
            place += 1
            continue
        if used >= count:
            raise EvaluationError(f"format has no argument {used}")
        clause = _CLAUSE.match(text, place)
        if clause is None or not clause[2]:
            raise EvaluationError("format ends within a clause")
        precision = None if clause[1] is None else _precision(clause[1])
        if clause[2] not in _TAKEN:
            raise EvaluationError(f"format knows no clause %{clause[2]}")
        parts.append(put(used, clause[2], precision))
        used += 1
        place = clause.end()
    parts.append(text[place:])
    return "".join(parts), used


def _precision(digits: str) -> int:
    if not digits or len(digits) > 100 or int(digits) > INT_MAX:
        raise EvaluationError("format has a precision that is no number")
    return int(digits)


def _cost(text: str, args: list[Any]) -> int:
    length = 0

    def measure(place: int, verb: str, precision: int | None) -> str:
        nonlocal length
        value = args[place]
        length += 20 + min(precision or 0, 1 << 16) + (0 if verb != "s" else costs.walked(value) * 20)
        return ""

    try:
        _formatted(text, len(args), measure)
    except EvaluationError:
        # It will be raised when it runs.
        return costs.traversed(len(text))
    return costs.traversed(len(text)) + length // 10


def _check(nodes: Sequence[Node], type_of: Callable[[Node], Type]) -> str | None:
    text, args = nodes
    if not isinstance(text, Literal) or not isinstance(text.value, str) or not isinstance(args, ListLiteral):
        return None

    def accept(place: int, verb: str, _precision: int | None) -> str:
        _require(args.elements[place], verb, type_of)
        return ""

    try:
        _, used = _formatted(text.value, len(args.elements), accept)
    except EvaluationError as error:
        return error.message
    if used < len(args.elements):
        return f"format takes {used} arguments here, but is given {len(args.elements)}"
    return None


def _require(node: Node, verb: str, type_of: Callable[[Node], Type]) -> None:
    found = type_of(node).name
    if found != "dyn" and found not in _TAKEN[verb]:
        raise EvaluationError(f"%{verb} of format does not take a {found}")
    if verb == "s" and isinstance(node, (ListLiteral, MapLiteral)):
        for child in children(node):
            _require(child, verb, type_of)


@overload("format(string, list(dyn)) -> string", method=True, cost=_cost, check=_check)
def _format(text: str, args: list[Any]) -> str:
    return _formatted(text, len(args), lambda place, verb, precision: _put(args[place], verb, precision))[0]


def _put(value: Any, verb: str, precision: int | None) -> str:
    kind = kind_of(value)
    if kind not in _TAKEN[verb] or (verb in "ef" and kind == "string" and value not in _SPECIAL):
        raise EvaluationError(f"%{verb} of format does not take a {kind}")
    if verb == "s":
        return _text(value)
    if verb in "ef":
        number = _SPECIAL[value] if kind == "string" else value
        wanted = _DEFAULT_PRECISION if precision is None else precision
        return _fixed(number, wanted) if verb == "f" else _scientific(number, wanted)
    if kind == "string":
        value = value.encode()
    if isinstance(value, bytes):
        return value.hex().upper() if verb == "X" else value.hex()
    return format(int(value), verb)


def _text(value: Any) -> str:
    kind = kind_of(value)
    if kind == "list":
        return f"[{', '.join(map(_member, value))}]"
    if kind == "map":
        pairs = sorted(
            ((_key(key_value(key)), _member(element)) for key, element in value.items()),
            key=lambda pair: pair[0].encode(),
        )
        return f"{{{', '.join(f'{key}:{element}' for key, element in pairs)}}}"
    if kind == "null_type":
        return "null"
    if kind == "type":
        return str(value.name)
    text = to_text(value)
    if text is None:
        raise EvaluationError(f"format does not take a {kind}")
    return text


def _key(key: Any) -> str:
    kind = kind_of(key)
    if kind not in {"string", "bool", "int", "uint"}:
        raise EvaluationError(f"format does not take maps with keys of type {kind}")
    return quoted(key) if kind == "string" else _text(key)


def _member(value: Any) -> str:
    kind = kind_of(value)
    if kind == "double":
        if math.isfinite(value):
            return f"{value:.{_DEFAULT_PRECISION}f}"
        return '"NaN"' if math.isnan(value) else f'"{"+" if value > 0 else "-"}Inf"'
    if isinstance(value, OptionalValue) or kind not in _TAKEN["s"]:
        raise EvaluationError(f"format does not take lists and maps with a {kind}")
    text = _text(value)
    if kind == "string":
        return quoted(text)
    if kind == "bytes":
        return f"b{quoted(text)}"
    return f"{kind}({quoted(text)})" if kind in {"timestamp", "duration"} else text


def _fixed(number: float, precision: int) -> str:
    if precision // 10 > _WIDEST:
        return _NO_VERB
    if not math.isfinite(number):
        return _infinite(number)
    # An int16 for the digits at most, a byte for the digits at least; below zero, as many as name the number.
    most = (precision + (1 << 15)) % (1 << 16) - (1 << 15)
    least = precision % (1 << 8)
    magnitude = abs(number)
    written = f"{magnitude:,.{most}f}" if most >= 0 else f"{Decimal(plain(magnitude)):,f}"
    whole, _, fraction = written.partition(".")
    fraction = fraction.rstrip("0").ljust(least, "0")
    return f"{'-' if number < 0 else ''}{whole}{'.' if fraction else ''}{fraction}"


def _scientific(number: float, width: int) -> str:
    if width // 10 > _WIDEST:
        return _NO_VERB
    if math.isfinite(number):
        mantissa, _, exponent = f"{abs(number):.{_DEFAULT_PRECISION}e}".partition("e")
        power = f"{'-' if exponent[0] == '-' else ''}{exponent[1:]}".translate(_SUPERSCRIPTS)
        text = f"{'-' if number < 0 else ''}{mantissa}\u00d710{power}"
    else:
        text = _infinite(number)
    return text.rjust(width % (1 << 16))


def _infinite(number: float) -> str:
    return "NaN" if math.isnan(number) else "∞" if number > 0 else "-∞"
