"""What one container asks of one family of names, in the amounts of today.

Flow: names and amounts of a container -> one `Ask` for each family, by the rules of its table.

Rules that people see:

* A container that asks for amounts and no count gets `default_count` cards of NVIDIA, one of other vendors.
* Memory that is not asked for, or 0, is the whole card's, as HAMi has it: such a share has the card to
  itself. So does 100 percent. A cap on compute stays if it was asked for.
* Of memory in units and in percent, units count, as under HAMi.
* Compute in the vendor's units becomes percent, rounded down, so that shares that filled a card together
  still do; never to 0.
* A size that can only be cut in steps or by templates is the smallest that holds what is asked, of memory and
  of compute; what no template holds is a whole card that has so much memory.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from driver.api.share_config import CorePolicy, Priority
from driver.cards import CORES_PER_CARD
from driver.conversion.amounts import CARDS, PERCENT, Unit, memory_unit, parsed, whole_number
from driver.conversion.errors import LegacyAmountError
from driver.conversion.names import Catalogue, Family
from driver.conversion.settings import ConversionSettings
from driver.conversion.ways import is_soft
from driver.quantities import MIB, Form

_BYTES = re.compile(r"[0-9.][MGT]$")
"""Of 1000 and more the API server makes `1k`, so what is larger than that alone is sure to be bytes."""
Amounts = Mapping[str, object]
"""Names of one container, as the cluster calls them -> quantity as JSON holds it."""


@dataclass(frozen=True, kw_only=True)
class Ask:
    """What a container asks of a family; the same for each card.

    Attributes:
        family: The names.
        count: How many cards, each another one.
        memory_mib: Memory in MiB; 0 if none is asked for.
        memory_percent: Memory in percent of the card, below 100; 0 if it is not asked for so.
        at_least_mib: Memory that a card has to have of which all is asked for; 0 for any card.
        cores: Cap on compute in percent; 0 for none.
        core_policy: Whether the cap holds.
        priority: Whether it goes before others of its card; None where nobody says so.
    """

    family: Family
    count: int
    memory_mib: int = 0
    memory_percent: int = 0
    at_least_mib: int = 0
    cores: int = 0
    core_policy: CorePolicy = CorePolicy.FORCE
    priority: Priority | None = None

    @property
    def whole(self) -> bool:
        """Whether it is a whole card without a cap on compute."""
        return not (self.memory_mib or self.memory_percent or self.cores)


@dataclass(frozen=True, kw_only=True)
class Circumstances:
    """What else of a pod and its container bears on amounts.

    Attributes:
        annotations: Of the pod.
        core_policy: What the container says of the cap on compute, by family.
        settings: The administrator's.
        warn: Takes a sentence for whoever made the pod.
    """

    annotations: Mapping[str, str]
    core_policy: Callable[[Family], CorePolicy]
    settings: ConversionSettings
    warn: Callable[[str], None]


def asks_of(amounts: Amounts, *, catalogue: Catalogue, around: Circumstances, path: str) -> tuple[Ask, ...]:
    """What a container asks for, in the order of the families.

    Args:
        amounts: Its names and amounts; only those of the catalogue.
        catalogue: The names.
        around: What else bears on it.
        path: Path of its limits, such as `spec.containers[0].resources.limits`.

    Raises:
        LegacyAmountError: An amount cannot be meant.
    """
    asked: dict[Family, dict[str, object]] = {}
    for name, value in amounts.items():
        family, role = catalogue.roles[name]
        asked.setdefault(family, {})[role] = value
    found = []
    for family in catalogue.families:
        if family in asked:
            ask = _Reader(family, asked[family], around=around, path=path).ask()
            if ask is not None:
                found.append(ask)
    return tuple(found)


class _Reader:
    """Reads the amounts of one container and one family."""

    def __init__(
        self, family: Family, asked: Mapping[str, object], *, around: Circumstances, path: str
    ) -> None:
        self._family = family
        self._entry = family.entry
        self._asked = asked
        self._around = around
        self._path = path

    def ask(self) -> Ask | None:
        amounts = {role: self._number(role) for role in self._asked}
        count = self._count(amounts)
        if count == 0:
            return None
        if self._entry.parts > 1:
            return self._parts(count)
        if self._entry.whole:
            return Ask(family=self._family, count=count)
        return self._prior(self._sized(count, amounts), amounts)

    def _prior(self, ask: Ask, amounts: Mapping[str, int]) -> Ask:
        if "priority" not in amounts:
            return ask
        if ask.whole:
            self._around.warn(f"{self._field('priority')}: no effect on whole cards, which nobody shares.")
            return ask
        return replace(ask, priority=Priority.LOW if amounts["priority"] else Priority.HIGH)

    def _sized(self, count: int, amounts: Mapping[str, int]) -> Ask:
        memory, percent = amounts.get("memory", 0), amounts.get("memory_percent", 0)
        settings = self._around.settings
        if memory and percent:
            self._around.warn(
                f"{self._field('memory_percent')}: not the percent counts, but "
                f"{self._family.resources['memory']}."
            )
            percent = 0
        if not memory and not percent and self._entry.defaults:
            memory = settings.default_memory_mib
        if "memory" in amounts and not memory and not percent:
            self._around.warn(f"{self._field('memory')}: 0 asks for the whole memory of the card.")
        cores = amounts.get("cores", settings.default_cores if self._entry.defaults else 0)
        if count > 1 and self._entry.several_whole and (memory or percent):
            self._around.warn(
                f"{self._field('count')}: each card gives what is asked for; under HAMi several cards were "
                "given whole, whatever was asked."
            )
        if percent == CORES_PER_CARD:
            percent = 0
        made = Ask(
            family=self._family,
            count=count,
            memory_mib=memory,
            memory_percent=percent,
            cores=cores,
            core_policy=self._around.core_policy(self._family) if cores else CorePolicy.FORCE,
        )
        return self._cut(made)

    def _cut(self, ask: Ask) -> Ask:
        entry, memory = self._entry, ask.memory_mib
        if entry.memory_most_mib and memory > entry.memory_most_mib:
            raise LegacyAmountError(
                f"{memory} MiB are more than the {entry.memory_most_mib} MiB of such a card.",
                field=self._field("memory"),
                remedy=f"Ask for at most {entry.memory_most_mib} MiB, or for several cards.",
            )
        steps = [size for size in entry.memory_steps_mib if memory <= size]
        if memory and steps:
            return _changed(ask, memory_mib=steps[0])
        if not memory or not entry.templates or is_soft(self._family, self._around.annotations):
            return ask
        for one in entry.templates:
            if memory <= one.memory_mib and ask.cores <= one.cores_percent:
                return _changed(ask, memory_mib=one.memory_mib, cores=one.cores_percent)
        self._around.warn(
            f"{self._field('memory')}: no template holds so much, so the whole card is given, as under HAMi."
        )
        has = min(memory, entry.memory_whole_mib or memory)
        return Ask(family=self._family, count=ask.count, at_least_mib=has)

    def _parts(self, count: int) -> Ask:
        entry = self._entry
        share = CORES_PER_CARD // entry.parts
        if not entry.parts_fill or count == 1:
            return Ask(family=self._family, count=count, memory_percent=share, cores=share)
        if count % entry.parts:
            raise LegacyAmountError(
                f"{count} are neither 1 nor whole cards, which have {entry.parts} each.",
                field=self._field("count"),
                remedy=f"Ask for 1 or for a multiple of {entry.parts}.",
            )
        return Ask(family=self._family, count=count // entry.parts)

    def _count(self, amounts: Mapping[str, int]) -> int:
        entry, count = self._entry, amounts.get("count")
        sizes = [role for role in ("memory", "memory_percent", "cores") if role in amounts]
        if count is None:
            if not sizes:
                return 0
            count = self._around.settings.default_count if entry.defaults else 1
            if not count:
                raise LegacyAmountError(
                    f"The container asks for an amount, and for no {self._family.count}.",
                    field=self._field(sizes[0]),
                    remedy=f"Ask for {self._family.count} too.",
                )
        elif count > 1 and entry.size_of_one:
            self._around.warn(
                f"{self._field('count')}: {count} cards are given; under HAMi it was a size of one. Ask by "
                "amounts alone for a part of a card."
            )
        elif not count and sizes:
            self._around.warn(f"{self._field('count')}: 0 cards are asked for, so no amount counts.")
        if count > 1 and count % entry.group:
            raise LegacyAmountError(
                f"{count} is not a multiple of {entry.group}, in which these cards are given.",
                field=self._field("count"),
                remedy=f"Ask for {count + entry.group - count % entry.group}.",
            )
        if 0 < count < entry.group:
            self._around.warn(f"{self._field('count')}: these cards are given {entry.group} at a time.")
            count = entry.group
        return count

    def _number(self, role: str) -> int:
        value, field = self._asked[role], self._field(role)
        if role == "memory":
            return self._memory(value, field)
        if role == "cores":
            return self._cores(value, field)
        if role == "memory_percent":
            number = whole_number(value, unit=PERCENT, field=field)
            if not number:
                raise LegacyAmountError(
                    "0 percent of a card is no memory at all.",
                    field=field,
                    remedy="Write 1 to 100, or leave it out for the whole memory.",
                )
            return number
        if role == "priority":
            return whole_number(value, unit=Unit(what="steps", most=1 << 31), field=field)
        if self._entry.parts_fill:
            most = CARDS.most * self._entry.parts
            return whole_number(value, unit=Unit(what="cores", most=most), field=field)
        return whole_number(value, unit=CARDS, field=field)

    def _memory(self, value: object, field: str) -> int:
        entry = self._entry
        size = entry.memory_unit * self._around.settings.memory_factors.get(entry.memory, 1)
        unit = memory_unit(size)
        if entry.memory_in_bytes:
            quantity = parsed(value, unit=unit, field=field)
            amount = quantity.rounded_up
            suffixed = quantity.form is Form.BINARY or _BYTES.search(str(value).strip())
            if suffixed and 0 < amount <= unit.most * size:
                return -(-amount // MIB)
        return whole_number(value, unit=unit, field=field) * (size // MIB)

    def _cores(self, value: object, field: str) -> int:
        whole = self._entry.cores_of
        what = "percent" if whole == CORES_PER_CARD else "units"
        number = whole_number(value, unit=Unit(what=what, most=whole), field=field)
        return max(number * CORES_PER_CARD // whole, 1) if number else 0

    def _field(self, role: str) -> str:
        return f"{self._path}[{self._family.resources[role]}]"


def _changed(ask: Ask, *, memory_mib: int, cores: int | None = None) -> Ask:
    return Ask(
        family=ask.family,
        count=ask.count,
        memory_mib=memory_mib,
        cores=ask.cores if cores is None else cores,
        core_policy=ask.core_policy,
    )
