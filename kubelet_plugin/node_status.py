"""The node's inventory in its AcceleratorNode: written when it changed, and never as a heartbeat.

Flow: inventory (and the engine's problems) -> `AcceleratorNodeStatus` -> compared with what was written last
-> server-side apply of the status. The object is made first where it is missing, owned by the Node, so that
it goes with it. A write that fails is tried again with growing pauses; the newest content wins.

Limits: nothing is written while another agent of this node is registered later than this one (rolling
update), or before the API server has told which policies hold. Somebody else's change to the object is
noticed within `VERIFY_EVERY_S`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import structlog

from driver.api.node import AgentStatus, status_of
from driver.kube.backoff import Backoff
from driver.kube.client import ApiError, ConflictError, KubeClient, NotFoundError
from driver.kube.resources import ACCELERATOR_NODES, NODES
from driver.read_back import differing_fields
from kubelet_plugin.inventory import Snapshot
from kubelet_plugin.logs import operation
from kubelet_plugin.metrics import Metrics

log = structlog.get_logger(__name__)

FIELD_MANAGER = "dragoman-kubelet-plugin"
VERIFY_EVERY_S = 300.0


@dataclass(frozen=True, kw_only=True)
class StatusMaker:
    """Makes the AcceleratorNode's status of a snapshot.

    Attributes:
        node_name: Name of the Node and of the AcceleratorNode.
        agent: Who writes.
        simulated: Whether the cards are simulated.
        problems: Problems besides those of the inventory, asked each time.
    """

    node_name: str
    agent: AgentStatus
    simulated: bool
    problems: Callable[[], Sequence[str]]

    def document(self, snapshot: Snapshot) -> dict[str, Any]:
        """The AcceleratorNode with the status that says what the snapshot has."""
        status = status_of(
            list(snapshot.cards.values()),
            agent=self.agent,
            policy=snapshot.policy,
            problems=(*snapshot.problems, *self.problems()),
            simulated=self.simulated,
            change=snapshot.change,
        )
        return {
            "apiVersion": ACCELERATOR_NODES.api_version,
            "kind": ACCELERATOR_NODES.kind,
            "metadata": {"name": self.node_name},
            "status": status.model_dump(mode="json", exclude_none=True),
        }


class NodeStatusWriter:
    """Writes one AcceleratorNode's status.

    Args:
        client: The API server.
        maker: Makes what is written.
        superseded: Whether a newer agent of this node writes instead.
        metrics: Where writes are counted.
    """

    def __init__(
        self,
        client: KubeClient,
        *,
        maker: StatusMaker,
        superseded: Callable[[], bool],
        metrics: Metrics,
    ) -> None:
        self._client = client
        self._maker = maker
        self._node_name = maker.node_name
        self._superseded = superseded
        self._metrics = metrics
        self._snapshot: Snapshot | None = None
        self._written: dict[str, Any] | None = None
        self._dropped: list[str] = []
        self._around: tuple[tuple[str, ...], bool] = ((), False)
        self._wake = asyncio.Event()

    def update(self, snapshot: Snapshot | None = None) -> None:
        """Takes a new snapshot, or looks again at what else decides about a write; cheap."""
        if snapshot is not None:
            self._snapshot = snapshot
        around = (tuple(self._maker.problems()), self._superseded())
        if snapshot is not None or around != self._around:
            self._around = around
            self._wake.set()

    async def run(self, *, verify_every_s: float = VERIFY_EVERY_S) -> None:
        """Writes whenever there is something to write, until cancelled."""
        backoff = Backoff(base_s=1.0, cap_s=60.0)
        while True:
            self._wake.clear()
            try:
                await self.write_if_changed()
                backoff.reset()
                pause = verify_every_s
            except ApiError as failed:
                pause = backoff.next_delay()
                self._metrics.count("status_writes_total", object="node", result="failed")
                log.warning("AcceleratorNode cannot be written", error=str(failed), retry_s=round(pause, 1))
            try:
                await asyncio.wait_for(self._wake.wait(), pause)
            except TimeoutError:
                # Written again if somebody changed or removed it meanwhile.
                await self._forget_if_foreign()

    async def write_if_changed(self) -> bool:
        """Writes the status if it differs from what was written last.

        Returns:
            Whether it was written.

        Raises:
            ApiError: The API server refused or did not answer.
        """
        snapshot = self._snapshot
        if snapshot is None or not snapshot.complete:
            return False
        if self._superseded():
            # Once the other is gone, what it wrote has to be written over.
            self._written = None
            return False
        document = self._maker.document(snapshot)
        wanted = document["status"]
        if wanted == self._written:
            return False
        with operation("node-status"):
            stored = await self._apply(document)
            self._written = wanted
            self._metrics.count("status_writes_total", object="node", result="ok")
            log.info("AcceleratorNode written", cards=len(snapshot.cards))
            self._look_for_drops(wanted, stored)
        return True

    async def _apply(self, body: dict[str, Any]) -> dict[str, Any]:
        try:
            return await self._apply_once(body)
        except NotFoundError:
            await self._create()
            return await self._apply_once(body)

    async def _apply_once(self, body: dict[str, Any]) -> dict[str, Any]:
        return await self._client.apply(
            ACCELERATOR_NODES, body, name=self._node_name, field_manager=FIELD_MANAGER, subresource="status"
        )

    async def _create(self) -> None:
        node = await self._client.get(NODES, self._node_name)
        owner = {
            "apiVersion": NODES.api_version,
            "kind": NODES.kind,
            "name": self._node_name,
            "uid": node["metadata"]["uid"],
        }
        try:
            await self._client.create(
                ACCELERATOR_NODES,
                {
                    "apiVersion": ACCELERATOR_NODES.api_version,
                    "kind": ACCELERATOR_NODES.kind,
                    "metadata": {"name": self._node_name, "ownerReferences": [owner]},
                },
            )
        except ConflictError:
            return  # another agent of this node was quicker
        log.info("AcceleratorNode made", name=self._node_name)

    async def _forget_if_foreign(self) -> None:
        if self._written is None:
            return
        try:
            stored = await self._client.get(ACCELERATOR_NODES, self._node_name)
        except NotFoundError:
            self._written = None
            return
        except ApiError:
            return
        differing = differing_fields(self._written, stored.get("status") or {}, path="status")
        if set(differing) - set(self._dropped):
            log.warning("AcceleratorNode was changed by somebody else", fields=differing[:5])
            self._written = None

    def _look_for_drops(self, wanted: dict[str, Any], stored: dict[str, Any]) -> None:
        self._dropped = differing_fields(wanted, stored.get("status") or {}, path="status")
        if self._dropped:
            self._metrics.count("dropped_fields_total", object="AcceleratorNode", gate="")
            log.error(
                "the API server dropped fields of AcceleratorNode; its CRD is older than this agent",
                fields=self._dropped[:10],
                remedy="Upgrade the chart, which brings the CRDs.",
            )
