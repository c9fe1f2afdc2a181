"""Partitions of AMD cards: by the compute mode of a card, which is one setting for all of it.

Flow: *cards* lists the partitions that a card has in its mode, and those that it would have in another, as
devices; *find* looks whether the card is in the partition's mode; *make* puts it there, by one write to sysfs
that is read back; *edits* are the partition's render node, which amdkfd's topology tells.

Names: `<card>-xcp-<mode's number>-<first die>-<dies>`, by the card's unique ID; a render node's number, which
changes with other cards and driver versions, names nothing.

Memory: what amdkfd lets programs of the partition take. It divides the card, or each of its memory
partitions, evenly. Where partitions have no memory partition of their own it is the kernel that holds them to
it, so `memoryIsolation` is then `kernel`.

Source: the kernel's amdgpu documentation (`current_compute_partition`, `available_compute_partition`,
`current_memory_partition`), amdkfd's topology (`driver.vendors.kfd`), AMD's guides to partitioning.

Limits: the memory mode (NPS) is the administrator's to set: it takes a reload of the driver. The kernel
refuses another compute mode while a program uses the card; older kernels, while any uses a card of the node.
Cards without a unique ID are not offered in parts.
"""

from __future__ import annotations

import errno
import re
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace

from driver.cards import Card, IsolationLevel, Partition
from driver.cdi import ContainerEdits, DeviceNode
from driver.errors import DeviceGoneError, PrepareError
from driver.host import Host
from driver.partitions.base import (
    Instance,
    PartitionBusyError,
    PartitionRefusedError,
    PartitionTarget,
)
from driver.places import Place
from driver.quantities import MIB
from driver.vendors.amd_layout import Cut, Layout, compute_mode, read_cut, read_layout
from driver.vendors.amd_modes import WHOLE, mode_of, part_of
from driver.vendors.kfd import KfdTopology, kfd_topology
from driver.vendors.pci import PciFunction
from driver.vendors.pci_vendor import DeviceNodesMissingError
from driver.vendors.reading import UnreadableError, attribute

_ANEW = "Delete the pod; a new one is scheduled to a card that is there."
_AGAIN = "The kubelet tries again."
_IN_USE = frozenset({errno.EBUSY, errno.EAGAIN})
_LOOKS_WITHOUT_ANSWER = 5


class AmdPartitions:
    """Partitions of the node's AMD cards; implements `driver.partitions.Partitioner`.

    Args:
        function: Gives the PCI function of a card's unique ID as it is now, None if there is none; raises
            UnreadableError.
    """

    instances_outlive_boot = False
    numbers_used_again = True

    def __init__(self, function: Callable[[str, Host], PciFunction | None]) -> None:
        self._function = function
        self._known: dict[str, tuple[tuple[Card, ...], int]] = {}
        self._uneven: dict[tuple[str, str], str] = {}

    def cards(
        self, card: Card, function: PciFunction, *, topology: KfdTopology, host: Host
    ) -> tuple[Card, ...]:
        """The card, and a device for each partition that it has or could have.

        Raises:
            UnreadableError: It is in partitions, and it cannot be found out which there are.
        """
        mode = compute_mode(function, host=host)
        if not mode:
            return (card,)
        try:
            found = self._cards(card, function, topology=topology, host=host)
        except UnreadableError:
            said, looks = self._known.get(card.uuid, ((), 0))
            if said and looks < _LOOKS_WITHOUT_ANSWER:
                # Devices must not come and go by one bad answer.
                self._known[card.uuid] = said, looks + 1
                return _with_parts(card, said, mode=mode)
            if mode == WHOLE:
                return (card,)
            raise
        self._known[card.uuid] = found, 0
        return found

    def find_instance(self, target: PartitionTarget, *, host: Host) -> Instance | None:
        """See `Partitioner`."""
        return self._find(target, self._now(target, host), host=host)

    def make_instance(self, target: PartitionTarget, *, host: Host) -> Instance:
        """See `Partitioner`: puts the card into the mode; its other partitions come with it."""
        function, place = self._now(target, host), target.place
        before = _layout(function, place.card, host=host)
        if not before.cut.modes.has(place):
            raise DeviceGoneError(
                f"Card {place.card} has no place for {place.name} (any more).", remedy=_ANEW
            )
        if before.cut.mode != mode_of(place):
            _switch(function, mode_of(place), card=place.card, host=host)
            self._check(target, before, function, host=host)
        found = self._find(target, function, host=host)
        if found is None:
            raise PartitionBusyError(
                f"Card {place.card} was in mode {mode_of(place)} and is not any more.", remedy=_AGAIN
            )
        return found

    def remove_instance(self, instance: Instance, *, host: Host) -> None:
        """See `Partitioner`: nothing, since partitions stay as long as the card's mode."""

    def instance_edits(self, instance: Instance, *, host: Host) -> ContainerEdits:
        """The partition's render node alone: the card's primary node would open all of it."""
        place = instance.target.place
        path = render_node(place, _cut(self._now(instance.target, host), place.card, host=host), host=host)
        return ContainerEdits(device_nodes=(DeviceNode(path=path, permissions="rw"),))

    def make_whole(self, card_uuid: str, *, host: Host) -> None:
        """See `Partitioner`: the card's mode is that without partitions then."""
        function = self._at(card_uuid, card_uuid, host)
        try:
            mode = compute_mode(function, host=host)
        except UnreadableError as unreadable:
            raise _not_now(card_uuid, unreadable) from None
        if mode not in ("", WHOLE):
            _switch(function, WHOLE, card=card_uuid, host=host)

    def _cards(
        self, card: Card, function: PciFunction, *, topology: KfdTopology, host: Host
    ) -> tuple[Card, ...]:
        if not card.uuid:
            raise UnreadableError("it has no unique ID, by which they are named.")
        layout = read_layout(function, topology=topology, whole=card.memory_bytes, host=host)
        modes = layout.cut.modes
        parts = [
            self._part(card, layout, mode, part) for mode in modes.names for part in range(modes.parts(mode))
        ]
        return replace(card, counters=modes.totals), *parts

    def _part(self, card: Card, layout: Layout, mode: str, part: int) -> Card:
        modes, exists = layout.cut.modes, mode == layout.cut.mode
        of_its_own = layout.memory_partitions >= modes.parts(mode)
        attributes: dict[str, str | int | bool] = {"computePartition": mode}
        if layout.memory_mode:
            attributes["memoryPartition"] = layout.memory_mode
        return Card(
            name=modes.place(card.name, mode, part).name,
            vendor=card.vendor,
            model=card.model,
            memory_bytes=layout.memory_of(mode, part),
            architecture=card.architecture,
            driver_version=card.driver_version,
            pci_bus_id=card.pci_bus_id,
            pcie_root=card.pcie_root,
            numa_node=card.numa_node,
            cores=modes.cores(mode),
            shareable=False,
            partition=Partition(
                card_uuid=card.uuid,
                # As AMD's own plugins call it.
                profile="_".join(word.lower() for word in (mode, layout.memory_mode) if word),
                exists=exists,
            ),
            counters=modes.taken(mode, part),
            memory_isolation=IsolationLevel.HARDWARE if of_its_own else IsolationLevel.KERNEL,
            unpublished="" if exists else self._uneven.get((card.uuid, mode), ""),
            extra_attributes=attributes,
        )

    def _find(self, target: PartitionTarget, function: PciFunction, *, host: Host) -> Instance | None:
        place = target.place
        try:
            if compute_mode(function, host=host) != mode_of(place):
                return None
        except UnreadableError as unreadable:
            raise _not_now(place.card, unreadable) from None
        if _cut(function, place.card, host=host).node_at(place) is None:
            return None
        part = part_of(place)
        return Instance(
            target=target,
            uuid=f"{target.card_uuid}-{mode_of(place).lower()}-{part}",
            number=part,
            complete=True,
        )

    def _check(self, target: PartitionTarget, before: Layout, function: PciFunction, *, host: Host) -> None:
        """Refuses partitions that turn out to be smaller than was said of them."""
        mode, part, name = mode_of(target.place), part_of(target.place), target.place.card
        now = _layout(function, name, host=host)
        said, there = before.memory_of(mode, part), now.memory_of(mode, part)
        if now.cut.mode != mode or there >= said:
            return
        # So that it is refused again when the kubelet tries again.
        with suppress(PrepareError):
            _switch(function, before.cut.mode, card=name, host=host)
        sentence = (
            f"In mode {mode} a partition of the card has {there // MIB} MiB and not {said // MIB}, an even "
            "part; only the policy Static offers such partitions."
        )
        self._uneven[target.card_uuid, mode] = sentence
        raise PartitionRefusedError(
            f"Card {name}: {sentence}",
            remedy="Delete the pod. An administrator puts the card into the mode.",
        )

    def _now(self, target: PartitionTarget, host: Host) -> PciFunction:
        return self._at(target.card_uuid, target.place.card, host)

    def _at(self, uuid: str, name: str, host: Host) -> PciFunction:
        try:
            function = self._function(uuid, host) if uuid else None
        except UnreadableError as unreadable:
            raise _not_now(name, unreadable) from None
        if function is None:
            raise DeviceGoneError(f"Card {name} is not on this node (any more).", remedy=_ANEW)
        return function


def _with_parts(card: Card, said: tuple[Card, ...], *, mode: str) -> tuple[Card, ...]:
    """The card as it is now, with the partitions that were listed before, as far as its mode has them."""
    parts = [
        replace(
            part,
            partition=replace(part.partition, exists=part.extra_attributes.get("computePartition") == mode),
        )
        for part in said
        if part.partition is not None
    ]
    return replace(card, counters=said[0].counters), *parts


def render_node(place: Place, cut: Cut, *, host: Host) -> str:
    """Path of the render node by which a partition is reached.

    Raises:
        PartitionBusyError: The card is cut otherwise.
        DeviceNodesMissingError: There is no such node (yet).
    """
    node = cut.node_at(place)
    if node is None:
        raise PartitionBusyError(
            f"Card {place.card} is in mode {cut.mode}, which has no {place.name}.",
            remedy=f"{_AGAIN} Look for an administrator or a tool that changes the card's mode.",
        )
    path = f"/dev/dri/renderD{node.render_minor}"
    if not node.render_minor or not host.exists(path):
        raise DeviceNodesMissingError(
            f"The node has no {path}, by which {place.name} is reached.",
            remedy="The kubelet tries again until the driver has made it.",
        )
    return path


def _cut(function: PciFunction, card: str, *, host: Host) -> Cut:
    try:
        return read_cut(function, topology=kfd_topology(host), host=host)
    except UnreadableError as unreadable:
        raise _not_now(card, unreadable) from None


def _layout(function: PciFunction, card: str, *, host: Host) -> Layout:
    try:
        text = attribute(f"{function.path}/mem_info_vram_total", host=host)
        whole = int(text) // MIB * MIB if re.fullmatch(r"[0-9]{1,18}", text) else None
        return read_layout(function, topology=kfd_topology(host), whole=whole, host=host)
    except UnreadableError as unreadable:
        raise _not_now(card, unreadable) from None


def _switch(function: PciFunction, mode: str, *, card: str, host: Host) -> None:
    try:
        host.write_text(f"{function.path}/current_compute_partition", f"{mode}\n")
        now = compute_mode(function, host=host)
    except UnreadableError as unreadable:
        raise _not_now(card, unreadable) from None
    except OSError as failed:
        if failed.errno in _IN_USE:
            raise PartitionBusyError(
                f"Card {card} cannot be put into mode {mode} now: a program still uses it.",
                remedy=f"{_AGAIN} Older kernels ask that no program uses any AMD card of the node.",
            ) from None
        raise PartitionRefusedError(
            f"The kernel does not let the agent put card {card} into mode {mode}: "
            f"{failed.strerror or failed}.",
            remedy="The agent has to be privileged (agent.privileged in the chart), and the mode one that "
            "the card's memory mode allows.",
        ) from None
    if now != mode:
        raise PartitionRefusedError(
            f"Card {card} was put into mode {mode} and is in mode {now}.",
            remedy="Look at the node's kernel log for amdgpu's messages.",
        )


def _not_now(card: str, because: UnreadableError) -> PartitionBusyError:
    return PartitionBusyError(
        f"What card {card} is cut into cannot be found out now: {because}", remedy=_AGAIN
    )
