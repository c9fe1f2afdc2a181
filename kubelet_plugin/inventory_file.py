"""The node's AcceleratorNode as a file, where there is no API server to write it to.

Flow: inventory -> `InventoryFile.update` -> the whole document under a temporary name, renamed over the old.
Limits: for `hack/demo` and trials; nothing reads it but whoever asked for it.
"""

from __future__ import annotations

import json
from pathlib import Path

from driver.api.node import AgentStatus, status_of
from driver.kube.resources import ACCELERATOR_NODES
from kubelet_plugin.inventory import Snapshot


class InventoryFile:
    """Writes one AcceleratorNode manifest.

    Args:
        path: Where to.
        node_name: Name of the AcceleratorNode.
        agent: Who writes.
        simulated: Whether the cards are simulated.
    """

    def __init__(self, path: Path, *, node_name: str, agent: AgentStatus, simulated: bool) -> None:
        self._path = path
        self._node_name = node_name
        self._agent = agent
        self._simulated = simulated

    def update(self, snapshot: Snapshot) -> None:
        """Writes what a look found."""
        status = status_of(
            list(snapshot.cards.values()),
            agent=self._agent,
            policy=snapshot.policy,
            problems=snapshot.problems,
            simulated=self._simulated,
        )
        document = {
            "apiVersion": ACCELERATOR_NODES.api_version,
            "kind": ACCELERATOR_NODES.kind,
            "metadata": {"name": self._node_name},
            "status": status.model_dump(mode="json", exclude_none=True),
        }
        partial = self._path.with_name(f".{self._path.name}.partial")
        partial.write_text(json.dumps(document, indent=2), encoding="utf-8")
        partial.replace(self._path)
