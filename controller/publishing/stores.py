"""The informers that publishing looks at, and which node a change of each belongs to.

Limits: reads and notes only; nothing here writes.
"""

from __future__ import annotations

from collections.abc import Callable

from controller.publishing.views import AgentView, Groups, Inventory, NodeView, SliceView
from driver.kube.store import Store
from driver.slices import ExistingSlice


class Stores:
    """What is known of nodes, agents, inventories and slices."""

    def __init__(
        self,
        *,
        inventories: Store[Inventory],
        nodes: Store[NodeView],
        agents: Store[AgentView],
        slices: Store[SliceView],
        changed: Callable[[str], None],
    ) -> None:
        """Subscribes to the informers.

        Args:
            inventories: AcceleratorNodes.
            nodes: Nodes.
            agents: The agents' pods.
            slices: ResourceSlices of our driver.
            changed: Told the name of each node that something changed for.
        """
        self.inventories = inventories
        self.nodes = nodes
        self.agents = agents
        self.slices = slices
        self._changed = changed
        self._agents_of = Groups()
        self._slices_of = Groups()
        # Asked of every node at every decision of our allocator: on 1,000 nodes 4 ms, if worked out then.
        self._ready: set[str] = set()
        self._fences: dict[str, str] = {}
        inventories.subscribe(lambda key, _before, _after: changed(key))
        nodes.subscribe(self._node_changed)
        agents.subscribe(self._agent_changed)
        slices.subscribe(self._slice_changed)

    def agent_ready(self, node: str) -> bool:
        """Whether a Ready agent runs on the node; during a rolling update there may be two pods."""
        return node in self._ready

    def existing_slices(self, node: str) -> list[ExistingSlice]:
        """All slices of our driver on the node, in the order of their names."""
        views = (self.slices.get(key) for key in self._slices_of.members(node))
        return [view.existing for view in views if view is not None]

    def fenced_since(self, node: str) -> str | None:
        """When the newest slice of a node was made, if kube-scheduler can use none of them.

        Returns:
            The time as the API writes it; None if there are no slices, or kube-scheduler may use one.
        """
        return self._fences.get(node)

    def slice_specs(self) -> list[tuple[str, bytes]]:
        """Name and spec (JSON text) of every slice of our driver."""
        views = map(self.slices.get, self.slices.keys())
        return [(view.existing.name, view.spec) for view in views if view is not None]

    def nodes_with_slices(self) -> list[str]:
        """Names of the nodes that have slices, sorted."""
        return sorted(group for group in self._slices_of.groups() if group)

    def nodes_of_interest(self) -> list[str]:
        """All nodes with an inventory or with slices."""
        return sorted({*self.inventories.keys(), *self.nodes_with_slices()})

    def _node_changed(self, key: str, before: NodeView | None, after: NodeView | None) -> None:
        # A Node's status changes every few seconds; only that it comes, goes or is another one matters.
        if before != after:
            self._changed(key)

    def _agent_changed(self, key: str, before: AgentView | None, after: AgentView | None) -> None:
        self._agents_of.put(key, after.node if after else None)
        nodes = {view.node for view in (before, after) if view is not None}
        for node in nodes:
            self._look_at_agents(node)
        if before != after:
            for node in nodes:
                self._changed(node)

    def _look_at_agents(self, node: str) -> None:
        views = (self.agents.get(key) for key in self._agents_of.members(node))
        if any(view is not None and view.ready for view in views):
            self._ready.add(node)
        else:
            self._ready.discard(node)

    def _slice_changed(self, key: str, before: SliceView | None, after: SliceView | None) -> None:
        self._slices_of.put(key, after.node if after else None)
        for node in {view.node for view in (before, after) if view is not None and view.node}:
            self._look_at_slices(node)
            self._changed(node)

    def _look_at_slices(self, node: str) -> None:
        views = [self.slices.get(key) for key in self._slices_of.members(node)]
        if not views or any(view is None or view.existing.node_name for view in views):
            self._fences.pop(node, None)
        else:
            self._fences[node] = max(view.created for view in views if view is not None)
