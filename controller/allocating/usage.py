"""What pods take of each node, kept up to date.

Flow: `note` is a handler of the pods' informer; `expect` counts a pod whose claims are allocated for a node,
until it is bound there or gone; `free` subtracts from what a Node has.

Limits: pods that are done, or wait without an allocation of ours, take nothing; nor do those that wait for a
claim which is allocated for a node that they do not fit on.
"""

from __future__ import annotations

from controller.allocating.pod_fit import Amounts
from controller.allocating.views import PodView


class NodeUsage:
    """Sums by node."""

    def __init__(self) -> None:
        self._taken: dict[str, Amounts] = {}
        self._expected: dict[str, tuple[str, Amounts]] = {}
        # What `free` said, and of which amounts: it is asked of every node for every pod.
        self._free: dict[str, tuple[Amounts, Amounts]] = {}

    def expect(self, key: str, *, node: str, asks: Amounts) -> None:
        """Counts a pod that will be bound to a node."""
        self.unexpect(key)
        self._expected[key] = (node, asks)
        self._add(node, asks)

    def expected(self, key: str) -> bool:
        """Whether a pod is counted that is not bound yet."""
        return key in self._expected

    def unexpect(self, key: str) -> None:
        """Does not count a pod any more that is bound, gone, or will not come."""
        expected = self._expected.pop(key, None)
        if expected is not None:
            node, asks = expected
            self._add(node, Amounts() - asks)

    def expect_nobody(self) -> None:
        """Forgets all that were expected."""
        for key in list(self._expected):
            self.unexpect(key)

    def note(self, key: str, before: PodView | None, after: PodView | None) -> None:
        """Takes over a change of a pod."""
        if after is None or after.node or after.gone:
            self.unexpect(key)
        if before is not None and before.node:
            self._add(before.node, Amounts() - before.asks)
        if after is not None and after.node:
            self._add(after.node, after.asks)

    def _add(self, node: str, amounts: Amounts) -> None:
        total = self._taken.get(node, Amounts()) + amounts
        if total == Amounts():
            self._taken.pop(node, None)
        else:
            self._taken[node] = total
        self._free.pop(node, None)

    def forget(self, node: str) -> None:
        """Forgets what was said of a node that is gone; what pods take of it stays known."""
        self._free.pop(node, None)

    def free(self, node: str, allocatable: Amounts) -> Amounts:
        """What pods leave of a node."""
        known = self._free.get(node)
        if known is None or known[0] is not allocatable:
            known = self._free[node] = (allocatable, allocatable - self._taken.get(node, Amounts()))
        return known[1]
