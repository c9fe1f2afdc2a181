"""MIG on the mock NVML: what is there, by the file that outlives the process."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from tests.driver.vendors.nvml_world import NvmlWorld
from tests.support.folder_host import FolderHost

# NVML's numbers of an A100's profiles.
P_1G, P_1G_ME, P_1G_10, P_2G, P_3G, P_4G, P_7G = 19, 20, 15, 14, 9, 5, 0


class Slot(NamedTuple):
    """A GPU instance, as the mock keeps it."""

    uuid: str
    id: int
    profile: int
    start: int
    size: int


def state(world: NvmlWorld) -> Path:
    return world.path.with_name(f"{world.path.name}.mig")


def gpu_instances(world: NvmlWorld) -> list[Slot]:
    return instances_in(state(world))


def instances_in(path: Path) -> list[Slot]:
    if not path.exists():
        return []
    lines = [line.split() for line in path.read_text().splitlines()]
    return sorted(Slot(words[1], *map(int, words[2:])) for words in lines if words[0] == "gi")


def compute_instances(world: NvmlWorld) -> int:
    path = state(world)
    return path.read_text().count("ci ") if path.exists() else 0


def add_capabilities(host: FolderHost, *, minor: int = 0, below: str = "", instances: int = 8) -> None:
    """The driver's capability files and the device nodes that they lead to."""
    base = f"{below}/proc/driver/nvidia/capabilities/gpu{minor}/mig"
    number = 10 * (minor + 1)
    for instance in range(instances):
        for path in (f"gi{instance}/access", f"gi{instance}/ci0/access"):
            number += 1
            host.add(f"{base}/{path}", f"DeviceFileMinor: {number}\nDeviceFileMode: 292\n")
            host.add(f"{below}/dev/nvidia-caps/nvidia-cap{number}")


def part(uuid: str, profile: int, start: int, size: int) -> str:
    """Device name of an instance, written out as the docs promise it."""
    return f"nvidia-{uuid.lower().removeprefix('gpu-')}-mig-{profile}-{start}-{size}"
