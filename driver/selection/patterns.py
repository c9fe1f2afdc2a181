"""What regular expressions take beyond what they are charged.

Purpose: the reference's costs know how long a pattern's text is, and not what it repeats: `(a?){100}` takes
a hundred times as long as `(a?){1}`. A single evaluation may take that; 80,000 of them hold everything up.

Flow: `Part` counts `time_of` the patterns of an expression for each evaluation, in units of the evaluator.

Limits: an estimate of the worst, RE2's slow way, measured with patterns of 24,000 instructions (40 ms for
ten characters). Small patterns are free, since RE2 goes the quick way with them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from driver.cel.errors import EvaluationError
from driver.cel.library.regexes import compiled
from driver.cel.literals import PATTERN_FUNCTIONS
from driver.cel.syntax import Call, Literal, Node, children
from driver.selection.limits import LARGE_PATTERN, PATTERN_UNITS


def patterns_in(tree: Node) -> Iterator[str]:
    """The regular expressions that stand in a tree; those that are made up are the frame's to tell."""
    waiting = [tree]
    while waiting:
        node = waiting.pop()
        if isinstance(node, Call) and node.function in PATTERN_FUNCTIONS:
            for one in node.args:
                if isinstance(one, Literal) and isinstance(one.value, str):
                    yield one.value
        waiting.extend(children(node))


def time_of(patterns: Iterable[str]) -> int:
    """Units that matching all of these once takes at worst."""
    return sum(size * PATTERN_UNITS for size in map(size_of, patterns) if size > LARGE_PATTERN)


def size_of(pattern: str) -> int:
    """Instructions of a pattern; 0 if it is none."""
    try:
        return int(compiled(pattern).programsize)
    except EvaluationError:
        return 0
