"""Functions of strings.

Purpose: CEL's standard string functions; regular expressions through RE2, because the cluster uses RE2's
language and because it takes linear time whatever the pattern.

Flow: overloads; `compiled` is also what the checker tests literal patterns with.

Limits: patterns are kept in a small cache; RE2 itself bounds the memory of each.
"""

from __future__ import annotations

import functools
from typing import Any

import re2

from driver.cel.errors import EvaluationError
from driver.cel.library import costs
from driver.cel.library.entry import overload

_OPTIONS = re2.Options()
_OPTIONS.log_errors = False
_OPTIONS.never_nl = False


@functools.lru_cache(maxsize=256)
def compiled(pattern: str) -> Any:
    """Compile a pattern.

    Raises:
        EvaluationError: It is not one of RE2's.
    """
    try:
        return re2.compile(pattern, options=_OPTIONS)
    except (re2.error, UnicodeError) as error:
        raise EvaluationError(f"not a regular expression: {error}") from None


@overload("matches(string, string) -> bool", cost=costs.first)
@overload("matches(string, string) -> bool", method=True, cost=costs.first)
def _matches(text: str, pattern: str) -> bool:
    return compiled(pattern).search(text) is not None


@overload("startsWith(string, string) -> bool", method=True, cost=costs.first)
def _starts_with(text: str, prefix: str) -> bool:
    return text.startswith(prefix)


@overload("endsWith(string, string) -> bool", method=True, cost=costs.first)
def _ends_with(text: str, suffix: str) -> bool:
    return text.endswith(suffix)


@overload("contains(string, string) -> bool", method=True, cost=costs.first)
def _contains(text: str, part: str) -> bool:
    return part in text
