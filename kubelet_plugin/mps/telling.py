"""Tells a claim that MPS lost its limits, or holds them again: its condition, and an Event."""

from __future__ import annotations

from kubelet_plugin.claim_status import ClaimStatusWriter
from kubelet_plugin.events import PodEvents
from kubelet_plugin.prepare.claims import ClaimRef


class LimitsTeller:
    """Implements `kubelet_plugin.mps.watch.Teller`."""

    def __init__(self, *, status: ClaimStatusWriter, events: PodEvents) -> None:
        self._status = status
        self._events = events

    def limits_changed(self, ref: ClaimRef, *, reason: str, text: str, warning: bool, of: str) -> None:
        """Has the status written anew, and an Event written on the claim's pods."""
        self._status.card_changed(ref)
        self._events.card_changed(ref, reason=reason, text=text, warning=warning, of=of)

    def condition_changed(self, ref: ClaimRef) -> None:
        """Has the status written anew."""
        self._status.card_changed(ref)
