"""Telling the claims that hold a card that it became faulty, or well again.

Flow: `watch` hands over the faults of before and of now -> for each prepared claim that holds a card of which
that differs: its status is written anew (`claim_status`), and its pods get an Event.

Limits: a fault's end is told by an Event only where its beginning was, which is after `AGAIN_AFTER_S` of
silence.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from driver.cards import Fault
from kubelet_plugin.claim_status import ClaimStatusWriter
from kubelet_plugin.events import PodEvents
from kubelet_plugin.prepare.claims import ClaimRef
from kubelet_plugin.prepare.records import ClaimRecord

UNHEALTHY = "CardUnhealthy"
"""Reason of the Event of a fault."""

RECOVERED = "CardRecovered"
"""Reason of the Event of its end."""


class ClaimTeller:
    """Tells claims.

    Args:
        records: What is prepared now.
        status: Writes `status.devices`.
        events: Writes Events.
        node_name: Name of the node, for the reader.
    """

    def __init__(
        self,
        records: Callable[[], Iterable[ClaimRecord]],
        *,
        status: ClaimStatusWriter,
        events: PodEvents,
        node_name: str,
    ) -> None:
        self._records = records
        self._status = status
        self._events = events
        self._node_name = node_name

    def __call__(self, before: Mapping[str, Fault], now: Mapping[str, Fault]) -> None:
        """Tells the claims of every card whose fault differs."""
        changed = {name for name in {*before, *now} if before.get(name) != now.get(name)}
        if not changed:
            return
        for record in list(self._records()):
            held = sorted({share.share.device for share in record.shares} & changed)
            if not held:
                continue
            ref = ClaimRef(namespace=record.namespace, name=record.name, uid=record.uid)
            self._status.card_changed(ref)
            for device in held:
                self._tell(ref, device, before.get(device), now.get(device))

    def _tell(self, ref: ClaimRef, device: str, before: Fault | None, now: Fault | None) -> None:
        card = f"Card {device} of claim {ref.name} on node {self._node_name}"
        if now is not None:
            text = f"{card} has a fault, {now.reason}: {now.message} Programs that use it may fail."
            self._events.card_changed(ref, reason=UNHEALTHY, text=text, warning=True, of=device)
        elif before is not None:
            text = f"{card} is well again; it had {before.reason} since {before.since}."
            self._events.card_changed(ref, reason=RECOVERED, text=text, warning=False, of=device)
