"""The cluster's cards and classes, as far as charging asks about them: which card could a request get?

Flow: follows a `Fleet`, which whoever has one of its own feeds by `put`, `put_devices` and `remove`; whoever
watches DeviceClasses calls `put_class` and `remove_class`; `choice` answers, by the index over devices.

Limits: mutable, with one owner, in one thread. A selector that cannot be decided (it raises, costs too much,
or is not supported) counts as one that could hold: charging errs to the side of more.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from driver.cards import CORES_PER_CARD, DRIVER_NAME, Card
from driver.cel import DeviceView, Selector, SelectorRaisedError, compile_selector
from driver.errors import QuantityError, SelectorError
from driver.fleet import Fleet, Group
from driver.quantities import MIB, parse_quantity
from driver.vendors.catalogue import VENDORS

_MAX_ANSWERS = 1024
_MAX_UNITS = 25_000
"""What evaluating one selector may cost: some 10 ms. Most cost nothing, since columns answer them."""
_PROBE = DeviceView.build({}, driver=DRIVER_NAME)
"""A device of ours of which nothing is known: what holds for it holds for whatever card comes."""

_VENDOR_OF = {f"{one.name}.{DRIVER_NAME}": one.name for one in VENDORS}
"""Vendors by the name of their class in the chart."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CardKind:
    """What charging tells cards apart by.

    Attributes:
        vendor: The vendor's short name.
        model: Product name, in small letters.
        memory_mib: Memory that it gives out.
        shareable: Whether it can be given to several.
        default_cores: Compute in percent of a share that asks for none: 0 for no cap, or all of it.
        cores: Compute that it has, in percent of a card.
        partition: Whether it is a part of a card, such as a MIG instance, and not a card.
    """

    vendor: str
    model: str
    memory_mib: int
    shareable: bool = True
    default_cores: int = 0
    cores: int = CORES_PER_CARD
    partition: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """The cards that a request could get.

    Attributes:
        ours: Whether it could get a card of ours at all, now or when others come.
        kinds: Kinds of cards that its class and its selectors hold for; empty if that is none of today's.
        similar: What is most like them where there are none: the kinds of its class, else all of the cluster.
        vendor: Where no card tells, the vendor that the class stands for by its name; "" for none.
    """

    ours: bool
    kinds: frozenset[CardKind] = frozenset()
    similar: frozenset[CardKind] = frozenset()
    vendor: str = ""


FOREIGN = Choice(ours=False)


@dataclass(frozen=True, slots=True)
class _Class:
    ours: bool
    selectors: tuple[str, ...]


class Stock:
    """All cards of the cluster, and all classes.

    Attributes:
        version: Grows whenever an answer may be another one than before.
    """

    def __init__(
        self, *, class_is_ours: Callable[[Mapping[str, Any]], bool], fleet: Fleet | None = None
    ) -> None:
        """Makes an empty stock.

        Args:
            class_is_ours: Whether a DeviceClass picks only devices of our driver, as far as that can be seen.
            fleet: The cards, none so far; without one, its own.
        """
        self.version = 0
        self._class_is_ours = class_is_ours
        self._fleet = fleet if fleet is not None else Fleet()
        self._held: dict[str, Mapping[CardKind, int]] = {}
        self._kinds: dict[CardKind, int] = {}
        self._classes: dict[str, _Class] = {}
        self._answers: dict[tuple[str, tuple[str, ...]], Choice] = {}
        self._fleet.follow(self)

    def put(self, node: str, cards: Sequence[Card]) -> None:
        """See `Fleet.put`; cards that are not offered do not count."""
        self._fleet.put(node, cards)

    def put_devices(
        self, key: str, devices: Sequence[Mapping[str, Any]], *, driver: str = DRIVER_NAME, node: str = ""
    ) -> None:
        """See `Fleet.put_devices`; devices of other drivers do not count."""
        self._fleet.put_devices(key, devices, driver=driver, node=node)

    def remove(self, key: str) -> None:
        """See `Fleet.remove`."""
        self._fleet.remove(key)

    def came(self, group: Group) -> None:
        """See `driver.fleet.Follower`."""
        if group.driver != DRIVER_NAME:
            return
        kinds: dict[CardKind, int] = {}
        offered = self._fleet.offered
        for number, device in zip(group.slots.numbers, group.documents, strict=True):
            if offered >> number & 1:
                kind = _kind(device)
                kinds[kind] = kinds.get(kind, 0) | 1 << number
        for kind, bits in kinds.items():
            self._kinds[kind] = self._kinds.get(kind, 0) | bits
        self._held[group.key] = kinds
        self._changed()

    def went(self, key: str) -> None:
        """See `driver.fleet.Follower`."""
        found = self._held.pop(key, None)
        if found is None:
            return
        for kind, bits in found.items():
            left = self._kinds[kind] & ~bits
            if left:
                self._kinds[kind] = left
            else:
                del self._kinds[kind]
        self._changed()

    def put_class(self, document: Mapping[str, Any]) -> None:
        """Takes note of a DeviceClass."""
        name = str((document.get("metadata") or {}).get("name") or "")
        selectors = _expressions((document.get("spec") or {}).get("selectors"))
        made = _Class(self._class_is_ours(document), selectors)
        if self._classes.get(name) != made:
            self._classes[name] = made
            self._changed()

    def remove_class(self, name: str) -> None:
        """Forgets a DeviceClass."""
        if self._classes.pop(name, None) is not None:
            self._changed()

    def choice(self, class_name: str, selectors: tuple[str, ...]) -> Choice:
        """Says which cards a request could get.

        Args:
            class_name: Its DeviceClass. One that is not there could be made any time, and counts as ours.
            selectors: Its own CEL expressions.
        """
        key = (class_name, selectors)
        found = self._answers.get(key)
        if found is None:
            found = self._choice(class_name, selectors)
            if len(self._answers) >= _MAX_ANSWERS:
                del self._answers[next(iter(self._answers))]
            self._answers[key] = found
        return found

    def _choice(self, class_name: str, selectors: tuple[str, ...]) -> Choice:
        known = self._classes.get(class_name)
        class_true, class_raises = self._select(known.selectors if known is not None else ())
        true, raises = self._select(selectors)
        if known is None or known.ours:
            class_bits = class_true | class_raises
            kinds = self._of(class_bits & (true | raises))
            similar = kinds or self._of(class_bits)
            vendor = "" if similar else _VENDOR_OF.get(class_name, "")
            return Choice(ours=True, kinds=kinds, similar=similar or frozenset(self._kinds), vendor=vendor)
        # A class that may be another driver's: only what is sure to hold for a card of ours counts.
        kinds = self._of(class_true & true)
        if kinds or _holds_for_any(known.selectors + selectors):
            return Choice(ours=True, kinds=kinds, similar=kinds or frozenset(self._kinds))
        return FOREIGN

    def _select(self, expressions: tuple[str, ...]) -> tuple[int, int]:
        """Devices for which all hold, and those on which one raises and none is false."""
        true = possible = self._fleet.every
        for text in expressions:
            selector = _compiled(text)
            if selector is None:
                true = 0
                continue
            found = self._fleet.select(selector, units=_MAX_UNITS)
            true &= found.true
            possible &= found.true | found.raises
        return true, possible & ~true

    def _of(self, devices: int) -> frozenset[CardKind]:
        return frozenset(kind for kind, bits in self._kinds.items() if bits & devices)

    def _changed(self) -> None:
        self.version += 1
        self._answers.clear()


def _kind(device: Mapping[str, Any]) -> CardKind:
    attributes, capacity = device.get("attributes") or {}, device.get("capacity") or {}
    cores = capacity.get("cores") or {}
    has = min(_number(cores.get("value")), CORES_PER_CARD)
    return CardKind(
        vendor=str((attributes.get("vendor") or {}).get("string") or ""),
        model=str((attributes.get("model") or {}).get("string") or "").lower(),
        memory_mib=_number((capacity.get("memory") or {}).get("value")) // MIB,
        shareable=device.get("allowMultipleAllocations") is True,
        default_cores=min(_number((cores.get("requestPolicy") or {}).get("default")), CORES_PER_CARD),
        cores=has or CORES_PER_CARD,
        partition="profile" in attributes,
    )


def _number(value: Any) -> int:
    try:
        return max(0, parse_quantity(str(value if value is not None else "0")).rounded_up)
    except QuantityError:
        return 0


def _expressions(raw: Any) -> tuple[str, ...]:
    return tuple(str((one.get("cel") or {}).get("expression") or "") for one in raw or ())


def _compiled(text: str) -> Selector | None:
    try:
        return compile_selector(text)
    except SelectorError:
        return None


def _holds_for_any(expressions: tuple[str, ...]) -> bool:
    """Whether a card of ours could be selected of which nothing is known."""
    for text in expressions:
        selector = _compiled(text)
        try:
            if selector is None or not selector.evaluate(_PROBE):
                return False
        except SelectorRaisedError:
            return False
    return True
