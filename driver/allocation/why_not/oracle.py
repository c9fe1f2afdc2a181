"""Whom the question "and if?" is put to.

Purpose: one seam for both ways to hold a cluster: a `Snapshot`, asked node by node, and a `Cluster`, which
answers for all nodes at once.

Flow: `oracle_of` makes one; `feasible` says which nodes fit where that is known at once.

Limits: `first` looks no further than the nodes that were asked about.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from driver.allocation.allocator import allocate
from driver.allocation.cluster import Answers, Cluster
from driver.allocation.decision import Decision
from driver.allocation.models import JSON
from driver.allocation.profile import Profile
from driver.allocation.snapshot import InUse, Snapshot


class Oracle(Protocol):
    """Decides about claims."""

    def feasible(self) -> Sequence[str] | None:
        """Give the nodes that fit the claims as they are; None if that is not known at once."""

    def decide(self, node: str) -> Decision:
        """Decide about the claims as they are."""

    def on(self, node: str, claims: Sequence[JSON]) -> Decision:
        """Decide about other claims on a node."""

    def released(self, node: str, claims: Sequence[JSON]) -> Decision:
        """Decide as if nothing were held."""

    def first(self, claims: Sequence[JSON]) -> Decision | None:
        """Give the first node that fits other claims; None if that takes too long to find out."""


def oracle_of(
    state: Snapshot | Cluster,
    claims: Sequence[JSON],
    nodes: Sequence[str],
    *,
    everywhere: bool,
    profile: Profile,
) -> Oracle:
    """Make an oracle.

    Args:
        state: The state of the cluster.
        claims: The claims that are asked about.
        nodes: The nodes that are asked about.
        everywhere: Whether these are all.
        profile: The rules that apply.
    """
    if isinstance(state, Cluster):
        return _OfCluster(state, claims, None if everywhere else nodes, profile)
    return _OfSnapshot(state, claims, profile)


class _OfSnapshot:
    def __init__(self, snapshot: Snapshot, claims: Sequence[JSON], profile: Profile) -> None:
        self._snapshot = snapshot
        self._claims = claims
        self._profile = profile

    def feasible(self) -> Sequence[str] | None:
        return None

    def decide(self, node: str) -> Decision:
        return self.on(node, self._claims)

    def on(self, node: str, claims: Sequence[JSON]) -> Decision:
        return self._allocate(self._snapshot, node, claims)

    def released(self, node: str, claims: Sequence[JSON]) -> Decision:
        return self._allocate(self._snapshot.with_in_use(InUse()), node, claims)

    def _allocate(self, snapshot: Snapshot, node: str, claims: Sequence[JSON]) -> Decision:
        rules = self._profile
        return allocate(snapshot, node=node, claims=claims, release=rules.release, features=rules.features)

    def first(self, claims: Sequence[JSON]) -> Decision | None:
        del claims
        return None


class _OfCluster(_OfSnapshot):
    def __init__(
        self, cluster: Cluster, claims: Sequence[JSON], nodes: Sequence[str] | None, profile: Profile
    ) -> None:
        super().__init__(cluster.snapshot, claims, profile)
        self._cluster = cluster
        self._nodes = nodes
        self._answers: Answers = cluster.answers(claims, release=profile.release)

    def feasible(self) -> Sequence[str] | None:
        found = self._answers.feasible
        if self._nodes is None:
            return found
        wanted = set(self._nodes)
        return [node for node in found if node in wanted]

    def decide(self, node: str) -> Decision:
        return self._answers.decision(node)

    def first(self, claims: Sequence[JSON]) -> Decision | None:
        return self._cluster.first(claims, release=self._profile.release, nodes=self._nodes)
