"""What allocated claims hold, by claim and by device.

Purpose: one claim comes or goes, and only what it holds is touched; the state before stays what it was.

Flow: `Usage.with_claims` gives the usage after, and which devices it changed for; `in_use` shows a usage to
the allocator as it wants to see it.

Limits: a claim is known by its UID, or by namespace and name where it has none. What was held when the
snapshot was built is held for ever.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import TypeVar

from driver.allocation.cluster.persistent import Persistent
from driver.allocation.models import JSON, DeviceID
from driver.allocation.snapshot import Holding, InUse, holdings
from driver.errors import InvalidInputError

T = TypeVar("T")

Sums = tuple[tuple[str, int], ...]


@dataclass(frozen=True, slots=True)
class Use:
    """What is held of one device.

    Attributes:
        whole: How many claims hold it as a whole.
        shares: How many shares of it are held.
        consumed: Name and nanos of what these consume together.
    """

    whole: int = 0
    shares: int = 0
    consumed: Sums = ()

    @property
    def nothing(self) -> bool:
        """Whether nobody holds anything of it."""
        return not self.whole and not self.shares

    def plus(self, held: Holding) -> Use:
        """Add what a claim holds."""
        if held.amounts is None:
            return Use(self.whole + 1, self.shares, self.consumed)
        return Use(self.whole, self.shares + 1, _added(self.consumed, held.amounts, sign=1))

    def minus(self, held: Holding) -> Use:
        """Take away what a claim held."""
        if held.amounts is None:
            return Use(self.whole - 1, self.shares, self.consumed)
        consumed = _added(self.consumed, held.amounts, sign=-1) if self.shares > 1 else ()
        return Use(self.whole, self.shares - 1, consumed)


NOTHING = Use()


def _added(sums: Sums, amounts: Sums, *, sign: int) -> Sums:
    if not sums:
        return amounts if sign > 0 else tuple((name, -amount) for name, amount in amounts)
    result = dict(sums)
    for name, amount in amounts:
        result[name] = result.get(name, 0) + sign * amount
    return tuple(result.items())


@dataclass(frozen=True, slots=True)
class Usage:
    """All that is held.

    Attributes:
        devices: Devices of which something is held.
        claims: What each claim holds, by UID.
    """

    devices: Persistent[DeviceID, Use]
    claims: Persistent[str, tuple[Holding, ...]]

    @classmethod
    def build(cls, in_use: InUse, claims: Iterable[JSON], *, known: Mapping[DeviceID, DeviceID]) -> Usage:
        """Add up what is held.

        Args:
            in_use: What is held by whomever, for ever.
            claims: ResourceClaims (v1).
            known: The objects that stand for the ids of devices, so that each is kept once.
        """
        devices: dict[DeviceID, Use] = {}
        for device in {*in_use.whole, *in_use.shares}:
            devices[device] = Use(
                int(device in in_use.whole),
                in_use.shares.get(device, 0),
                tuple(in_use.consumed.get(device, {}).items()),
            )
        held: dict[str, tuple[Holding, ...]] = {}
        alike: dict[Sums, Sums] = {}
        for claim in claims:
            some = tuple(
                Holding(
                    known.get(one.device, one.device),
                    None if one.amounts is None else alike.setdefault(one.amounts, one.amounts),
                )
                for one in holdings(claim)
            )
            key = key_of(claim)
            for before in held.pop(key, ()):
                devices[before.device] = devices[before.device].minus(before)
            if some:
                held[key] = some
            for one in some:
                devices[one.device] = devices.get(one.device, NOTHING).plus(one)
        return cls(
            Persistent((device, use) for device, use in devices.items() if not use.nothing),
            Persistent(held.items()),
        )

    def with_claims(
        self, *, changed: Iterable[JSON], removed: Iterable[str]
    ) -> tuple[Usage, dict[DeviceID, tuple[Use, Use]]]:
        """Give the usage after claims changed, and the devices it differs for: before and after.

        Args:
            changed: ResourceClaims (v1) that are new or different.
            removed: UIDs of those that are gone.
        """
        after: dict[str, tuple[Holding, ...] | None] = dict.fromkeys(removed)
        for claim in changed:
            after[key_of(claim)] = holdings(claim) or None
        uses: dict[DeviceID, Use] = {}
        for key, some in after.items():
            for held in self.claims.get(key) or ():
                uses[held.device] = self._use(held.device, uses).minus(held)
            for held in some or ():
                uses[held.device] = self._use(held.device, uses).plus(held)
        usage = Usage(
            self.devices.changed({device: None if use.nothing else use for device, use in uses.items()}),
            self.claims.changed(after),
        )
        return usage, {device: (self.use(device), use) for device, use in uses.items()}

    def use(self, device: DeviceID) -> Use:
        """Say what is held of a device."""
        return self.devices.get(device) or NOTHING

    def _use(self, device: DeviceID, changed: Mapping[DeviceID, Use]) -> Use:
        return changed.get(device) or self.use(device)

    def in_use(self) -> InUse:
        """Show it as the allocator sees what is held; nothing is copied."""
        return InUse(_Whole(self.devices), _Shares(self.devices), _Consumed(self.devices))


def key_of(claim: JSON) -> str:
    """What a claim is known by.

    Raises:
        InvalidInputError: It has neither UID nor name.
    """
    metadata = claim.get("metadata") or {}
    name = metadata.get("name")
    key = metadata.get("uid") or (name and f"{metadata.get('namespace') or ''}/{name}")
    if not key:
        raise InvalidInputError(
            "a claim has neither a UID nor a name",
            field="ResourceClaim: metadata",
            remedy="Give objects as the API server stores them.",
        )
    return str(key)


class _Whole(AbstractSet[DeviceID]):
    def __init__(self, devices: Mapping[DeviceID, Use]) -> None:
        self._devices = devices

    def __contains__(self, device: object) -> bool:
        use = self._devices.get(device)  # type: ignore[call-overload]
        return use is not None and use.whole > 0

    def __iter__(self) -> Iterator[DeviceID]:
        return (device for device, use in self._devices.items() if use.whole)

    def __len__(self) -> int:
        return sum(1 for _ in self)


class _Shares(Mapping[DeviceID, int]):
    def __init__(self, devices: Mapping[DeviceID, Use]) -> None:
        self._devices = devices

    def __getitem__(self, device: DeviceID) -> int:
        if shares := self.get(device, 0):
            return shares
        raise KeyError(device)

    def get(self, device: DeviceID, default: T = None) -> int | T:  # type: ignore[assignment]
        use = self._devices.get(device)
        return use.shares if use is not None and use.shares else default

    def __iter__(self) -> Iterator[DeviceID]:
        return (device for device, use in self._devices.items() if use.shares)

    def __len__(self) -> int:
        return sum(1 for _ in self)


class _Consumed(Mapping[DeviceID, Mapping[str, int]]):
    def __init__(self, devices: Mapping[DeviceID, Use]) -> None:
        self._devices = devices

    def __getitem__(self, device: DeviceID) -> Mapping[str, int]:
        use = self._devices[device]
        if not use.shares:
            raise KeyError(device)
        return dict(use.consumed)

    def get(self, device: DeviceID, default: T = None) -> Mapping[str, int] | T:  # type: ignore[assignment]
        use = self._devices.get(device)
        return dict(use.consumed) if use is not None and use.shares else default

    def __iter__(self) -> Iterator[DeviceID]:
        return (device for device, use in self._devices.items() if use.shares)

    def __len__(self) -> int:
        return sum(1 for _ in self)
