"""What is given out, and decisions that count with it.

Purpose: never over-commit. What a decision gives is booked before anything is written, and stays booked until
the watch shows what became of it.

Flow: `observed` follows the claims; `assume` books a decision, `drop` ends that once the claim's own state
counts; `doubt` keeps one whose write got no answer. `place` decides.

Limits: one for each process; only the leader decides. A claim that is both observed as allocated and assumed
counts as observed.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import TypeVar

from controller.allocating.cards import Cards
from controller.allocating.sources import Sources
from controller.allocating.views import ClaimView
from controller.allocating.writing import Wanted
from driver.allocation import Decision, InUse, Snapshot
from driver.allocation.models import DeviceID
from driver.allocation.placement import PlacementPolicy, place
from driver.allocation.snapshot import Holding, holdings
from driver.kube.client import JSON

_Key = TypeVar("_Key", DeviceID, str)


class Books:
    """What claims hold of our cards."""

    def __init__(self, sources: Sources, cards: Cards) -> None:
        self._sources = sources
        self._cards = cards
        self._whole: Counter[DeviceID] = Counter()
        self._shares: Counter[DeviceID] = Counter()
        self._consumed: dict[DeviceID, Counter[str]] = {}
        self._observed: dict[str, tuple[str, tuple[Holding, ...]]] = {}
        self._assumed: dict[str, tuple[Holding, ...]] = {}
        self._doubted: dict[str, Wanted] = {}
        self._snapshot: Snapshot | None = None
        self._built_of: tuple[int, int] = (-1, -1)
        self._classes_version = 0

    def observed(self, key: str, view: ClaimView | None) -> None:
        """Takes over what the watch shows of a claim (`namespace/name`)."""
        before = self._observed.pop(key, None)
        if before is not None:
            uid, held = before
            if uid not in self._assumed:
                self._book(held, -1)
        if view is None:
            return
        held = holdings(json.loads(view.held)) if view.held else ()
        if view.allocated:
            # Its own state counts from now on, whatever was assumed.
            self._book(self._assumed.pop(view.uid, ()), -1)
        if view.uid not in self._assumed:
            self._book(held, 1)
        self._observed[key] = (view.uid, held)

    def assume(self, wanted: Wanted) -> None:
        """Books what was decided and is about to be written."""
        claim = {"metadata": {"name": wanted.name}, "status": {"allocation": wanted.allocation}}
        held = holdings(claim)
        self._assumed[wanted.uid] = held
        self._book(held, 1)

    def drop(self, uid: str) -> None:
        """Ends an assumption: what is stored is known, and has been observed."""
        self._book(self._assumed.pop(uid, ()), -1)
        for key, wanted in list(self._doubted.items()):
            if wanted.uid == uid:
                del self._doubted[key]

    def assumed(self, uid: str) -> bool:
        """Whether something was decided for a claim of which it is not known yet whether it is stored."""
        return uid in self._assumed

    def doubt(self, wanted: Wanted) -> None:
        """Keeps an assumption of which nobody knows whether it was stored."""
        self._doubted[f"{wanted.namespace}/{wanted.name}"] = wanted

    def doubted(self, key: str) -> Wanted | None:
        """What was written to a claim without an answer, None if nothing was."""
        return self._doubted.get(key)

    def classes_changed(self) -> None:
        """Takes note that a DeviceClass came, changed or went."""
        self._classes_version += 1

    def in_use(self) -> InUse:
        """What is held at this moment; a live view, to be read before the next `await` only."""
        return InUse(self._whole.keys(), self._shares, self._consumed)

    def snapshot(self) -> Snapshot:
        """The state that a decision is made from."""
        built_of = (self._cards.version, self._classes_version)
        if self._snapshot is None or self._built_of != built_of:
            classes = [json.loads(one.document) for one in self._sources.classes.values()]
            self._snapshot = Snapshot.build(slices=self._cards.slices(), classes=classes)
            self._built_of = built_of
        return self._snapshot.with_in_use(self.in_use())

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
        return place(self.snapshot(), claims=claims, policy=policy, nodes=nodes, release=release)

    def _book(self, held: Iterable[Holding], sign: int) -> None:
        for one in held:
            if one.amounts is None:
                _add(self._whole, one.device, sign)
                continue
            _add(self._shares, one.device, sign)
            sums = self._consumed.setdefault(one.device, Counter())
            for name, amount in one.amounts:
                _add(sums, name, sign * amount)
            if not sums:
                del self._consumed[one.device]


def _add(sums: Counter[_Key], key: _Key, amount: int) -> None:
    total = sums[key] + amount
    if total:
        sums[key] = total
    else:
        sums.pop(key, None)
