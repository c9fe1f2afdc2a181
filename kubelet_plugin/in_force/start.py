"""The one part of this package that an agent without limited shares imports.

Flow: waits until a share with a limit is prepared, then puts the watch together and runs it; tells claims and
pods what it says.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Protocol

from driver.api.share_config import Priority
from driver.cards import IsolationLevel
from driver.isolation.base import IsolationMethod
from driver.isolation.preload_one_card import VENDORS
from kubelet_plugin.metrics import Metrics
from kubelet_plugin.pod_resources import PodResourcesClient
from kubelet_plugin.prepare.claims import ClaimRef, ClaimSource
from kubelet_plugin.prepare.records import ClaimRecord, ShareRecord
from kubelet_plugin.settings import Settings

if TYPE_CHECKING:
    from kubelet_plugin.in_force.book import Verdict
    from kubelet_plugin.in_force.inspection import Cards
    from kubelet_plugin.in_force.watch import InForceWatch
    from kubelet_plugin.inventory import Snapshot

NOT_IN_FORCE = "LimitNotInForce"
"""Reason of the Event."""

PRIORITY = "Priority"
"""Type of the condition of a share of high priority."""

_LOOK_S = 5.0


class Status(Protocol):
    """The part of `kubelet_plugin.claim_status.ClaimStatusWriter` that is needed here."""

    def card_changed(self, ref: ClaimRef) -> None:
        """Notes that a claim's status is due."""


class Events(Protocol):
    """The part of `kubelet_plugin.events.PodEvents` that is needed here."""

    def card_changed(self, ref: ClaimRef, *, reason: str, text: str, warning: bool, of: str = "") -> None:
        """Notes an Event on the pods of a claim, of one of its shares."""


class LimitsInForce:
    """What is seen of the limits of this node's shares.

    Args:
        settings: Where the node's /proc is, and for how long a failure has to last.
        records: What is prepared now.
        claims: Where pods are read.
        cards: The node's cards.
        methods: The isolation methods.
        metrics: Where it is counted.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        records: Callable[[], Iterable[ClaimRecord]],
        claims: ClaimSource,
        cards: Cards,
        methods: Mapping[IsolationLevel, IsolationMethod],
        metrics: Metrics,
    ) -> None:
        self._settings = settings
        self._records = records
        self._claims = claims
        self._cards = cards
        self._methods = methods
        self._metrics = metrics
        self._status: Status | None = None
        self._events: Events | None = None
        self._watch: InForceWatch | None = None
        self._first_on: frozenset[str] | None = None

    def tell(self, *, status: Status, events: Events) -> None:
        """Sets who is told."""
        self._status, self._events = status, events

    def condition_of(self, record: ShareRecord) -> dict[str, str] | None:
        """The condition of a share's entry in `status.devices`; None to leave it as it is."""
        verdict = self._watch.verdict_of(record) if self._watch else None
        if verdict is None:
            return None
        where = f" (container {verdict.container})" if verdict.container and verdict.status == "False" else ""
        remedy = f" {verdict.remedy}" if verdict.remedy else ""
        return {
            "type": "InForce",
            "status": verdict.status,
            "reason": verdict.reason,
            "message": f"{verdict.message}{where}{remedy}",
        }

    def priority_of(self, record: ShareRecord) -> dict[str, str] | None:
        """The condition of a share that wants to go before others; None to leave it as it is."""
        if self._first_on is None:
            return None
        if self._settings.in_force_deadline_s <= 0:
            return _counts_as_low("NotWatched", "the agent watches no shares (inForce.enabled).")
        if not self._is_seen(record):
            return _counts_as_low("NotHeldByPreload", "HAMi-core, which says who computes, does not hold it.")
        if record.share.device not in self._first_on:
            return _counts_as_low("NotAllowed", "no AcceleratorPolicy sets allowHighPriority for this card.")
        return {
            "type": PRIORITY,
            "status": "True",
            "reason": "GoesFirst",
            "message": "While it computes, shares of low priority on its card wait.",
        }

    def look_at_policy(self, snapshot: Snapshot) -> None:
        """Takes on which cards shares may go before others, and has it told where that changed."""
        if not snapshot.complete:
            return
        first_on = frozenset(name for name, card in snapshot.cards.items() if card.allow_high_priority)
        before, self._first_on = self._first_on, first_on
        if self._status is None or before == first_on:
            return
        changed = first_on if before is None else before ^ first_on
        for record in self._records():
            if any(one.priority == Priority.HIGH and one.share.device in changed for one in record.shares):
                claim = ClaimRef(namespace=record.namespace, name=record.name, uid=record.uid)
                self._status.card_changed(claim)

    def _is_seen(self, record: ShareRecord) -> bool:
        """Whether the share has a region that says when it computes."""
        card = self._cards.cards().get(record.share.device)
        vendor = card.vendor if card is not None else ""
        return vendor not in VENDORS and IsolationLevel.PRELOAD in (record.memory_level, record.cores_level)

    async def run(self) -> None:
        """Watches until cancelled."""
        if self._settings.in_force_deadline_s <= 0:
            await asyncio.get_running_loop().create_future()
        while True:
            if any(_is_limited(share) for record in self._records() for share in record.shares):
                break
            await asyncio.sleep(_LOOK_S)
        self._watch = self._make_watch()
        await self._watch.run()

    def _make_watch(self) -> InForceWatch:
        from kubelet_plugin.host import NodeHost  # noqa: PLC0415 - see this module's purpose
        from kubelet_plugin.in_force.containers import Containers  # noqa: PLC0415
        from kubelet_plugin.in_force.watch import InForceWatch  # noqa: PLC0415

        return InForceWatch(
            records=self._records,
            pods=PodResourcesClient(self._settings.pod_resources_socket).pods_with_claims,
            containers=Containers(self._claims),
            cards=self._cards,
            methods=self._methods,
            host=NodeHost(self._settings.host_root, proc=self._settings.proc_dir),
            metrics=self._metrics,
            deadline_s=self._settings.in_force_deadline_s,
            told=self._told,
        )

    def _told(self, claim: ClaimRef, record: ShareRecord, verdict: Verdict) -> None:
        if self._status is not None:
            self._status.card_changed(claim)
        if self._events is None or verdict.status != "False":
            return
        text = (
            f"Limits of request {record.share.request} of claim {claim.name} are not in force in container "
            f"{verdict.container} on node {self._settings.node_name}, {verdict.reason}: "
            f"{verdict.message} {verdict.remedy}"
        )
        self._events.card_changed(claim, reason=NOT_IN_FORCE, text=text, warning=True, of=record.cdi_device)


def _counts_as_low(reason: str, why: str) -> dict[str, str]:
    message = f"priority: high counts as low: {why}"
    return {"type": PRIORITY, "status": "False", "reason": reason, "message": message}


def _is_limited(record: ShareRecord) -> bool:
    return any(
        level not in (None, IsolationLevel.NONE) for level in (record.memory_level, record.cores_level)
    )
