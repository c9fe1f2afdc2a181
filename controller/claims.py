"""What several parts of the controller read of a ResourceClaim.

Limits: pure; of JSON as the API server stores it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from driver.kube.client import JSON

HELD = ("request", "driver", "pool", "device", "shareID", "consumedCapacity", "adminAccess")
"""Fields of a result that say what it holds."""


def named(document: JSON) -> JSON:
    """The metadata by which an object is known."""
    metadata = document["metadata"]
    return {key: metadata[key] for key in ("name", "namespace", "uid") if key in metadata}


def class_names(devices: Mapping[str, Any]) -> list[str]:
    """The classes that `spec.devices` asks for, in order, one for each request or sub-request."""
    names: list[str] = []
    for request in devices.get("requests") or []:
        options = [request.get("exactly") or {}, *(request.get("firstAvailable") or [])]
        names += [str(option["deviceClassName"]) for option in options if option.get("deviceClassName")]
    return names
