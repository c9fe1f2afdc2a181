"""Driver installations as folders of a fake host."""

from __future__ import annotations

from pathlib import Path

from tests.support.folder_host import FolderHost

VERSION = "535.261.03"
_RECORDED = Path(__file__).with_name("fixtures") / "debian-535.261.03.txt"


def recorded_root(host: FolderHost, *, below: str = "") -> None:
    """The installation of Debian 12, as recorded."""
    for line in _RECORDED.read_text().splitlines():
        if line.startswith("/"):
            path, _, target = line.partition(" -> ")
            if target:
                host.link(below + path, target)
            else:
                host.add(below + path)


def recorded_files() -> list[str]:
    """The paths of the recording that are files."""
    return [
        line for line in _RECORDED.read_text().splitlines() if line.startswith("/") and " -> " not in line
    ]


def flat_root(host: FolderHost, folder: str, *, version: str = VERSION) -> None:
    """An installation that keeps all libraries in one folder, as NVIDIA's installer does."""
    for stem, link in {"libcuda": "1", "libnvidia-ml": "1", "libnvidia-nvvm": "4"}.items():
        host.add(f"{folder}/{stem}.so.{version}")
        host.link(f"{folder}/{stem}.so.{link}", f"{stem}.so.{version}")


def add_device_nodes(host: FolderHost, *minors: int, folder: str = "/dev") -> None:
    """The device nodes of a node with these cards; without nvidia-modeset."""
    for name in ("nvidiactl", "nvidia-uvm", "nvidia-uvm-tools", *(f"nvidia{minor}" for minor in minors)):
        host.add(f"{folder}/{name}")
