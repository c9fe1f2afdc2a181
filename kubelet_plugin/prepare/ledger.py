"""The last guard: what is held of each card, as sums in memory.

Purpose: invariant 1. Whoever allocated, no sum of what is prepared exceeds a card.

Flow: `check_and_reserve` either takes all shares of a claim or none; `load` takes what is prepared already
without a question (at start, or because another agent prepared it); `release` gives back.

A card and its partitions exclude each other, and so do partitions that need the same slots, whatever counters
the allocator knew of: names tell the slots (`driver.places`).

Limits: pure and without a lock of its own: `state.StateFolder` calls it under the node's lock. The cost of a
reservation does not depend on how many claims are prepared; only a refusal looks at the claims on its card.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from driver.cards import CORES_PER_CARD, Card
from driver.errors import DeviceGoneError, OverCommitError, OverCommitReleasingError
from driver.places import card_of, exclude
from driver.shares import Share


class CardFullError(OverCommitError):
    """The card has not enough left.

    Attributes:
        holders: UIDs of the claims on the card.
    """

    def __init__(self, message: str, *, holders: frozenset[str]) -> None:
        super().__init__(message, remedy="Delete the pod; its replacement is scheduled where there is room.")
        self.holders = holders


class ReservationInDoubtError(OverCommitReleasingError):
    """The card may be held by a claim whose record cannot be read; resolved by the next clean-up."""

    reason: ClassVar[str] = "ReservationInDoubt"


@dataclass(frozen=True, kw_only=True)
class CardUse:
    """Sums of what is held of a card.

    Attributes:
        memory_mib: Memory in MiB.
        cores_percent: Sum of the caps on compute; shares without a cap count nothing.
        whole: Claims that have the card to themselves.
        claims: All claims on the card, without those that have administrative access only.
    """

    memory_mib: int = 0
    cores_percent: int = 0
    whole: frozenset[str] = frozenset()
    claims: frozenset[str] = frozenset()


@dataclass
class _Book:
    memory: int = 0
    cores: int = 0
    holders: dict[str, _Part] = field(default_factory=dict)
    whole: set[str] = field(default_factory=set)


@dataclass(frozen=True)
class _Part:
    memory: int = 0
    cores: int = 0
    whole: bool = False

    def __add__(self, share: Share) -> _Part:
        return _Part(
            self.memory + share.memory_mib, self.cores + share.cores_percent, whole=self.whole or share.whole
        )


class Ledger:
    """Who holds how much of which card."""

    def __init__(self) -> None:
        self._books: dict[str, _Book] = {}
        self._of_card: dict[str, set[str]] = {}
        self._devices: dict[str, tuple[str, ...]] = {}
        self._releasing: set[str] = set()
        self._doubts: dict[str, frozenset[str] | None] = {}

    def check_and_reserve(
        self, shares: Sequence[Share], *, claim_uid: str, cards: Mapping[str, Card], as_before: bool = False
    ) -> None:
        """Takes all shares of a claim, in place of what the claim held before, or none.

        Args:
            shares: The claim's shares.
            claim_uid: Its UID.
            cards: The node's cards.
            as_before: The claim holds exactly this already, though its record is in doubt: it was within the
                card together with what others hold. Were it to wait for other doubts, two damaged records
                would wait for each other for ever.

        Raises:
            DeviceGoneError: A card is not there.
            CardFullError: A card has not enough left, and waiting does not help.
            OverCommitReleasingError: The same, but what stands in the way is being released.
            ReservationInDoubtError: What is held of the card is not known for sure.
        """
        wanted = _parts(shares)
        for device, part in wanted.items():
            if device not in cards:
                raise DeviceGoneError(f"Card {device} is not on this node.")
            if not as_before:
                self._check_doubt(device, claim_uid=claim_uid)
            self._check(cards[device], part, claim_uid=claim_uid)
            self._check_parts(device, wanted, claim_uid=claim_uid)
        self.load(shares, claim_uid=claim_uid)

    def load(self, shares: Sequence[Share], *, claim_uid: str) -> None:
        """Takes shares without a question: they are prepared already."""
        self.release(claim_uid)
        parts = _parts(shares)
        for device, part in parts.items():
            book = self._books.setdefault(device, _Book())
            self._of_card.setdefault(card_of(device), set()).add(device)
            book.memory += part.memory
            book.cores += part.cores
            book.holders[claim_uid] = part
            if part.whole:
                book.whole.add(claim_uid)
        self._devices[claim_uid] = tuple(parts)

    def release(self, claim_uid: str) -> None:
        """Gives back all that a claim holds, also what it may hold; no error if that is nothing."""
        self._releasing.discard(claim_uid)
        self._doubts.pop(claim_uid, None)
        for device in self._devices.pop(claim_uid, ()):
            book = self._books[device]
            part = book.holders.pop(claim_uid)
            book.memory -= part.memory
            book.cores -= part.cores
            book.whole.discard(claim_uid)
            if not book.holders:
                del self._books[device]
                self._leave(device)

    def hold_in_doubt(self, claim_uid: str, *, devices: frozenset[str] | None) -> None:
        """Gives nothing more of these cards (None: of any card) until it is known what the claim holds."""
        self._doubts[claim_uid] = devices

    def mark_releasing(self, claim_uid: str) -> None:
        """Notes that what the claim holds is on its way back."""
        self._releasing.add(claim_uid)

    def use(self, device: str) -> CardUse:
        """What is held of a card."""
        book = self._books.get(device)
        if book is None:
            return CardUse()
        return CardUse(
            memory_mib=book.memory,
            cores_percent=book.cores,
            whole=frozenset(book.whole),
            claims=frozenset(book.holders),
        )

    def _check(self, card: Card, part: _Part, *, claim_uid: str) -> None:
        book = self._books.get(card.name)
        if book is None:
            held = _Part()
        else:
            own = book.holders.get(claim_uid, _Part())
            others = book.holders.keys() - {claim_uid}
            blocked = bool(book.whole - {claim_uid}) or (part.whole and bool(others))
            held = _Part(book.memory - own.memory, book.cores - own.cores, whole=blocked)
        if _fits(held, part, card):
            return
        holders = frozenset(book.holders if book else ()) - {claim_uid}
        message = _refusal(held, part, card)
        if book and _fits(_rest(book, without=self._releasing | {claim_uid}, part=part), part, card):
            raise OverCommitReleasingError(
                f"{message} What stands in the way is being released.", remedy="The kubelet tries again."
            )
        raise CardFullError(message, holders=holders)

    def _leave(self, device: str) -> None:
        card = card_of(device)
        self._of_card[card].discard(device)
        if not self._of_card[card]:
            del self._of_card[card]

    def _check_parts(self, device: str, wanted: Mapping[str, _Part], *, claim_uid: str) -> None:
        """Refuses a device of which another one holds a part, or that is part of one that is held."""
        for other in wanted:
            if other != device and exclude(device, other):
                raise CardFullError(_excluded(device, other), holders=frozenset())
        for other in sorted(self._of_card.get(card_of(device), ())):
            holders = self._books[other].holders.keys() - {claim_uid}
            if other == device or not holders or not exclude(device, other):
                continue
            message = _excluded(device, other)
            if holders <= self._releasing:
                raise OverCommitReleasingError(
                    f"{message} What stands in the way is being released.", remedy="The kubelet tries again."
                )
            raise CardFullError(message, holders=frozenset(holders))

    def _check_doubt(self, device: str, *, claim_uid: str) -> None:
        for uid, devices in self._doubts.items():
            if uid != claim_uid and _may_hold(devices, device):
                raise ReservationInDoubtError(
                    f"Card {device} may be held by claim {uid}, whose record on this node cannot be read.",
                    remedy="The agent asks the kubelet which claims are in use; the kubelet tries again.",
                )


def _parts(shares: Iterable[Share]) -> dict[str, _Part]:
    parts: dict[str, _Part] = {}
    for share in shares:
        if not share.admin:
            parts[share.device] = parts.get(share.device, _Part()) + share
    return parts


def _fits(held: _Part, part: _Part, card: Card) -> bool:
    return (
        not held.whole
        and held.memory + part.memory <= card.memory_mib
        and (part.cores == 0 or held.cores + part.cores <= CORES_PER_CARD)
    )


def _rest(book: _Book, *, without: set[str], part: _Part) -> _Part:
    staying = [held for uid, held in book.holders.items() if uid not in without]
    return _Part(
        sum(held.memory for held in staying),
        sum(held.cores for held in staying),
        whole=any(held.whole for held in staying) or (part.whole and bool(staying)),
    )


def _may_hold(devices: frozenset[str] | None, device: str) -> bool:
    return devices is None or any(one == device or exclude(one, device) for one in devices)


def _excluded(device: str, other: str) -> str:
    return f"Device {device} cannot be given out: {other} is held and needs the same part of the card."


def _refusal(held: _Part, part: _Part, card: Card) -> str:
    if held.whole:
        other = "others are on it" if part.whole else "it is given to another claim as a whole"
        return f"Card {card.name} cannot take {part.memory} MiB: {other}."
    if held.memory + part.memory > card.memory_mib:
        left = max(0, card.memory_mib - held.memory)
        return (
            f"Card {card.name} has {left} of {card.memory_mib} MiB left, but {part.memory} MiB are allocated."
        )
    left = max(0, CORES_PER_CARD - held.cores)
    return f"Card {card.name} has {left} percent of compute left, but {part.cores} percent are allocated."
