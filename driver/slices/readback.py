"""Fields that the API server dropped without a word.

Source of the rules: a field whose feature gate is off is removed on create, with status 201 and no warning
(seen on 1.34.4: `allowMultipleAllocations` and `requestPolicy`). The only remedy is to read back every write.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

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
    """The fields of `sent` that `returned` lacks; of a lost subtree only its root is named.

    `false`, empty texts, lists and objects may be left out by the server without losing anything.
    """
    return tuple(DroppedField(path=path, gate=_gate(path)) for path in _lost(sent, returned, ""))


def _lost(sent: Any, returned: Any, path: str) -> Iterator[str]:
    if isinstance(sent, Mapping):
        got = returned if isinstance(returned, Mapping) else {}
        for key, value in sent.items():
            below = f"{path}.{key}" if path else str(key)
            if _nothing(value):
                continue
            if key not in got:
                yield below
            else:
                yield from _lost(value, got[key], below)
    elif isinstance(sent, Sequence) and not isinstance(sent, str):
        items = returned if isinstance(returned, Sequence) else ()
        for index, value in enumerate(sent):
            below = f"{path}[{index}]"
            if index < len(items):
                yield from _lost(value, items[index], below)
            elif not _nothing(value):
                yield below


def _nothing(value: Any) -> bool:
    return value is None or value is False or (isinstance(value, Mapping | list | str) and not value)


def _gate(path: str) -> str:
    plain = "".join(part.partition("]")[2] if "]" in part else part for part in path.split("["))
    if plain == _CLAIM_DEVICES:
        return "DRAResourceClaimDeviceStatus"
    if any(plain.endswith(place.replace("[]", "")) for place in _CLAIM_CAPACITY):
        return _CONSUMABLE
    return _GATES.get(plain.rpartition(".")[2], "")
