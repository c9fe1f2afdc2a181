"""How an AMD card is cut at the moment: its modes, its partitions, and what memory each has.

Flow: sysfs and amdkfd's topology -> `cut` (mode, modes, partitions) -> `layout` (and memory).

Limits: reads; what cannot be told for certain is an error, never a guess.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from driver.host import Host
from driver.places import Place
from driver.quantities import MIB
from driver.vendors.amd_modes import DIES, EACH_DIE, Modes, mode_of, part_of, parts_in
from driver.vendors.kfd import KfdNode, KfdTopology, frame_buffer_bytes
from driver.vendors.pci import PciFunction
from driver.vendors.reading import UnreadableError, attribute, optional

_MEMORY_MODE = re.compile(r"NPS([1-9])")
_ROUNDED = 2 * MIB
_MOST_MODES = 16


def compute_mode(function: PciFunction, *, host: Host) -> str:
    """The card's compute mode (`SPX`, `CPX`, ...); "" where its driver knows none.

    Raises:
        UnreadableError: There is one and it cannot be read: such a card must not pass for a whole one.
    """
    return attribute(f"{function.path}/current_compute_partition", host=host).upper()


def memory_mode(function: PciFunction, *, host: Host) -> str:
    """The card's memory mode (`NPS1`, ...); "" where its driver knows none."""
    return optional(f"{function.path}/current_memory_partition", host=host).upper()


@dataclass(frozen=True, kw_only=True)
class Cut:
    """How a card is cut.

    Attributes:
        mode: Its compute mode.
        modes: The modes with partitions that it can be in.
        nodes: amdkfd's node of each partition, by the partitions' numbers.
    """

    mode: str
    modes: Modes
    nodes: tuple[KfdNode, ...]

    def node_at(self, place: Place) -> KfdNode | None:
        """The node of amdkfd's for the partition at this place; None if the card is cut otherwise."""
        there = self.mode == mode_of(place) and self.modes.has(place)
        return self.nodes[part_of(place)] if there else None


@dataclass(frozen=True, kw_only=True)
class Layout:
    """How a card is cut, and the memory of its parts.

    Attributes:
        cut: How it is cut.
        memory_mode: Its memory mode.
        memory: Memory of each partition, in bytes.
        total: Memory of all of them, in bytes.
    """

    cut: Cut
    memory_mode: str
    memory: tuple[int, ...]
    total: int

    @property
    def memory_partitions(self) -> int:
        """Into how many parts memory is divided, for whatever compute mode."""
        match = _MEMORY_MODE.fullmatch(self.memory_mode)
        return int(match[1]) if match else 1

    def memory_of(self, mode: str, part: int) -> int:
        """Memory of a partition in this mode, whole MiB in bytes: as it is, or else an even part."""
        even = self.total // self.cut.modes.parts(mode) // MIB * MIB
        if mode != self.cut.mode:
            return even
        there = self.memory[part] // MIB * MIB
        # The same figure before and after, but for what is rounded.
        return even if even <= there < even + _ROUNDED else there


def read_cut(function: PciFunction, *, topology: KfdTopology, host: Host) -> Cut:
    """How a card is cut.

    Raises:
        UnreadableError: Its partitions are hidden from the agent, or cannot be told from each other.
    """
    mode = compute_mode(function, host=host)
    known = parts_in(mode, dies=0)
    nodes = topology.parts(function.address, count=known or None)
    dies = sum(node.dies for node in nodes)
    if len({node.dies for node in nodes}) != 1 or parts_in(mode, dies=dies) != len(nodes):
        raise UnreadableError(f"amdkfd lists {len(nodes)} parts with {dies} compute dies in mode {mode}.")
    # While the mode changes, amdkfd lists one partition after the other.
    if dies != DIES.get(function.device, dies if len(nodes) == known else 0):
        raise UnreadableError(f"amdkfd lists {dies} of its compute dies (yet), in mode {mode}.")
    minors = [node.render_minor for node in nodes if node.render_minor]
    if len(set(minors)) != len(minors):
        raise UnreadableError(f"amdkfd names one render node for several of its parts: {sorted(minors)}.")
    offered = attribute(f"{function.path}/available_compute_partition", host=host).upper()
    names = {name.strip() for name in offered.split(",")[:_MOST_MODES]} | {mode}
    if function.device not in DIES:
        names.discard(EACH_DIE)
    return Cut(mode=mode, modes=Modes.of(sorted(names), dies=dies), nodes=nodes)


def read_layout(function: PciFunction, *, topology: KfdTopology, whole: int | None, host: Host) -> Layout:
    """How a card is cut, and the memory of its parts.

    Args:
        function: The card.
        topology: What amdkfd lists.
        whole: Memory of the card, whole MiB in bytes; None if it is not known.
        host: The node.

    Raises:
        UnreadableError: As for `read_cut`; or the parts have more memory together than the card.
    """
    cut = read_cut(function, topology=topology, host=host)
    memory = tuple(frame_buffer_bytes(node, host=host) for node in cut.nodes)
    total = sum(memory)
    if whole is not None and total >= whole + _ROUNDED:
        raise UnreadableError(
            f"its parts have {total // MIB} MiB together and it has {whole // MIB} MiB: they take memory "
            "from each other.",
            remedy="An administrator sets compute_partition_mem_alloc_mode to EVEN.",
        )
    if whole is not None and total > whole - _ROUNDED:
        # amdkfd rounds the part of each.
        total = whole
    return Layout(cut=cut, memory_mode=memory_mode(function, host=host), memory=memory, total=total)
