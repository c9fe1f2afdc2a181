"""Placement: which of the answers that fit is the best one.

Purpose: what kube-scheduler does not have for devices: packing, spreading, best fit over memory and cores
together, and devices of one claim close to each other.

Flow: `PlacementPolicy.parse` reads settings; `place` asks the allocator about nodes in the order that the
policy wishes, and on a node lets the policy order the devices.

Limits: a policy chooses among what the allocator finds feasible and never decides what is feasible; the one
exception is a topology that is *required*, which refuses by the reason `TopologyUnmet`. Without a policy the
answer is kube-scheduler's: the first fit in the order of names.
"""

from driver.allocation.placement.errors import TopologyUnmetError
from driver.allocation.placement.place import Ranking, place, rank_nodes
from driver.allocation.placement.policy import FIRST_FIT, PlacementPolicy, Strategy, Wish

__all__ = [
    "FIRST_FIT",
    "PlacementPolicy",
    "Ranking",
    "Strategy",
    "TopologyUnmetError",
    "Wish",
    "place",
    "rank_nodes",
]
