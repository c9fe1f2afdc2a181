"""A driver installation with the mock NVML, as a folder of this machine: cards that can be cut in instances.

The library looks for its cards, and keeps its instances, in files beside itself, so they outlive the agent.
"""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.native.build import mock_nvml

VERSION = "550.54.15"
UUIDS = tuple(f"GPU-a100{number:04d}-0000-4000-8000-000000000000" for number in range(4))
P_1G, P_1G_ME, P_2G, P_3G, P_4G = 19, 20, 14, 9, 5
"""NVML's numbers of some profiles of an A100 with 40 GB, which the mock library has."""
_INSTANCES = 14


@dataclass(frozen=True)
class MigNode:
    """The folder."""

    root: Path

    def install(self, *, modes: Sequence[int] = (0,), nodes: bool = False) -> MigNode:
        """Writes the driver's files.

        Args:
            modes: For each card whether it is in MIG mode at first.
            nodes: Whether device nodes shall be real ones, for containers; needs root.
        """
        libraries = self.root / "usr" / "lib64"
        libraries.mkdir(parents=True)
        shutil.copy(mock_nvml(), libraries / "libnvidia-ml.so.1")
        (libraries / f"libcuda.so.{VERSION}").write_text("stands for a library\n")
        (libraries / "libcuda.so.1").symlink_to(f"libcuda.so.{VERSION}")
        self._write_cards(modes)
        for name in ("nvidiactl", "nvidia-uvm", *(f"nvidia{number}" for number in range(len(modes)))):
            self._node(f"dev/{name}", real=nodes)
        number = 0
        for minor in range(len(modes)):
            for instance in range(_INSTANCES):
                for path in (f"gi{instance}/access", f"gi{instance}/ci0/access"):
                    number += 1
                    file = self.root / "proc/driver/nvidia/capabilities" / f"gpu{minor}/mig" / path
                    file.parent.mkdir(parents=True, exist_ok=True)
                    file.write_text(f"DeviceFileMinor: {number}\nDeviceFileMode: 292\nDeviceFileModify: 1\n")
                    self._node(f"dev/nvidia-caps/nvidia-cap{number}", real=nodes)
        return self

    def part(self, card: int, profile: int, start: int, size: int) -> str:
        """Device name of an instance, written out as the docs promise it."""
        return f"{self.card(card)}-mig-{profile}-{start}-{size}"

    @staticmethod
    def card(number: int) -> str:
        """Device name of a card."""
        return f"nvidia-{UUIDS[number].lower().removeprefix('gpu-')}"

    @property
    def state(self) -> Path:
        """What the library keeps."""
        return self.root / "usr/lib64/mock-nvml.txt.mig"

    def make(self, card: int, *, number: int, profile: int, start: int, size: int) -> None:
        """Makes an instance as an administrator would, with a compute instance that spans it."""
        before = self.state.read_text() if self.state.exists() else ""
        compute = {P_1G: 0, P_1G_ME: 0, P_2G: 1, P_3G: 2, P_4G: 3}[profile]
        uuid = UUIDS[card]
        self._replace(
            f"{before}mode {uuid} 1\ngi {uuid} {number} {profile} {start} {size}\n"
            f"ci {uuid} {number} 0 {compute} 900{number}\n"
        )

    def switch_off(self, card: int) -> None:
        """Takes a card without instances out of MIG mode, as an administrator would."""
        lines = self.state.read_text().splitlines() if self.state.exists() else []
        assert not any(line.startswith(f"gi {UUIDS[card]}") for line in lines)
        kept = [line for line in lines if not line.startswith(f"mode {UUIDS[card]}")]
        self._replace("".join(f"{line}\n" for line in (*kept, f"mode {UUIDS[card]} 0")))

    def instances(self, card: int) -> list[tuple[int, int]]:
        """Profile and first slot of each GPU instance of a card."""
        lines = self.state.read_text().splitlines() if self.state.exists() else []
        found = [line.split() for line in lines if line.startswith(f"gi {UUIDS[card]}")]
        return sorted((int(words[3]), int(words[4])) for words in found)

    def compute_instances(self, card: int) -> int:
        """How many compute instances a card has."""
        text = self.state.read_text() if self.state.exists() else ""
        return text.count(f"ci {UUIDS[card]}")

    def _write_cards(self, modes: Sequence[int]) -> None:
        cards = "".join(
            f"card\tuuid={UUIDS[number]}\tname=NVIDIA A100-SXM4-40GB\tmemory=40960\t"
            f"pci=00000000:{0x3B + number:02X}:00.0\tminor={number}\tarch=7\tmig={mode}\n"
            for number, mode in enumerate(modes)
        )
        (self.root / "usr/lib64/mock-nvml.txt").write_text(f"init\t0\ndriver\t{VERSION}\n{cards}")

    def _node(self, path: str, *, real: bool) -> None:
        node = self.root / path
        node.parent.mkdir(parents=True, exist_ok=True)
        if real:
            # What /dev/null is: a device that every container may have.
            os.mknod(node, stat.S_IFCHR | 0o666, os.makedev(1, 3))
        else:
            node.write_text("")

    def _replace(self, content: str) -> None:
        fresh = self.state.with_suffix(".test")
        fresh.write_text(content)
        fresh.replace(self.state)
