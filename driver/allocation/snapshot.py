"""Everything a decision is made from, frozen.

Purpose: slices, classes, nodes, and what is in use, read from the API's objects once.

Flow: `Snapshot.build` takes v1 JSON; decisions read it; a change makes a new one.

Limits: what is in use comes from `status.allocation` alone, by driver, pool and device name. A share
whose amounts cannot be read holds the whole device: doubt never frees anything.
"""

from __future__ import annotations

import bisect
import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, replace
from typing import TypeVar

from driver.allocation.models import JSON, DeviceID, Slice, parse_amounts, parse_slice
from driver.allocation.nodes import Node
from driver.allocation.requests import DeviceClass
from driver.allocation.sharing import Sharing
from driver.errors import InvalidInputError, QuantityError

T = TypeVar("T")
K = TypeVar("K")


@dataclass(frozen=True, slots=True)
class InUse:
    """What allocated claims hold.

    Attributes:
        whole: Devices held as a whole.
        shares: Number of shares by device.
        consumed: Sum of the shares' amounts in nanos, by device and capacity name.
    """

    whole: AbstractSet[DeviceID] = frozenset()
    shares: Mapping[DeviceID, int] = field(default_factory=dict)
    consumed: Mapping[DeviceID, Mapping[str, int]] = field(default_factory=dict)

    @classmethod
    def of(cls, claims: Iterable[JSON]) -> InUse:
        """Add up the allocations of claims; those that are not allocated hold nothing."""
        whole: set[DeviceID] = set()
        shares: dict[DeviceID, int] = {}
        consumed: dict[DeviceID, dict[str, int]] = {}
        for claim in claims:
            for held in holdings(claim):
                if held.amounts is None:
                    whole.add(held.device)
                    continue
                shares[held.device] = shares.get(held.device, 0) + 1
                sums = consumed.setdefault(held.device, {})
                for name, amount in held.amounts:
                    sums[name] = sums.get(name, 0) + amount
        return cls(frozenset(whole), shares, consumed)


@dataclass(frozen=True, slots=True)
class Holding:
    """What a claim holds of one device.

    Attributes:
        device: The device.
        amounts: Name and nanos of what a share consumes; None if the device is held as a whole.
    """

    device: DeviceID
    amounts: tuple[tuple[str, int], ...] | None


def holdings(claim: JSON) -> tuple[Holding, ...]:
    """Say what a ResourceClaim (v1) holds by its `status.allocation`.

    Raises:
        InvalidInputError: It is not what the API server would store.
    """
    return tuple(Holding(device, _amounts(result)) for device, result in _results(claim))


def _amounts(result: JSON) -> tuple[tuple[str, int], ...] | None:
    if not result.get("shareID"):
        return None
    try:
        amounts = parse_amounts(result.get("consumedCapacity"))
    except QuantityError:
        return None
    # A negative amount, however it came to be stored, must not make room for others.
    return tuple((name, max(amount.nano, 0)) for name, amount in amounts.items())


def _results(claim: JSON) -> list[tuple[DeviceID, JSON]]:
    with _reading("ResourceClaim", claim):
        allocation = (claim.get("status") or {}).get("allocation") or {}
        return [
            (DeviceID(result["driver"], result["pool"], result["device"]), result)
            for result in (allocation.get("devices") or {}).get("results") or ()
            if not result.get("adminAccess")
        ]


@contextlib.contextmanager
def _reading(kind: str, raw: object) -> Iterator[None]:
    try:
        yield
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        metadata = raw.get("metadata") if isinstance(raw, Mapping) else None
        name = metadata.get("name", "?") if isinstance(metadata, Mapping) else "?"
        raise InvalidInputError(
            f"a {kind} cannot be read: {error!r}",
            field=f"{kind} {name}",
            remedy="Give objects as the API server stores them.",
        ) from None


def _readable(
    raw: Iterable[JSON], read: Callable[[JSON], T], problems: list[InvalidInputError]
) -> Iterator[T]:
    for one in raw:
        try:
            yield read(one)
        except InvalidInputError as error:
            problems.append(error)


def _title(name: str) -> str:
    return f"ResourceSlice {name}"


def _slice(raw: JSON, sharing: Sharing) -> Slice:
    with _reading("ResourceSlice", raw):
        return parse_slice(raw, sharing=sharing)


def _class(raw: JSON) -> DeviceClass:
    with _reading("DeviceClass", raw):
        return DeviceClass.parse(raw)


def _node(raw: JSON) -> Node:
    with _reading("Node", raw):
        return Node(raw["metadata"]["name"], dict(raw["metadata"].get("labels") or {}))


def _slice_name(one: Slice) -> str:
    return one.name


def _regrouped(
    groups: Mapping[K, tuple[Slice, ...]],
    old: Iterable[Slice],
    new: Iterable[Slice],
    *,
    key: Callable[[Slice], K],
    by_name: bool = False,
) -> Mapping[K, tuple[Slice, ...]]:
    """Give groups of slices after some went and others came."""
    touched: dict[K, list[Slice]] = {}
    gone = set(old)
    for one in gone:
        touched[key(one)] = [other for other in groups[key(one)] if other not in gone]
    for one in new:
        if key(one) not in touched:
            touched[key(one)] = list(groups.get(key(one), ()))
        touched[key(one)].append(one)
    result = dict(groups)
    for group, some in touched.items():
        if some:
            result[group] = tuple(sorted(some, key=_slice_name) if by_name else some)
        else:
            del result[group]
    return result


def _changed(known: Mapping[str, T], changed: Mapping[str, T], removed: Iterable[str]) -> Mapping[str, T]:
    gone = set(removed)
    return {name: one for name, one in {**known, **changed}.items() if name in changed or name not in gone}


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The state of a cluster.

    Attributes:
        slices: All slices.
        classes: DeviceClasses by name.
        nodes: Nodes by name.
        in_use: What is held.
        problems: Slices, classes and nodes that could not be read, and so take part in nothing.
    """

    slices: tuple[Slice, ...]
    classes: Mapping[str, DeviceClass]
    nodes: Mapping[str, Node]
    in_use: InUse
    _by_node: Mapping[str, tuple[Slice, ...]]
    _by_pool: Mapping[tuple[str, str], tuple[Slice, ...]]
    _sharing: Sharing
    problems: tuple[InvalidInputError, ...] = ()

    @classmethod
    def build(
        cls,
        *,
        slices: Iterable[JSON],
        classes: Iterable[JSON],
        claims: Iterable[JSON] = (),
        nodes: Iterable[JSON] = (),
    ) -> Snapshot:
        """Read v1 objects; what is no slice, class or node at all is left out and named in `problems`.

        Args:
            slices: ResourceSlices of the whole cluster.
            classes: DeviceClasses.
            claims: ResourceClaims; those with an allocation are what is in use.
            nodes: Nodes, for slices that choose them by label.

        Raises:
            InvalidInputError: What a claim holds cannot be read: nothing is safe to give then.
        """
        sharing = Sharing()
        problems: list[InvalidInputError] = []
        return cls._of(
            list(_readable(slices, lambda one: _slice(one, sharing), problems)),
            classes={one.name: one for one in _readable(classes, _class, problems)},
            nodes={one.name: one for one in _readable(nodes, _node, problems)},
            in_use=InUse.of(claims),
            sharing=sharing,
            problems=problems,
        )

    @classmethod
    def _of(
        cls,
        slices: Iterable[Slice],
        *,
        classes: Mapping[str, DeviceClass],
        nodes: Mapping[str, Node],
        in_use: InUse,
        sharing: Sharing,
        problems: Iterable[InvalidInputError],
    ) -> Snapshot:
        given = tuple(slices)
        ordered = tuple(sorted(given, key=lambda one: one.name))
        by_node: dict[str, list[Slice]] = {}
        by_pool: dict[tuple[str, str], list[Slice]] = {}
        for one in ordered:
            by_node.setdefault(one.nodes.node_name, []).append(one)
        # As they were given: the stable allocator tries the slices of a pool in that order.
        for one in given:
            by_pool.setdefault((one.driver, one.pool), []).append(one)
        return cls(
            slices=ordered,
            classes=classes,
            nodes=nodes,
            in_use=in_use,
            _by_node={name: tuple(some) for name, some in by_node.items()},
            _by_pool={key: tuple(some) for key, some in by_pool.items()},
            _sharing=sharing,
            problems=tuple(problems),
        )

    def with_slices(self, *, changed: Iterable[JSON] = (), removed: Iterable[str] = ()) -> Snapshot:
        """Give the state after slices changed.

        Args:
            changed: ResourceSlices (v1) that are new or different.
            removed: Names of those that are gone.

        Raises:
            InvalidInputError: A slice is not what the API server would store.
        """
        parsed = {one.name: one for one in (_slice(raw, self._sharing) for raw in changed)}
        gone = {*removed, *parsed}
        slices, old = list(self.slices), []
        for name in gone:
            place = bisect.bisect_left(slices, name, key=_slice_name)
            while place < len(slices) and slices[place].name == name:
                old.append(slices.pop(place))
        for one in parsed.values():
            bisect.insort(slices, one, key=_slice_name)
        new = list(parsed.values())
        titles = {_title(name) for name in gone}
        return replace(
            self,
            slices=tuple(slices),
            _by_node=_regrouped(self._by_node, old, new, key=lambda one: one.nodes.node_name, by_name=True),
            _by_pool=_regrouped(self._by_pool, old, new, key=lambda one: (one.driver, one.pool)),
            problems=tuple(one for one in self.problems if one.field not in titles),
        )

    def with_classes(self, *, changed: Iterable[JSON] = (), removed: Iterable[str] = ()) -> Snapshot:
        """Give the state after DeviceClasses (v1) changed; `removed` are names.

        Raises:
            InvalidInputError: A class is not what the API server would store.
        """
        classes = _changed(self.classes, {one.name: one for one in map(_class, changed)}, removed)
        return replace(self, classes=classes)

    def with_nodes(self, *, changed: Iterable[JSON] = (), removed: Iterable[str] = ()) -> Snapshot:
        """Give the state after Nodes (v1) changed; `removed` are names.

        Raises:
            InvalidInputError: A node is not what the API server would store.
        """
        nodes = _changed(self.nodes, {one.name: one for one in map(_node, changed)}, removed)
        return replace(self, nodes=nodes)

    def with_in_use(self, in_use: InUse) -> Snapshot:
        """Give the same state but for what is held."""
        return replace(self, in_use=in_use)

    def node(self, name: str) -> Node:
        """Give what is known of a node; of one that was not given, its name."""
        return self.nodes.get(name) or Node(name, {})

    @property
    def node_names(self) -> list[str]:
        """The nodes that were given, or if none were, those that slices name; in order of their names."""
        return sorted(self.nodes or (name for name in self._by_node if name))

    @property
    def homes(self) -> list[str]:
        """The nodes that slices name, with "" if there are slices that name none; in order."""
        return sorted(self._by_node)

    def named(self, name: str) -> Slice | None:
        """Give the slice of a name."""
        place = bisect.bisect_left(self.slices, name, key=_slice_name)
        return self.slices[place] if place < len(self.slices) and self.slices[place].name == name else None

    def local(self, node: str) -> tuple[Slice, ...]:
        """Give the slices that name a node; those that name none for ""."""
        return self._by_node.get(node, ())

    def candidates(self, node: Node) -> tuple[Slice, ...]:
        """Give the slices that can matter to a node: its own and those of no node."""
        return self._by_node.get(node.name, ()) + self._by_node.get("", ())

    def pool(self, driver: str, name: str) -> tuple[Slice, ...]:
        """Give all slices of a pool, on whatever node."""
        return self._by_pool.get((driver, name), ())
