"""Allocation over a whole cluster.

Purpose: which node can serve a pod's claims, among thousands, in less time than asking one of them takes
elsewhere; exactly the answers that asking each node would give.

Flow: `Cluster.build` from a `Snapshot` and the allocated claims; `first` and `answers`; `with_claims` and
`with_slices` follow what happens.

Limits: see `driver.allocation.cluster.cluster`.
"""

from driver.allocation.cluster.answers import Answers
from driver.allocation.cluster.cluster import Cluster

__all__ = ["Answers", "Cluster"]
