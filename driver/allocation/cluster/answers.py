"""What a pod's claims come to on each node of a cluster.

Purpose: which nodes can serve them, at once; and for any one node exactly what the allocator says there.

Flow: `Cluster.answers` makes it; `feasible` is known then, `decision` asks the allocator when somebody wants
to know.

Limits: where deciding about groups of equal nodes takes too many steps in all, the rest is `undecided`;
`decision` still answers for each of them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from driver.allocation.decision import Decision


@dataclass(frozen=True, slots=True)
class Answers:
    """The answers of all nodes.

    Attributes:
        feasible: Names of the nodes that can serve the claims, in order.
        undecided: Names of the nodes that it would have taken too long to decide about.
    """

    feasible: tuple[str, ...]
    undecided: tuple[str, ...]
    _decide: Callable[[str], Decision]

    def decision(self, node: str) -> Decision:
        """Give what the allocator says on a node: results, or a refusal with its reasons."""
        return self._decide(node)
