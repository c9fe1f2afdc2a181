"""A node with two cards of every vendor at once: what lies over its root, and which cards have to come of it.

Flow: all fixtures of `tests/driver/vendors` -> one folder (sysfs, programs, libraries, device nodes) ->
`clusters.start(laid_over=...)`. The agent in its pod then finds them in the node's own `/sys`, `/dev` and
`/usr`.
Limits: a device node is one of /dev/null's kind, since nothing else may be opened without harm. What a
fixture has in `/sys/fs` cannot be laid over: a card whose memory is told there alone is left out.
"""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from tests.driver.vendors.driver_root import recorded_root
from tests.driver.vendors.fixture_node import NODES, FixtureNode, read_node
from tests.native.build import mock_dcmi, mock_nvml
from tests.support.folder_host import FolderHost

_NULL = os.makedev(1, 3)
_NOT_LAID_OVER = "/sys/fs/"
_LIBRARIES: Mapping[str, tuple[str, Callable[[], Path]]] = {
    "nvml": ("/usr/lib/x86_64-linux-gnu/libnvidia-ml.so.1", lambda: mock_nvml(beside=True)),
    "dcmi": ("/usr/local/dcmi/libdcmi.so", lambda: mock_dcmi(beside=True)),
}


def vendors() -> list[str]:
    """Names of all vendors."""
    return sorted(path.stem for path in NODES.glob("*.yaml"))


def expected(vendor: str) -> list[dict[str, Any]]:
    """The cards that a fixture promises, without those that only a file of `/sys/fs` tells of."""
    node = read_node(vendor)
    unseen = "".join(text for path, text in node.files.items() if path.startswith(_NOT_LAID_OVER))
    return [card for card in node.expect if card["pci"] not in unseen]


def make(root: Path) -> Path:
    """Makes the folder; returns it."""
    root.mkdir(mode=0o755)
    host = FolderHost(root)
    for vendor in vendors():
        _add(read_node(vendor), host=host)
    # This machine's own PCI functions are not the node's.
    os.setxattr(root / "sys/bus/pci/devices", "trusted.overlay.opaque", b"y")
    for folder, _, _ in os.walk(root):
        Path(folder).chmod(0o755)
    return root


def _add(node: FixtureNode, *, host: FolderHost) -> None:
    for path, text in node.files.items():
        if not path.startswith(_NOT_LAID_OVER):
            host.add(path, text)
    for path, target in node.links.items():
        host.link(path, target)
    if node.driver_root:
        recorded_root(host)
    for path in node.devices:
        _add_device(host.local(path))
    node.install_programs(host.root)
    if node.library:
        path, build = _LIBRARIES[node.library]
        library = host.local(host.resolve(path))
        shutil.copyfile(build(), library)
        library.with_name(f"{library.name}.txt").write_text(node.script)


def _add_device(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        os.mknod(path, 0o666 | stat.S_IFCHR, _NULL)
        path.chmod(0o666)
