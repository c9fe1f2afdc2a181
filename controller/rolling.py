"""Puts the rollout of policies together: what it reads of publishing, and what wakes it.

Limits: starts nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from controller.allocating.pod_fit import NodeFacts
from controller.publishing.publisher import Publisher
from controller.publishing.stores import Stores
from controller.publishing.views import inventory_view
from controller.queue import WorkQueue
from controller.rollouts.rollouts import Around, NodeStatus, Rollouts
from controller.rollouts.views import PolicyView, policy_view
from driver.kube.client import JSON, KubeClient
from driver.kube.informer import Informer
from driver.kube.resources import ACCELERATOR_POLICIES
from driver.kube.store import Store


@dataclass(frozen=True, kw_only=True)
class Rolling:
    """The rollout's parts, wired.

    Attributes:
        policies: Has to run, and to be synced before anything is decided.
        rollouts: Decides.
        queue: Policies whose turn it is to be looked at.
    """

    policies: Informer[PolicyView]
    rollouts: Rollouts
    queue: WorkQueue


def rolling(
    client: KubeClient,
    *,
    stores: Stores,
    nodes: Store[NodeFacts],
    publisher: Publisher,
    held: Callable[[], bool],
) -> Rolling:
    """Makes the parts and connects them.

    Args:
        client: The API server.
        stores: AcceleratorNodes and agents.
        nodes: Nodes.
        publisher: Knows whose slices are written.
        held: Whether this replica leads at this moment.
    """
    policies = Informer(client, ACCELERATOR_POLICIES, policy_view, name="policies")
    queue = WorkQueue(name="rollouts")

    def inventories() -> Iterator[tuple[str, bytes]]:
        for name in stores.inventories.keys():  # noqa: SIM118 - a store is no dict
            view = stores.inventories.get(name)
            if view is not None:
                yield name, view.status

    def labels(node: str) -> Mapping[str, str] | None:
        facts = nodes.get(node)
        return None if facts is None else facts.labels

    around = Around(
        held=held,
        inventories=inventories,
        read=_read,
        labels=labels,
        agent_ready=stores.agent_ready,
        settled=publisher.settled,
    )
    rollouts = Rollouts(
        client, policies, around, changed=lambda name, after_s: queue.add(name, after_s=after_s)
    )

    def noted(_key: str, before: object, after: object) -> None:
        if before != after:
            rollouts.nodes_changed()

    stores.inventories.subscribe(noted)
    stores.agents.subscribe(noted)
    stores.slices.subscribe(noted)
    return Rolling(policies=policies, rollouts=rollouts, queue=queue)


def _read(document: JSON) -> NodeStatus:
    view = inventory_view(document)
    said = view.published
    return NodeStatus(
        status=view.status, published=None if said is None else (said.status, said.reason, said.message)
    )
