"""Allocation with the meaning of kube-scheduler's structured allocator.

Purpose: the only place in the tree that matches claims with devices and compares amounts with what is
free.

Flow: `Snapshot.build` from v1 JSON, then `allocate` for a pod's claims on a node gives a `Decision`: v1
AllocationResults, or a `Refusal` with the first reason against each device.

Limits: list-typed attributes in constraints, fractional steps and what came after 1.36 in claims are
refused by name. Where 1.36 would over-commit, ours does not follow.
"""

from driver.allocation.allocator import allocate
from driver.allocation.decision import Decision, DeviceRefusal, Refusal
from driver.allocation.models import DeviceID
from driver.allocation.preference import Preference
from driver.allocation.snapshot import InUse, Snapshot

__all__ = ["Decision", "DeviceID", "DeviceRefusal", "InUse", "Preference", "Refusal", "Snapshot", "allocate"]
