"""Two Ascend 910B3 that can be cut into vNPUs, as a folder of a node, and an npu-smi that cuts them.

Flow: `VnpuNode.install` writes the fixture's sysfs and driver files, the mock DCMI, and
`tests/native/npu_smi.sh` as the node's npu-smi. That keeps vNPUs in files of `state`, so they outlive the
agent; an administrator of a test asks it as well.

Limits: stands for chips and for their driver. Device nodes of vNPUs are empty files that npu-smi makes and
removes; or real nodes, for containers, of which all that there could ever be are there from the start, since
in what is laid over a node's root nothing can come. These are of a kind for experiments that no driver has,
each with the number of its vNPU or chip.
"""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
from dataclasses import dataclass
from pathlib import Path

from tests.driver.vendors.fixture_node import read_node
from tests.native.build import mock_dcmi
from tests.support.folder_host import FolderHost

SMALL, HALF = "vir05_1c_16g", "vir10_3c_32g"
"""The templates of a 910B3."""
SLOTS = 4
PARTS = SLOTS + 2
"""vNPUs that a chip can have: four small ones, two halves."""
EXPERIMENTS = 60
_NPU_SMI = "usr/local/bin/npu-smi"
_PROGRAM = Path(__file__).parents[1] / "native" / "npu_smi.sh"
_PROFILES = {SMALL: (0, 1), HALF: (1, 2)}
_AI_CORES = 20


@dataclass(frozen=True, kw_only=True)
class Chip:
    """One chip of the fixture.

    Attributes:
        card: Number of its card, as npu-smi is asked; each has one chip, number 0.
        physical_id: N of `/dev/davinciN`.
        uuid: Its VDIE ID.
    """

    card: int
    physical_id: int
    uuid: str

    @property
    def name(self) -> str:
        """Its device name."""
        return f"ascend-{self.uuid.lower()}"

    @property
    def node(self) -> str:
        """Its device node, which opens all of it."""
        return f"/dev/davinci{self.physical_id}"

    def number(self, slot: int) -> int:
        """Number of the vNPU whose first slot this is, written out as the docs promise it."""
        return 100 + 16 * self.physical_id + slot

    def part(self, template: str, slot: int) -> str:
        """Device name of a vNPU, written out as the docs promise it."""
        profile, size = _PROFILES[template]
        return f"{self.name}-vnpu-{profile}-{slot}-{size}"

    @property
    def parts(self) -> list[str]:
        """Device names of all vNPUs that it can have."""
        halves = [self.part(HALF, slot) for slot in (0, 2)]
        return [*(self.part(SMALL, slot) for slot in range(SLOTS)), *halves]


CHIPS = (
    Chip(card=0, physical_id=4, uuid="11111111-22222222-33333333-44444444-0000000A"),
    Chip(card=3, physical_id=7, uuid="11111111-22222222-33333333-44444444-0000000B"),
)


@dataclass(frozen=True)
class VnpuNode:
    """The folder.

    Attributes:
        root: Stands for the node's root.
        state: Where npu-smi keeps what it knows, by a path that whoever runs it has.
    """

    root: Path
    state: Path

    def install(self, *, nodes: bool = False) -> VnpuNode:
        """Writes all files.

        Args:
            nodes: Whether device nodes shall be real ones, for containers; needs root.
        """
        fixture = read_node("ascend")
        host = FolderHost(self.root)
        for path, text in fixture.files.items():
            host.add(path, text)
        for path, target in fixture.links.items():
            host.link(path, target)
        library = host.local("/usr/local/dcmi/libdcmi.so")
        shutil.copyfile(mock_dcmi(beside=True), library)
        library.with_name(f"{library.name}.txt").write_text(fixture.script)
        self.state.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(_PROGRAM, self.root / _NPU_SMI)
        (self.root / _NPU_SMI).chmod(0o755)
        (self.root / f"{_NPU_SMI}.folder").write_text(f"{self.state}\n")
        for name in ("vnpus", "busy", "changes"):
            (self.state / name).write_text("")
        lines = (f"{chip.card} 0 {chip.number(0)} {_AI_CORES}\n" for chip in CHIPS)
        (self.state / "chips").write_text("".join(lines))
        numbers = dict.fromkeys(fixture.devices, 0) | {chip.node: chip.physical_id for chip in CHIPS}
        if nodes:
            for chip in CHIPS:
                numbers |= {f"/dev/vdavinci{chip.number(slot)}": chip.number(slot) for slot in range(SLOTS)}
        else:
            (self.state / "dev").symlink_to(self.root / "dev")
        for path, number in numbers.items():
            self._device(path, number=number, real=nodes)
        return self

    def make(self, chip: Chip, template: str, slot: int) -> None:
        """Makes a vNPU as an administrator would."""
        self._set("create-vnpu", chip, slot, "-f", template)

    def remove(self, chip: Chip, slot: int) -> None:
        """Removes a vNPU as an administrator would."""
        self._set("destroy-vnpu", chip, slot)

    def vnpus(self, chip: Chip) -> dict[int, str]:
        """Number and template of each vNPU that a chip has."""
        lines = [line.split() for line in (self.state / "vnpus").read_text().splitlines()]
        return {int(number): template for card, _, number, template in lines if int(card) == chip.card}

    def vdavinci(self, chip: Chip) -> list[str]:
        """Device nodes of vNPUs of a chip that are there."""
        paths = (f"/dev/vdavinci{chip.number(slot)}" for slot in range(SLOTS))
        return [path for path in paths if (self.root / path[1:]).exists()]

    def changes(self, chip: Chip) -> list[str]:
        """All that npu-smi was asked to change on a chip, and what came of it."""
        lines = (self.state / "changes").read_text().splitlines()
        return [line for line in lines if f" -i {chip.card} " in line]

    def use(self, *numbers: int) -> None:
        """Says which vNPUs a program uses."""
        (self.state / "busy").write_text("".join(f"{number}\n" for number in numbers))

    def kill(self, *, call: int, moment: str, what: str) -> None:
        """Says at which of npu-smi's next calls who dies; see there."""
        (self.state / "kill").write_text(f"{call} {moment} {what}\n")

    def spare(self) -> bool:
        """Takes that back; whether nobody has died of it yet."""
        file = self.state / "kill"
        there = file.exists()
        file.unlink(missing_ok=True)
        return there

    def hold_change(self) -> None:
        """Has npu-smi wait when it has done what it is asked to change next."""
        (self.state / "wait").touch()

    def held(self) -> bool:
        """Whether it waits."""
        return (self.state / "waits").exists()

    def let_go(self) -> None:
        """Has it go on."""
        (self.state / "waits").unlink()

    def _set(self, what: str, chip: Chip, slot: int, *more: str) -> None:
        words = ["set", "-t", what, "-i", str(chip.card), "-c", "0", *more, "-v", str(chip.number(slot))]
        subprocess.run([self.root / _NPU_SMI, *words], check=True, capture_output=True)

    def _device(self, path: str, *, number: int, real: bool) -> None:
        file = self.root / path.lstrip("/")
        file.parent.mkdir(parents=True, exist_ok=True)
        if not real:
            file.write_text("")
            return
        os.mknod(file, 0o666 | stat.S_IFCHR, os.makedev(EXPERIMENTS, number))
        file.chmod(0o666)
