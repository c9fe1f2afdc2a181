"""Fields that the API server dropped without a word, and the feature gates that are off.

Flow: `driver.read_back` finds the fields; here each is traced to its gate.

Source of the rules: the API types of resource.k8s.io/v1. What a gate that is off guards is removed on create
(seen on 1.34.4: `allowMultipleAllocations` and `requestPolicy`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from driver.read_back import lost_fields

_CONSUMABLE = "DRAConsumableCapacity"
_PARTITIONABLE = "DRAPartitionableDevices"
_TAINTS = "DRADeviceTaints"
_BINDING = "DRADeviceBindingConditions"

_GATES: Mapping[str, str] = {
    "allowMultipleAllocations": _CONSUMABLE,
    "requestPolicy": _CONSUMABLE,
    "distinctAttribute": _CONSUMABLE,
    "shareID": _CONSUMABLE,
    "consumedCapacity": _CONSUMABLE,
    "sharedCounters": _PARTITIONABLE,
    "consumesCounters": _PARTITIONABLE,
    "perDeviceNodeSelection": _PARTITIONABLE,
    "taints": _TAINTS,
    "tolerations": _TAINTS,
    "bindsToNode": _BINDING,
    "bindingConditions": _BINDING,
    "bindingFailureConditions": _BINDING,
    "extendedResourceName": "DRAExtendedResource",
    "adminAccess": "DRAAdminAccess",
    "firstAvailable": "DRAPrioritizedList",
}
_CLAIM_CAPACITY = ("exactly.capacity", "firstAvailable[].capacity")
_CLAIM_DEVICES = "status.devices"


@dataclass(frozen=True, kw_only=True)
class DroppedField:
    """A field that was sent and not stored.

    Attributes:
        path: Where it stood, as a Kubernetes user would write it.
        gate: Feature gate that is probably off; "" if none is known for this field.
    """

    path: str
    gate: str

    def __str__(self) -> str:
        why = f"feature gate {self.gate} is off" if self.gate else "no feature gate is known for it"
        return f"{self.path} ({why})"


def dropped_fields(sent: Mapping[str, Any], returned: Mapping[str, Any]) -> tuple[DroppedField, ...]:
    """The fields of `sent` that `returned` lacks; of a lost subtree only its root is named."""
    return tuple(DroppedField(path=path, gate=_gate(path)) for path in lost_fields(sent, returned))


def _gate(path: str) -> str:
    plain = "".join(part.partition("]")[2] if "]" in part else part for part in path.split("["))
    if plain == _CLAIM_DEVICES:
        return "DRAResourceClaimDeviceStatus"
    if any(plain.endswith(place.replace("[]", "")) for place in _CLAIM_CAPACITY):
        return _CONSUMABLE
    return _GATES.get(plain.rpartition(".")[2], "")
