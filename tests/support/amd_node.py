"""AMD cards that can be cut into partitions, as a folder of a node, and the kernel that cuts them.

Flow: `AmdNode` writes what amdgpu and amdkfd show of its cards below a folder, in the formats of the kernel's
sources; `switch` does what a write to `current_compute_partition` does: the mode, the topology's nodes and
their memory are others, the render nodes stay. `AmdHost` is a node whose kernel hears such writes at once.

Limits: stands for cards and for amdgpu; no source says in which order the topology numbers cards after a
switch, so here each switch numbers them anew.
"""

from __future__ import annotations

import errno
import os
import shutil
import stat
import threading
from dataclasses import dataclass, field
from pathlib import Path

from driver.quantities import MIB
from tests.support.folder_host import FolderHost

PARTS = {"SPX": 1, "DPX": 2, "TPX": 3, "QPX": 4}
NODES = "sys/class/kfd/kfd/topology/nodes"
_NULL = os.makedev(1, 3)
_LOOKS_EACH_S = 0.02
_LOOKS_WHILE_WRITTEN = 5
_MOST_PARTS = 8
_PROCESSOR = "cpu_cores_count 96\nsimd_count 0\nlocation_id 0\n"


@dataclass
class AmdCard:
    """One card.

    Attributes:
        number: Which of the node's: says its address, unique ID and render nodes.
        mode: Its compute mode.
        memory_mode: Its memory mode.
        dies: Its compute dies.
        memory_mib: All its memory.
        modes: The compute modes that the kernel offers.
        old_kernel: Whether a partition's number stands where a function's does.
        shared_memory: Whether each partition may take all of it.
        missing_mib: What the last partition has less than the others.
        busy: Whether a program uses it.
    """

    number: int
    mode: str = "SPX"
    memory_mode: str = "NPS1"
    dies: int = 8
    memory_mib: int = 196592
    modes: str = "SPX, DPX, QPX, CPX"
    old_kernel: bool = False
    shared_memory: bool = False
    missing_mib: int = 0
    busy: bool = False

    @property
    def bus(self) -> int:
        """Its bus, by which it is found."""
        return 0x05 + 0x20 * self.number

    @property
    def device(self) -> str:
        """Its PCI device ID."""
        return {4: "0x74a2", 6: "0x74a0", 8: "0x74a1"}.get(self.dies, "0x74ff")

    @property
    def address(self) -> str:
        """Its PCI address."""
        return f"0000:{self.bus:02x}:00.0"

    @property
    def uuid(self) -> str:
        """Its unique ID."""
        return f"d4a1b2c3e5f607{self.number:02x}"

    @property
    def name(self) -> str:
        """Its device name."""
        return f"amd-{self.uuid}"

    @property
    def parts(self) -> int:
        """How many partitions it has."""
        return self.dies if self.mode == "CPX" else PARTS[self.mode]

    @property
    def function(self) -> str:
        """Its folder in sysfs, below the node's root."""
        return f"sys/devices/pci0000:{self.bus - 5:02x}/{self.address}"

    def minor(self, part: int) -> int:
        """Number of the render node of a partition."""
        return 128 + _MOST_PARTS * self.number + part

    def render(self, part: int) -> str:
        """Path of the render node of a partition."""
        return f"/dev/dri/renderD{self.minor(part)}"

    def part(self, mode: str, part: int) -> str:
        """Device name of a partition, written out as the docs promise it."""
        profile = ["SPX", "DPX", "TPX", "QPX", "CPX"].index(mode)
        size = 1 if mode == "CPX" else self.dies // PARTS[mode]
        return f"{self.name}-xcp-{profile}-{part * size}-{size}"

    def bytes_of(self, part: int) -> int:
        """Memory that the kernel lets programs of a partition take."""
        if self.shared_memory:
            return self.memory_mib * MIB
        even = self.memory_mib * MIB // self.parts // 4096 * 4096
        return even - (self.missing_mib * MIB if part == self.parts - 1 and self.parts > 1 else 0)


@dataclass
class AmdNode:
    """The cards of a node.

    Attributes:
        root: The folder that stands for the node's root.
        cards: Its cards.
        hidden: Whether the kernel shows the reader no card in the topology.
        folders: For a root that others have mounted, where files may change and not come and go: how many
            folders the topology always has; those that are not needed are processors'. 0: as many as needed.
    """

    root: Path
    cards: list[AmdCard]
    hidden: bool = False
    folders: int = 0
    _first: int = field(default=1, repr=False)

    def install(self, *, nodes: bool = False) -> AmdNode:
        """Writes all files.

        Args:
            nodes: Whether device nodes shall be real ones, for containers; needs root.
        """
        self._write("sys/module/amdgpu/version", "6.14.14\n")
        self._write("sys/bus/pci/drivers/amdgpu/module", "")
        self._device("dev/kfd", real=nodes)
        for card in self.cards:
            self._card(card, real=nodes)
        self.topology()
        return self

    def switch(self, card: AmdCard, mode: str) -> None:
        """What the kernel does when a mode is written.

        Raises:
            OSError: As the kernel's.
        """
        if mode not in card.modes.split(", "):
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        if mode == card.mode:
            return
        if card.busy:
            raise OSError(errno.EBUSY, os.strerror(errno.EBUSY))
        card.mode = mode
        self._first += not self.folders
        self.topology()
        self.tell(card)

    def tell(self, card: AmdCard) -> None:
        """Writes the mode that the card is in."""
        self._write(f"{card.function}/current_compute_partition", f"{card.mode}\n")

    def topology(self) -> None:
        """Writes amdkfd's nodes: a processor, and one for each partition."""
        folder = self.root / NODES
        written = {f"{unused}/properties": _PROCESSOR for unused in range(self.folders or 1)}
        number = self._first
        for card in [] if self.hidden else self.cards:
            for part in range(card.parts):
                location = card.bus << 8
                if card.parts > 1:
                    location |= part if card.old_kernel else part << 28
                dies = card.dies // card.parts
                written[f"{number}/properties"] = (
                    f"cpu_cores_count 0\nsimd_count {dies * 152}\nlocation_id {location}\ndomain 0\n"
                    f"gfx_target_version 90402\ndrm_render_minor {card.minor(part)}\nnum_xcc {dies}\n"
                )
                written[f"{number}/mem_banks/0/properties"] = (
                    f"heap_type 1\nsize_in_bytes {card.bytes_of(part)}\nflags 0\n"
                )
                number += 1
        if folder.is_dir() and not self.folders:
            for old in folder.iterdir():
                shutil.rmtree(old)
        for path, text in written.items():
            self._write(f"{NODES}/{path}", text)
        for other in range(number, number + self.hidden):
            # A folder that is there, of which nothing can be read.
            (folder / str(other)).mkdir(parents=True)

    def _card(self, card: AmdCard, *, real: bool) -> None:
        for name, text in {
            "vendor": "0x1002",
            "device": card.device,
            "class": "0x120000",
            "numa_node": "0",
            "mem_info_vram_total": str(card.memory_mib * MIB),
            "unique_id": f"0x{card.uuid}",
            "product_name": "AMD Instinct MI300X",
            "available_compute_partition": card.modes,
            "current_compute_partition": card.mode,
            "current_memory_partition": card.memory_mode,
            "ras/umc_err_count": "ue: 0\nce: 0",
            f"drm/card{card.number * _MOST_PARTS}/uevent": "",
            f"drm/renderD{card.minor(0)}/uevent": "",
        }.items():
            self._write(f"{card.function}/{name}", f"{text}\n")
        self._link(f"{card.function}/driver", "/sys/bus/pci/drivers/amdgpu")
        self._link(f"sys/bus/pci/devices/{card.address}", f"../../../{card.function.removeprefix('sys/')}")
        self._device(f"dev/dri/card{card.number * _MOST_PARTS}", real=real)
        for part in range(_MOST_PARTS):
            self._device(card.render(part)[1:], real=real)
            if part:
                folder = f"sys/devices/platform/amdgpu_xcp_{card.number * _MOST_PARTS + part}"
                self._write(f"{folder}/drm/renderD{card.minor(part)}/uevent", "")

    def _write(self, path: str, text: str) -> None:
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)

    def _link(self, path: str, target: str) -> None:
        link = self.root / path
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(target)

    def _device(self, path: str, *, real: bool) -> None:
        if not real:
            self._write(path, "")
            return
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        os.mknod(file, 0o666 | stat.S_IFCHR, _NULL)
        file.chmod(0o666)


class AmdHost(FolderHost):
    """A node with such cards, whose kernel hears what is written."""

    def __init__(self, root: Path, *cards: AmdCard) -> None:
        super().__init__(root)
        self.node = AmdNode(root, list(cards)).install()

    def write_text(self, path: str, content: str) -> None:
        for card in self.node.cards:
            if path == f"/sys/bus/pci/devices/{card.address}/current_compute_partition":
                self.writes.append(path)
                self.node.switch(card, content.strip())
                return
        super().write_text(path, content)


class AmdKernel(threading.Thread):
    """Cuts a card when another process has written its mode to `file`."""

    def __init__(self, node: AmdNode, card: AmdCard, *, file: Path) -> None:
        super().__init__(name="amdgpu", daemon=True)
        self._node = node
        self._card = card
        self._file = file
        self.over = threading.Event()
        self.modes: list[str] = []

    def run(self) -> None:
        empty = 0
        while not self.over.wait(_LOOKS_EACH_S):
            wanted = self._file.read_text().strip()
            # "": the file is being written. One of sysfs is never left so by a writer that dies.
            empty = 0 if wanted else empty + 1
            if empty == _LOOKS_WHILE_WRITTEN:
                self._file.write_text(f"{self._card.mode}\n")
            if wanted and wanted != self._card.mode:
                self._card.mode = wanted
                self.modes.append(wanted)
                self._node.topology()
