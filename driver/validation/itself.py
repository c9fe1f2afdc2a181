"""What is wrong with a claim by itself: nothing of the cluster is asked.

Purpose: the one function that admission and prepare share, so that both refuse the same in the same words.

Flow: `check_itself` reads requests and configuration of `spec.devices` and gives what it read; `refuse_first`
is what prepare calls.

Limits: amounts and entries of our driver alone. Selectors, counts and what cards can give are admission's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

from driver.errors import DragomanError
from driver.quantities import Quantity
from driver.validation.amounts import check_amounts
from driver.validation.configs import Said, conflicts, read_configs
from driver.validation.errors import ObjectUnreadableError
from driver.validation.findings import Notes
from driver.validation.requests import Option, options_of


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What a claim asks for.

    Attributes:
        options: Its requests and sub-requests of our classes.
        others: Those of other classes.
        amounts: What each of them asks for itself, by label.
        configs: The entries of its configuration that are ours.
    """

    options: Sequence[Option]
    others: Sequence[Option]
    amounts: Mapping[str, Mapping[str, Quantity]]
    configs: Sequence[Said]


class _FirstNotes(Notes):
    """Raises instead of noting."""

    def refuse(self, error: DragomanError) -> NoReturn:
        raise error


def check_itself(
    devices: Mapping[str, Any], *, field: str, is_ours: Callable[[Option], bool], notes: Notes
) -> Asked:
    """Notes what is wrong with `spec.devices` of a claim or template, whatever the cluster has.

    Args:
        devices: The field's content.
        field: Its path.
        is_ours: Whether a request or sub-request is for our cards.
        notes: Where to note it.
    """
    every = options_of(devices, field=field, notes=notes)
    ours = [one for one in every if is_ours(one)]
    amounts: dict[str, dict[str, Quantity]] = {}
    for option in ours:
        try:
            requests = option.amounts()
        except ObjectUnreadableError as odd:
            notes.refuse(odd)
            continue
        amounts[option.label] = check_amounts(requests, field=option.amounts_field, notes=notes)
    known = {one.label for one in every} | {one.request for one in every}
    configs = read_configs(devices, field=field, notes=notes, known=known)
    conflicts(configs, [one.label for one in ours], asked=amounts, notes=notes)
    others = [one for one in every if one not in ours]
    return Asked(options=ours, others=others, amounts=amounts, configs=configs)


def refuse_first(devices: Mapping[str, Any], *, field: str, is_ours: Callable[[Option], bool]) -> None:
    """Refuses what `check_itself` finds.

    Raises:
        DragomanError: The first thing that is wrong.
    """
    check_itself(devices, field=field, is_ours=is_ours, notes=_FirstNotes())
