"""An answer held against a recorded one, by the rules of the corpus' README.

Purpose: feasibility (solution, none, or the same kind of error), exactness (the same AllocationResults,
amounts by number), and whether the amounts are written alike too. Pure.

Limits: what 1.36 answers by a flaw need not be copied: where ours gives the feasibility and the devices that
1.37 gives, and 1.36 gives others, the outcome does not count either way.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from driver.errors import QuantityError
from driver.quantities import parse_quantity

_AMOUNTS = "consumedCapacity"


@dataclass(frozen=True, slots=True)
class Verdict:
    """How an answer for one node compares.

    Attributes:
        feasible: Solution, no solution or error is the same; of errors the kind too.
        exact: The results are the same as well.
        alike: The amounts are written alike as well.
        over: Ours allocates what the reference says cannot be.
    """

    feasible: bool
    exact: bool
    alike: bool
    over: bool


def plain(value: Any, *, numbers: bool = False) -> Any:
    """A value to compare: absent, null and empty are the same; with `numbers`, amounts by number."""
    if isinstance(value, dict):
        kept = {}
        for name, one in value.items():
            inner = _by_number(one) if numbers and name == _AMOUNTS else plain(one, numbers=numbers)
            if inner not in (None, "", [], {}):
                kept[name] = inner
        return kept
    return [plain(one, numbers=numbers) for one in value] if isinstance(value, list) else value


def _by_number(amounts: Any) -> Any:
    try:
        return {name: parse_quantity(str(text)).nano for name, text in (amounts or {}).items()}
    except QuantityError:
        return plain(amounts)


def compare(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> Verdict:
    """Compare the answers for one node."""
    mine, yours = ours.get("allocations"), theirs.get("allocations")
    if mine is None or yours is None:
        feasible = mine is None and yours is None and ours.get("errorKind") == theirs.get("errorKind")
        return Verdict(feasible, feasible, feasible, mine is not None)
    exact = plain(mine, numbers=True) == plain(yours, numbers=True)
    return Verdict(feasible=True, exact=exact, alike=exact and plain(mine) == plain(yours), over=False)


def flaw_not_copied(
    ours: Mapping[str, Any], theirs: Mapping[str, Any], newer: Mapping[str, Any] | None
) -> bool:
    """Whether ours avoids what only the newer release avoids."""
    if newer is None or compare(_devices(theirs), _devices(newer)).exact:
        return False
    return compare(_devices(ours), _devices(newer)).exact


def _devices(answer: Mapping[str, Any]) -> dict[str, Any]:
    """An answer without the config, which 1.37 writes in another way."""
    allocations: Sequence[Mapping[str, Any]] | None = answer.get("allocations")
    if allocations is None:
        return dict(answer)
    stripped = []
    for one in allocations:
        devices = {name: value for name, value in (one.get("devices") or {}).items() if name != "config"}
        stripped.append({**one, "devices": devices})
    return {**answer, "allocations": stripped}
