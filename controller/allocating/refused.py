"""Nodes that kube-scheduler refused for a pod after we had allocated there.

Purpose: kube-scheduler takes an allocation back where the pod cannot use the node; an allocator that gives
the same answer again would go round in circles with it. But where pods of lower priority are in the way, it
takes the allocation back and ends these pods in the same breath (seen on 1.34.4): whoever then goes
elsewhere, or waits, has let them be ended in vain.

Flow: `note` when an allocation of ours was taken back; `first` is the node to be tried before all others: the
refused one once more at once, and the one that kube-scheduler nominated for as long as it does; `nodes` are
left out until their time is over, each time longer.

Limits: whether the cards are there again before kube-scheduler looks once more is a race, because it takes
them back at each look until the pods that it ends are gone. Where the race is lost these pods were ended in
vain, so such a node is left out for `cap_s` at once. Kept in memory; another leader finds out anew. Forgotten
with the pod, or `cap_s` after the last node may be tried again.
"""

from __future__ import annotations

from dataclasses import dataclass, field

_TRIES = 1
_TRIES_NOMINATED = 10
"""So often in a row is a node tried again at once. kube-scheduler comes back at once as well, whenever
nothing else waits for it, so more of them would be a storm."""


@dataclass(slots=True)
class _Refusals:
    times: int = 0
    until: dict[str, float] = field(default_factory=dict)
    node: str = ""
    in_a_row: int = 0
    at: float = 0.0
    preempted: bool = False


class RefusedNodes:
    """Which nodes not to try again yet, by pod."""

    def __init__(self, *, first_s: float = 30.0, cap_s: float = 900.0) -> None:
        """Starts empty.

        Args:
            first_s: How long a node is left out after a pod was refused there twice; doubled each time.
            cap_s: The longest such time.
        """
        self._first_s = first_s
        self._cap_s = cap_s
        self._by_pod: dict[str, _Refusals] = {}

    def note(self, pod: str, node: str, *, now: float, nominated: str = "") -> float:
        """Remembers a refusal.

        Args:
            pod: UID of the pod.
            node: The node.
            now: The loop's time.
            nominated: The node that kube-scheduler nominated for the pod.

        Returns:
            For how many seconds the node is left out; 0 if it is to be tried again at once.
        """
        # Nobody says that a pod is gone whose UID is known here alone.
        self._by_pod = {
            one: refusals
            for one, refusals in self._by_pod.items()
            if max(refusals.until.values(), default=refusals.at) + self._cap_s > now
        }
        known = self._by_pod.setdefault(pod, _Refusals())
        if known.node != node:
            known.in_a_row, known.preempted = 0, False
        known.in_a_row += 1
        known.node, known.at = node, now
        known.preempted = known.preempted or node == nominated
        if known.in_a_row <= (_TRIES_NOMINATED if node == nominated else _TRIES):
            return 0.0
        wait_s = self._cap_s if known.preempted else min(self._first_s * 2**known.times, self._cap_s)
        known.times += 1
        known.until[node] = now + wait_s
        known.node, known.preempted = "", False
        return wait_s

    def nominated(self, pod: str, node: str, *, now: float) -> None:
        """Remembers that kube-scheduler nominated a node; it may have been for a moment only."""
        known = self._by_pod.get(pod)
        if known is None:
            return
        if known.node == node:
            known.preempted = True
        elif known.until.get(node, now) > now:
            # The race was lost before this was seen.
            known.until[node] = max(known.until[node], now + self._cap_s)

    def first(self, pod: str, *, now: float, nominated: str = "") -> str:
        """The node to be tried before all others, "" if there is none."""
        known = self._by_pod.get(pod)
        if known is None:
            return nominated
        if nominated and known.until.get(nominated, now) <= now:
            return nominated
        return known.node

    def pass_over(self, pod: str) -> None:
        """The cards of the node that was to be tried first do not do any more."""
        known = self._by_pod.get(pod)
        if known is not None:
            known.node = ""

    def nodes(self, pod: str, *, now: float) -> frozenset[str]:
        """The nodes that are left out now."""
        known = self._by_pod.get(pod)
        if known is None:
            return frozenset()
        return frozenset(node for node, until in known.until.items() if until > now)

    def next_end(self, pod: str, *, now: float) -> float | None:
        """Seconds until the next node may be tried again; None if none is left out."""
        known = self._by_pod.get(pod)
        left = [until - now for until in known.until.values() if until > now] if known else []
        return min(left, default=None)

    def forget(self, pod: str) -> None:
        """Forgets a pod."""
        self._by_pod.pop(pod, None)
