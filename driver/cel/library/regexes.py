r"""Regular expressions: `matches`, `find` and `findAll`.

Purpose: the cluster uses RE2's language through Go; so does this, through RE2 itself, which takes linear
time whatever the pattern.

Flow: overloads; `compiled` keeps a few patterns. Literal patterns are checked when an expression compiles.

Limits: what RE2 takes and Go does not is refused (`\C`, names of groups that are not ASCII). RE2 bounds the
memory of a pattern at 8 MiB, Go at more, so the very largest patterns are refused too. The long names of
categories (`\p{Letter}`) and the freedom of case, which Go has since 1.25, are taken in all releases; `LC`,
`Cn`, `Assigned` and `ASCII` are not known.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Sequence
from typing import Any

import re2

from driver.cel.errors import EvaluationError
from driver.cel.library import costs
from driver.cel.library.entry import overload
from driver.cel.syntax import Literal, Node
from driver.cel.types import Type

_OPTIONS = re2.Options()
_OPTIONS.log_errors = False
_OPTIONS.never_nl = False
_KEPT = 24
_kept: dict[str, Any] = {}
_changing = threading.Lock()
_DIFFERENT = re.compile(
    r"\\Q.*?(?:\\E|\Z)|(?P<byte>\\C)|(?P<name>\(\?P?<[^>]*[^\x00-\x7f>][^>]*>)"
    r"|(?P<class>\\[pP]\{\^?)(?P<long>[A-Za-z_ -]+)\}|(?P<one>\\[pP])(?P<letter>[a-z])|\\.",
    re.DOTALL,
)
_ODD_NAMES = {"Signwriting": "SignWriting"}
# Names of general categories that Go knows besides the short ones.
_CATEGORIES = {
    long.replace("_", "").lower(): short
    for short, longs in {
        "L": "Letter",
        "Lu": "Uppercase_Letter",
        "Ll": "Lowercase_Letter",
        "Lt": "Titlecase_Letter",
        "Lm": "Modifier_Letter",
        "Lo": "Other_Letter",
        "M": "Mark Combining_Mark",
        "Mn": "Nonspacing_Mark",
        "Mc": "Spacing_Mark",
        "Me": "Enclosing_Mark",
        "N": "Number",
        "Nd": "Decimal_Number digit",
        "Nl": "Letter_Number",
        "No": "Other_Number",
        "P": "Punctuation punct",
        "Pc": "Connector_Punctuation",
        "Pd": "Dash_Punctuation",
        "Ps": "Open_Punctuation",
        "Pe": "Close_Punctuation",
        "Pi": "Initial_Punctuation",
        "Pf": "Final_Punctuation",
        "Po": "Other_Punctuation",
        "S": "Symbol",
        "Sm": "Math_Symbol",
        "Sc": "Currency_Symbol",
        "Sk": "Modifier_Symbol",
        "So": "Other_Symbol",
        "Z": "Separator",
        "Zs": "Space_Separator",
        "Zl": "Line_Separator",
        "Zp": "Paragraph_Separator",
        "C": "Other",
        "Cc": "Control cntrl",
        "Cf": "Format",
        "Co": "Private_Use",
    }.items()
    for long in longs.split()
}


def compiled(pattern: str) -> Any:
    """Compile a pattern, or find it among those used last.

    Raises:
        EvaluationError: It is not one of Go's.
    """
    kept = _kept.get(pattern)
    if kept is None:
        kept = _compile(pattern)
        with _changing:
            if len(_kept) >= _KEPT:
                del _kept[next(iter(_kept))]
            _kept[pattern] = kept
    return kept


def _compile(pattern: str) -> Any:
    try:
        result = re2.compile(_DIFFERENT.sub(_as_re2, pattern), options=_OPTIONS)
    except (re2.error, UnicodeError) as error:
        said = error.args[0] if error.args else error
        told = said.decode(errors="replace") if isinstance(said, bytes) else said
        raise EvaluationError(f"not a regular expression: {told}") from None
    # The module keeps 128 patterns of its own, each with up to 8 MiB.
    re2.purge()
    return result


def _as_re2(found: re.Match[str]) -> str:
    if found["byte"] or found["name"]:
        raise EvaluationError(f"not a regular expression: {found[0]!r} is not supported")
    if found["long"]:
        words = re.split("[_ -]+", found["long"].lower())
        name = _CATEGORIES.get("".join(words)) or "_".join(map(str.capitalize, words))
        return f"{found['class']}{_ODD_NAMES.get(name, name)}}}"
    return f"{found['one']}{found['letter'].upper()}" if found["one"] else found[0]


def _matched(text: str, pattern: str, *_: Any) -> int:
    units = costs.matched(text, pattern)
    return units if pattern in _kept else units + costs.LOOKED_UP + len(pattern)


def _found_all(text: str, pattern: str, *_: Any) -> int:
    # Each match takes some microseconds.
    return _matched(text, pattern) + 12 * len(text)


def _check(nodes: Sequence[Node], _type_of: Callable[[Node], Type]) -> str | None:
    return _problem(nodes[1])


def _problem(pattern: Node) -> str | None:
    if isinstance(pattern, Literal) and isinstance(pattern.value, str):
        try:
            compiled(pattern.value)
        except EvaluationError as error:
            return error.message
    return None


def _check_both(nodes: Sequence[Node], _type_of: Callable[[Node], Type]) -> str | None:
    # The reference looks at the first argument, which is the pattern only where `matches` is a method.
    return _problem(nodes[0]) or _problem(nodes[1])


@overload("matches(string, string) -> bool", cost=_matched, check=_check_both)
@overload("matches(string, string) -> bool", method=True, cost=_matched, check=_check)
def _matches(text: str, pattern: str) -> bool:
    return compiled(pattern).search(text.encode()) is not None


@overload("find(string, string) -> string", method=True, cost=_matched, check=_check)
def _find(text: str, pattern: str) -> str:
    found = compiled(pattern).search(text.encode())
    return "" if found is None else str(found.group().decode())


@overload("findAll(string, string) -> list(string)", method=True, cost=_found_all, check=_check)
def _find_all(text: str, pattern: str) -> list[str]:
    return _found(text, pattern, -1)


@overload("findAll(string, string, int) -> list(string)", method=True, cost=_found_all, check=_check)
def _find_some(text: str, pattern: str, limit: int) -> list[str]:
    return _found(text, pattern, limit)


def _found(text: str, pattern: str, limit: int) -> list[str]:
    result: list[str] = []
    end = -1
    for match in compiled(pattern).finditer(text):
        if len(result) == limit:
            break
        # Go does not report an empty match right behind another one.
        if not match.start() == match.end() == end:
            result.append(match.group())
        end = match.end()
    return result
