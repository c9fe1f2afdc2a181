"""What is given out, and decisions that count with it.

Purpose: never over-commit. What a decision gives is booked before anything is written, and stays booked until
the watch shows what became of it.

Flow: `observed` follows the claims, `slices_changed` and `class_changed` the rest; `assume` books a decision,
`drop` ends that once the claim's own state counts; `doubt` keeps one whose write got no answer. `place` and
`why_not` ask.

Limits: one for each process; only the leader decides. A claim that is both observed as allocated and assumed
counts as observed.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence

from controller.allocating.cards import Cards, SliceChanges
from controller.allocating.sources import Sources
from controller.allocating.views import ClaimView, ClassView
from controller.allocating.writing import Wanted
from driver.allocation import Decision, Snapshot
from driver.allocation.cluster import Cluster
from driver.allocation.placement import PlacementPolicy, place
from driver.allocation.why_not import WhyNot, why_not
from driver.kube.client import JSON


class Books:
    """What claims hold of our cards."""

    def __init__(self, sources: Sources, cards: Cards) -> None:
        self._sources = sources
        self._cards = cards
        self._observed: dict[str, tuple[str, bytes]] = {}
        self._assumed: dict[str, JSON] = {}
        self._doubted: dict[str, Wanted] = {}
        self._cluster: Cluster | None = None

    def observed(self, key: str, view: ClaimView | None) -> None:
        """Takes over what the watch shows of a claim (`namespace/name`)."""
        before = self._observed.pop(key, None)
        if view is not None:
            if view.allocated:
                # Its own state counts from now on, whatever was assumed.
                self._assumed.pop(view.uid, None)
            self._observed[key] = (view.uid, view.held)
            self._rebook(view.uid, view.held)
        if before is not None and (view is None or before[0] != view.uid):
            self._rebook(before[0], b"")

    def assume(self, wanted: Wanted) -> None:
        """Books what was decided and is about to be written."""
        self._assumed[wanted.uid] = {
            "metadata": {"name": wanted.name, "namespace": wanted.namespace, "uid": wanted.uid},
            "status": {"allocation": wanted.allocation},
        }
        self._rebook(wanted.uid, b"")

    def drop(self, uid: str) -> None:
        """Ends an assumption: what is stored is known, and has been observed."""
        for key, wanted in list(self._doubted.items()):
            if wanted.uid == uid:
                del self._doubted[key]
        if self._assumed.pop(uid, None) is not None:
            held = next((one for known, one in self._observed.values() if known == uid), b"")
            self._rebook(uid, held)

    def assumed(self, uid: str) -> bool:
        """Whether something was decided for a claim of which it is not known yet whether it is stored."""
        return uid in self._assumed

    def doubt(self, wanted: Wanted) -> None:
        """Keeps an assumption of which nobody knows whether it was stored."""
        self._doubted[f"{wanted.namespace}/{wanted.name}"] = wanted

    def doubted(self, key: str) -> Wanted | None:
        """What was written to a claim without an answer, None if nothing was."""
        return self._doubted.get(key)

    def all_doubted(self) -> list[str]:
        """The claims (`namespace/name`) of which it is not known what was stored."""
        return list(self._doubted)

    def slices_changed(self, changes: SliceChanges) -> None:
        """Takes over that cards of a node came, changed or went."""
        if self._cluster is not None:
            self._cluster = self._cluster.with_slices(changed=changes.changed, removed=changes.removed)

    def class_changed(self, name: str, view: ClassView | None) -> None:
        """Takes over that a DeviceClass came, changed (`view`) or went (None)."""
        if self._cluster is None:
            return
        if view is None:
            self._cluster = self._cluster.with_classes(removed=[name])
        else:
            self._cluster = self._cluster.with_classes(changed=[json.loads(view.document)])

    def place(
        self, claims: Sequence[JSON], *, policy: PlacementPolicy, nodes: Iterable[str], release: str
    ) -> Decision:
        """Decides about the claims of a pod.

        Args:
            claims: ResourceClaims (v1), in the pod's order.
            policy: What is liked best.
            nodes: Names of the nodes that the pod may use.
            release: Kubernetes release whose selectors apply.
        """
        return place(self._state(), claims=claims, policy=policy, nodes=nodes, release=release)

    def why_not(self, claims: Sequence[JSON], *, nodes: Iterable[str], release: str) -> WhyNot:
        """Says why the claims of a pod fit nowhere; arguments as for `place`."""
        return why_not(self._state(), claims=claims, nodes=list(nodes), release=release)

    def _state(self) -> Cluster:
        if self._cluster is None:
            snapshot = Snapshot.build(
                slices=self._cards.slices(),
                classes=[json.loads(one.document) for one in self._sources.classes.values()],
            )
            held = [
                json.loads(text) for uid, text in self._observed.values() if text and uid not in self._assumed
            ]
            self._cluster = Cluster.build(snapshot, claims=[*held, *self._assumed.values()])
        return self._cluster

    def _rebook(self, uid: str, held: bytes) -> None:
        """Makes the cluster count what a claim holds now: what was assumed, or else what was observed."""
        if self._cluster is None:
            return
        document = self._assumed.get(uid) or (json.loads(held) if held else None)
        if document is None:
            self._cluster = self._cluster.with_claims(removed=[uid])
        else:
            self._cluster = self._cluster.with_claims(changed=[document])
