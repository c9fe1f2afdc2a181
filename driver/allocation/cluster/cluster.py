"""A whole cluster, to be asked which node can serve a pod's claims.

Purpose: the allocator's answer for all nodes without asking it on all nodes.

Flow: `Cluster.build` once, then `with_claims`, `with_slices` and the like follow what happens, each giving a
new cluster; `first` and `answers` find the nodes that may do by bitmaps, and let the allocator decide there.

Limits: the index is not immutable: after `with_slices` and `with_nodes` only the new cluster may be asked,
and by one thread at a time. Clusters that differ in claims or classes live side by side. Features are those
of a stock cluster of the release. After a search that ends at the allocator's limit on one node the other
nodes are tried with less, and what takes as many steps over several ends the attempt: a claim that cannot be
answered holds up others for a few seconds at most.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from driver.allocation.claims import prepare
from driver.allocation.cluster.answers import Answers
from driver.allocation.cluster.ask import Ask, ShareID
from driver.allocation.cluster.state import State, Touched
from driver.allocation.cluster.usage import Usage
from driver.allocation.cluster.world import World
from driver.allocation.decision import Decision
from driver.allocation.models import JSON
from driver.allocation.preference import Preference
from driver.allocation.profile import Profile
from driver.allocation.snapshot import Snapshot
from driver.cel.environments import DEFAULT_RELEASE


@dataclass(frozen=True, slots=True)
class Cluster:
    """The state of a cluster.

    Attributes:
        snapshot: The same state as the allocator reads it, node by node.
    """

    snapshot: Snapshot
    _world: World
    _state: State
    _generation: int = 0

    @classmethod
    def build(cls, snapshot: Snapshot, *, claims: Iterable[JSON] = ()) -> Cluster:
        """Make a cluster.

        Args:
            snapshot: Slices, classes and nodes. What its `in_use` says is held stays held for ever.
            claims: ResourceClaims (v1); those with an allocation hold what it says, until they change.

        Raises:
            InvalidInputError: A claim is not what the API server would store.
        """
        world = World(snapshot)
        known = {device: device for device in world.numbering.by_id}
        usage = Usage.build(snapshot.in_use, claims, known=known)
        state = State(usage).with_segments(gone=(), come=world.numbering.segments.values())
        world.seen(Profile.of())
        return cls(snapshot.with_in_use(usage.in_use()), world, state)

    def with_claims(self, *, changed: Iterable[JSON] = (), removed: Iterable[str] = ()) -> Cluster:
        """Give the cluster after claims changed; this one stays as it is.

        Args:
            changed: ResourceClaims (v1) that are new or different.
            removed: UIDs of those that are gone.

        Raises:
            InvalidInputError: A claim is not what the API server would store.
        """
        self._check_current()
        usage, uses = self._state.usage.with_claims(changed=changed, removed=removed)
        numbering = self._world.numbering
        state = self._state.after(
            usage,
            [
                Touched(number, numbering.device(number), before, after)
                for device, (before, after) in uses.items()
                for number in numbering.by_id.get(device, ())
            ],
        )
        return replace(self, snapshot=self.snapshot.with_in_use(usage.in_use()), _state=state)

    def with_slices(self, *, changed: Iterable[JSON] = (), removed: Iterable[str] = ()) -> Cluster:
        """Give the cluster after slices changed; only the new one may be asked from now on.

        Args:
            changed: ResourceSlices (v1) that are new or different.
            removed: Names of those that are gone.

        Raises:
            InvalidInputError: A slice is not what the API server would store; nothing has changed then.
        """
        self._check_current()
        come, gone = list(changed), list(removed)
        snapshot = self.snapshot.with_slices(changed=come, removed=gone)
        return self._moved(snapshot, slices={*gone, *(one["metadata"]["name"] for one in come)})

    def with_nodes(self, *, changed: Iterable[JSON] = (), removed: Iterable[str] = ()) -> Cluster:
        """Give the cluster after Nodes (v1) changed; only the new one may be asked from now on.

        Raises:
            InvalidInputError: A node is not what the API server would store; nothing has changed then.
        """
        self._check_current()
        come, gone = list(changed), list(removed)
        snapshot = self.snapshot.with_nodes(changed=come, removed=gone)
        return self._moved(snapshot, nodes=[*gone, *(one["metadata"]["name"] for one in come)])

    def with_classes(self, *, changed: Iterable[JSON] = (), removed: Iterable[str] = ()) -> Cluster:
        """Give the cluster after DeviceClasses (v1) changed; this one stays as it is.

        Raises:
            InvalidInputError: A class is not what the API server would store.
        """
        self._check_current()
        return replace(self, snapshot=self.snapshot.with_classes(changed=changed, removed=removed))

    def _moved(self, snapshot: Snapshot, *, slices: Iterable[str] = (), nodes: Iterable[str] = ()) -> Cluster:
        world = self._world
        gone, come = world.replace(snapshot, slices=slices, nodes=nodes)
        state = self._state.with_segments(gone=gone, come=come)
        if world.disordered:
            world = World(snapshot)
            segments = world.numbering.segments.values()
            state = State(state.usage).with_segments(gone=(), come=segments)
        return Cluster(snapshot, world, state, world.generation)

    def first(
        self,
        claims: Sequence[JSON],
        *,
        release: str = DEFAULT_RELEASE,
        nodes: Sequence[str] | None = None,
        preference: Preference | None = None,
        share_id: ShareID | None = None,
    ) -> Decision:
        """Give the decision of the first node that can serve a pod's claims.

        As for kube-scheduler, what goes wrong with the claims on a node that comes before (a selector that
        raises on a device that had to be looked at, say) ends the attempt: the refusal is that node's.

        Args:
            claims: The pod's ResourceClaims (v1) that are not allocated yet, in the pod's order.
            release: Kubernetes release whose rules apply.
            nodes: The nodes to try, in this order; all nodes in the order of their names if not given.
            preference: In what order devices of a node are tried.
            share_id: Makes ids for shares; random UUIDs if not given.

        Returns:
            Where and what; or the refusal of the node that ended the attempt, or if none did that of the
            first node.
        """
        ask = self._ask(claims, release=release, preference=preference, share_id=share_id)
        return ask.first(self._world.names if nodes is None else nodes, all_nodes=nodes is None)

    def answers(
        self,
        claims: Sequence[JSON],
        *,
        release: str = DEFAULT_RELEASE,
        preference: Preference | None = None,
        share_id: ShareID | None = None,
    ) -> Answers:
        """Say what a pod's claims come to on each node; the arguments are those of `first`."""
        ask = self._ask(claims, release=release, preference=preference, share_id=share_id)
        return ask.answers()

    def _ask(
        self,
        claims: Sequence[JSON],
        *,
        release: str,
        preference: Preference | None,
        share_id: ShareID | None,
    ) -> Ask:
        self._check_current()
        profile = Profile.of(release)
        prepared = prepare(claims, classes=self.snapshot.classes, profile=profile)
        return Ask(
            prepared,
            snapshot=self.snapshot,
            world=self._world,
            state=self._state,
            preference=preference,
            share_id=share_id,
        )

    def _check_current(self) -> None:
        if self._generation != self._world.generation:
            raise RuntimeError("slices or nodes have changed since: ask the cluster that came of it")
