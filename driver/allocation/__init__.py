"""Allocation with the meaning of kube-scheduler's structured allocator.

Purpose: the only place in the tree that matches claims with devices and compares amounts with what is
free.

Flow: `Snapshot.build` from v1 JSON, then `allocate` for a pod's claims on a node gives a `Decision`: v1
AllocationResults, or a `Refusal` with the first reason against each device. Whoever asks of many nodes uses
`prepare`, `gather` and `decide`.

Limits: fields and features that came after 1.36 and are off in a stock cluster are refused by name. Where
1.36 would over-commit, ours does not follow.
"""

from driver.allocation.allocator import allocate, decide
from driver.allocation.attempt import foregone
from driver.allocation.claims import PreparedClaims, prepare
from driver.allocation.decision import Decision, DeviceRefusal, Refusal
from driver.allocation.fit import Verdicts
from driver.allocation.kinds import error_kind, node_only
from driver.allocation.models import DeviceID
from driver.allocation.pools import gather
from driver.allocation.preference import Preference
from driver.allocation.profile import Features, Profile
from driver.allocation.snapshot import InUse, Snapshot

__all__ = [
    "Decision",
    "DeviceID",
    "DeviceRefusal",
    "Features",
    "InUse",
    "Preference",
    "PreparedClaims",
    "Profile",
    "Refusal",
    "Snapshot",
    "Verdicts",
    "allocate",
    "decide",
    "error_kind",
    "foregone",
    "gather",
    "node_only",
    "prepare",
]
