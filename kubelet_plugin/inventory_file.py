"""The node's AcceleratorNode as a file, where there is no API server to write it to.

Flow: inventory -> `InventoryFile.update` -> the whole document under a temporary name, renamed over the old.
Limits: for `hack/demo` and trials; nothing reads it but whoever asked for it.
"""

from __future__ import annotations

import json
from pathlib import Path

from kubelet_plugin.inventory import Snapshot
from kubelet_plugin.node_status import StatusMaker


class InventoryFile:
    """Writes one AcceleratorNode manifest.

    Args:
        path: Where to.
        maker: Makes what is written.
    """

    def __init__(self, path: Path, *, maker: StatusMaker) -> None:
        self._path = path
        self._maker = maker

    def update(self, snapshot: Snapshot) -> None:
        """Writes what a look found."""
        partial = self._path.with_name(f".{self._path.name}.partial")
        partial.write_text(json.dumps(self._maker.document(snapshot), indent=2), encoding="utf-8")
        partial.replace(self._path)
