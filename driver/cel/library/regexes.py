r"""Regular expressions: `matches`, `find` and `findAll`.

Purpose: the cluster uses RE2's language through Go; so does this, through RE2 itself, which takes linear
time whatever the pattern.

Flow: overloads; `compiled` keeps a few patterns. Literal patterns are checked when an expression compiles.

Limits: what RE2 takes and Go does not is refused (`\C`, names of groups that are not ASCII). RE2 bounds the
memory of a pattern at 8 MiB, Go at more, so the very largest patterns are refused too.
"""

from __future__ import annotations

import functools
import re
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
_ONLY_RE2 = re.compile(
    r"\\Q.*?(?:\\E|\Z)|(?P<byte>\\C)|(?P<name>\(\?P?<[^>]*[^\x00-\x7f>][^>]*>)|\\.", re.DOTALL
)


@functools.lru_cache(maxsize=_KEPT)
def compiled(pattern: str) -> Any:
    """Compile a pattern.

    Raises:
        EvaluationError: It is not one of Go's.
    """
    for found in _ONLY_RE2.finditer(pattern):
        if found["byte"] or found["name"]:
            raise EvaluationError(f"not a regular expression: {found[0]!r} is not supported")
    try:
        result = re2.compile(pattern, options=_OPTIONS)
    except (re2.error, UnicodeError) as error:
        raise EvaluationError(f"not a regular expression: {error}") from None
    # The module keeps 128 patterns of its own, each with up to 8 MiB.
    re2.purge()
    return result


def _check(nodes: Sequence[Node], _type_of: Callable[[Node], Type]) -> str | None:
    pattern = nodes[1]
    if isinstance(pattern, Literal) and isinstance(pattern.value, str):
        try:
            compiled(pattern.value)
        except EvaluationError as error:
            return error.message
    return None


@overload("matches(string, string) -> bool", cost=costs.matched, check=_check)
@overload("matches(string, string) -> bool", method=True, cost=costs.matched, check=_check)
def _matches(text: str, pattern: str) -> bool:
    return compiled(pattern).search(text) is not None


@overload("find(string, string) -> string", method=True, cost=costs.matched, check=_check)
def _find(text: str, pattern: str) -> str:
    found = compiled(pattern).search(text)
    return "" if found is None else str(found.group())


@overload("findAll(string, string) -> list(string)", method=True, cost=costs.matched, check=_check)
def _find_all(text: str, pattern: str) -> list[str]:
    return _found(text, pattern, -1)


@overload("findAll(string, string, int) -> list(string)", method=True, cost=costs.matched, check=_check)
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
