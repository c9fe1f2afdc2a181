"""Which devices, and which situations of a search, are alike.

Purpose: 16 equal cards can be given in a million orders that all fail for the same reason; one is enough.

Flow: `kind` says what a device is like for whoever chooses next: two of one kind lead to the same ends.
`situation` says so of everything the rest of a search depends on. Both are asked only after something
failed. A device's class is what never changes during the search: the verdict of each request on it (that a
selector raises is one), what is left of it, its counters, the values that constraints see. Its state is what
does: what this pod took of it, in which constraints of the claim it is, whether the request is past it.
Devices that draw on one set of counters are taken together, as a card: two cards are alike if their devices
are and as much is left of each.

Limits: names are not compared, so only what no later choice could see is left out. A value that one device
alone has (a serial number) is the same as any other such value. Where mode All meets constraints, the order
of its devices decides between "no" and an error, so each of them is like no other then.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Mapping, Sequence

from driver.allocation.constraints import Constraint, Value
from driver.allocation.counters import Ledger
from driver.allocation.fit import Fit, Fits
from driver.allocation.holdings import Holdings
from driver.allocation.models import Device
from driver.allocation.requests import Claim, Option
from driver.errors import AllocationError

_UNIQUE = "unique"


class Symmetry:
    """What is alike in one search."""

    def __init__(
        self,
        *,
        claims: Sequence[Claim],
        devices: Sequence[Device],
        all_devices: Mapping[Option, tuple[Device, ...]],
        options: Sequence[Option],
        fit: Fit,
        holdings: Holdings,
    ) -> None:
        self._claims = claims
        self._devices = devices
        self._fit = fit
        self._holdings = holdings
        self._books: Mapping[Device, Ledger] = holdings.books
        self._options = tuple(options)
        # What mode All may end the attempt with, if it comes to a device at the wrong time.
        self._noisy = {
            option
            for claim in claims
            for request in claim.requests
            for option in request.options
            if option.all_devices and any(one.binds(option.label) for one in claim.constraints)
        }
        self._single = {device for option in self._noisy for device in all_devices[option]}
        self._numbers: dict[Hashable, int] = {}
        self._classes: dict[Device, int] = {}
        self._shared_values: list[list[frozenset[tuple[str, object]]]] = []
        self._cards: tuple[tuple[Device, ...], ...] = ()
        self._card_of: dict[Device, int] = {}
        self._places: dict[int, dict[Device, int]] = {}
        self._rest: dict[tuple[int, int], int] = {}

    def silent(self, option: Option) -> bool:
        """Say whether no device could end the attempt by being looked at for an option."""
        self._learn()
        return option not in self._noisy

    def kind(self, claim: int, device: Device, order: Sequence[Device], start: int) -> Hashable:
        """Say what a device is like.

        Args:
            claim: Index of the claim that chooses.
            device: The device.
            order: The order in which devices are tried.
            start: Where in it the current request began to look.
        """
        self._learn()
        places = self._place(order)
        own = self._state(claim, device, places, start)
        card = self._card_of.get(device)
        return own if card is None else (self._card(claim, card, places, start), own)

    def situation(self, claim: int, order: Sequence[Device], start: int) -> Hashable:
        """Say what the rest of a search depends on, apart from the question that is asked.

        Args:
            claim: Index of the claim whose turn it is.
            order: The order in which devices are tried.
            start: Where in it the current request goes on.
        """
        self._learn()
        places = self._place(order)
        touched = sorted(
            self._state(claim, device, places, start)
            for device in self._holdings.times
            if device not in self._card_of
        )
        cards = sorted(self._card(claim, number, places, start) for number in range(len(self._cards)))
        constraints = tuple(
            self._held(claim, place, constraint)
            for place, constraint in enumerate(self._claims[claim].constraints)
        )
        rest = self._remaining(order, start)
        return self._holdings.results[claim], rest, tuple(touched), tuple(cards), constraints

    def _number(self, thing: Hashable) -> int:
        return self._numbers.setdefault(thing, len(self._numbers))

    def _place(self, order: Sequence[Device]) -> Mapping[Device, int]:
        places = self._places.get(id(order))
        if places is None:
            places = self._places[id(order)] = {device: place for place, device in enumerate(order)}
        return places

    def _remaining(self, order: Sequence[Device], start: int) -> int:
        """Count what is still to come, by class; devices with counters are in their cards."""
        if not start:
            return -1
        key = (id(order), start)
        if key not in self._rest:
            counts = Counter(self._classes[device] for device in order[start:] if device not in self._card_of)
            self._rest[key] = self._number(("rest", tuple(sorted(counts.items()))))
        return self._rest[key]

    def _state(self, claim: int, device: Device, places: Mapping[Device, int], start: int) -> int:
        holdings = self._holdings
        times = holdings.times.get(device, 0)
        taken: Hashable = None
        if times:
            charged = tuple(sorted(holdings.charged(device).items()))
            members = tuple(device in bound for bound in holdings.members[claim])
            taken = charged, holdings.marked(claim, device), members
        ahead = not start or places.get(device, -1) >= start
        return self._number(("state", self._classes[device], taken, ahead))

    def _card(self, claim: int, number: int, places: Mapping[Device, int], start: int) -> int:
        devices = self._cards[number]
        states = tuple(sorted(self._state(claim, device, places, start) for device in devices))
        book = self._books[devices[0]]
        sets = sorted({name for device in devices for name, _ in device.counters})
        left = tuple(book.left(name) for name in sets)
        return self._number(("card", states, left))

    def _held(self, claim: int, place: int, constraint: Constraint) -> Hashable:
        values = self._holdings.values[claim][place]
        if constraint.distinct:
            return frozenset(self._shown(claim, place, value) for value in values)
        return self._shown(claim, place, values[-1]) if values else None

    def _shown(self, claim: int, place: int, value: Value) -> Hashable:
        common = self._shared_values[claim][place]
        if value.kind and not any((value.kind, element) in common for element in value.elements):
            return _UNIQUE
        return value

    def _learn(self) -> None:
        """Sort the devices into classes, once."""
        if self._classes or not self._devices:
            return
        self._shared_values = [
            [self._several(constraint) for constraint in claim.constraints] for claim in self._claims
        ]
        self._gather_cards()
        for device in self._devices:
            alike = self._class(device)
            self._classes[device] = self._number(device if device in self._single else alike)

    def _several(self, constraint: Constraint) -> frozenset[tuple[str, object]]:
        """Give the elements that more than one device has."""
        counts: Counter[tuple[str, object]] = Counter()
        for device in self._devices:
            value = constraint.value(device)
            if value is not None:
                counts.update((value.kind, element) for element in value.elements)
        return frozenset(element for element, count in counts.items() if count > 1)

    def _class(self, device: Device) -> Hashable:
        shared = self._fit.shared(device)
        held = self._fit.held(device)
        free: Hashable = None
        if shared or held:
            free = tuple(
                sorted(
                    (name, capacity.value.nano - held.get(name, 0))
                    for name, capacity in device.capacity.items()
                )
            )
        verdicts = tuple(self._verdict(device, option, shared=shared) for option in self._options)
        values = tuple(
            None if (value := constraint.value(device)) is None else self._shown(claim, place, value)
            for claim, one in enumerate(self._claims)
            for place, constraint in enumerate(one.constraints)
        )
        return "class", shared, free, verdicts, values, self._counters(device)

    def _verdict(self, device: Device, option: Option, *, shared: bool) -> Hashable:
        found = self._fit.outcome(device, option)
        if isinstance(found, Fits):
            if not shared:
                return "fits"
            return tuple(sorted((name, amount.nano) for name, amount in found.consumed.items()))
        if isinstance(found, AllocationError):
            self._noisy.add(option)
        # What raises, and what does not fit.
        return type(found).__name__

    def _counters(self, device: Device) -> Hashable:
        card = self._card_of.get(device)
        if card is None:
            return None
        sets = {name for one in self._cards[card] for name, _ in one.counters}
        # On a card with one set its name means nothing; with several the card is like no other.
        drawn = tuple(
            sorted(
                (
                    "" if len(sets) == 1 else name,
                    tuple(sorted((key, one.nano) for key, one in amounts.items())),
                )
                for name, amounts in device.counters
            )
        )
        return drawn, self._books[device].paid(device), None if len(sets) == 1 else card

    def _gather_cards(self) -> None:
        """Put devices together that draw on common sets of counters."""
        cards: list[set[Device]] = []
        owner: dict[tuple[int, str], set[Device]] = {}
        for device in self._devices:
            if not device.counters or device not in self._books:
                continue
            group = {device}
            sets = [(id(self._books[device]), name) for name, _ in device.counters]
            for known in {id(owner[key]): owner[key] for key in sets if key in owner}.values():
                group |= known
                cards.remove(known)
            cards.append(group)
            for one in group:
                owner.update(((id(self._books[one]), name), group) for name, _ in one.counters)
        order = {device: place for place, device in enumerate(self._devices)}
        self._cards = tuple(tuple(sorted(card, key=order.__getitem__)) for card in cards)
        self._card_of = {device: number for number, card in enumerate(self._cards) for device in card}
