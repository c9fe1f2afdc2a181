"""Nodes that kube-scheduler refused for a pod after we had allocated there.

Purpose: kube-scheduler takes an allocation back where the pod cannot use the node; an allocator that gives
the same answer again would go round in circles with it.

Flow: `note` when an allocation of ours was taken back; `nodes` are left out until their time is over, each
time longer.

Limits: kept in memory; another leader finds out anew. Forgotten with the pod, or `cap_s` after the last node
may be tried again.
"""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(slots=True)
class _Refusals:
    times: int = 0
    until: dict[str, float] = field(default_factory=dict)


class RefusedNodes:
    """Which nodes not to try again yet, by pod."""

    def __init__(self, *, first_s: float = 30.0, cap_s: float = 900.0) -> None:
        """Starts empty.

        Args:
            first_s: How long a node is left out after the first refusal of a pod; doubled each time.
            cap_s: The longest such time.
        """
        self._first_s = first_s
        self._cap_s = cap_s
        self._by_pod: dict[str, _Refusals] = {}

    def note(self, pod: str, node: str, *, now: float) -> float:
        """Remembers a refusal; for how many seconds the node is left out."""
        # Nobody says that a pod is gone whose UID is known here alone.
        self._by_pod = {
            one: refusals
            for one, refusals in self._by_pod.items()
            if max(refusals.until.values(), default=now) + self._cap_s > now
        }
        known = self._by_pod.setdefault(pod, _Refusals())
        wait_s = float(min(self._first_s * 2**known.times, self._cap_s))
        known.times += 1
        known.until[node] = now + wait_s
        return wait_s

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
