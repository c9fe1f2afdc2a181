"""Objects of `resource.k8s.io/v1beta1` as those of v1.

Purpose: API servers convert an object before they send it, so that webhooks of v1 see v1 alone; a replay gets
it as somebody wrote it. v1beta2 has the shape of v1.

Flow: `as_v1` takes any object and gives it as it would be sent: fields of a request stand under `exactly`,
those of a device no longer under `basic`.

Limits: shapes alone are changed, and of objects that say to be of v1beta1 alone; what cannot be converted
stays, and is judged as it is. Patches touch nothing that differs between the versions.
"""

from __future__ import annotations

from typing import Any

JSON = dict[str, Any]

_FLAT = "resource.k8s.io/v1beta1"
_STAY = ("name", "firstAvailable", "exactly")


def as_v1(found: JSON) -> JSON:
    """The object as an API server would send it to a webhook of v1."""
    if found.get("apiVersion") != _FLAT:
        return found
    spec = found.get("spec")
    if not isinstance(spec, dict):
        return found
    kind = found.get("kind")
    if kind == "ResourceClaim":
        spec = _claim(spec)
    elif kind == "ResourceClaimTemplate" and isinstance(spec.get("spec"), dict):
        spec = {**spec, "spec": _claim(spec["spec"])}
    elif kind == "ResourceSlice" and isinstance(spec.get("devices"), list):
        spec = {**spec, "devices": [_device(one) for one in spec["devices"]]}
    return {**found, "apiVersion": "resource.k8s.io/v1", "spec": spec}


def _claim(spec: JSON) -> JSON:
    devices = spec.get("devices")
    if not isinstance(devices, dict) or not isinstance(devices.get("requests"), list):
        return spec
    return {**spec, "devices": {**devices, "requests": [_request(one) for one in devices["requests"]]}}


def _request(one: Any) -> Any:
    if not isinstance(one, dict) or "exactly" in one or "firstAvailable" in one:
        return one
    exactly = {name: value for name, value in one.items() if name not in _STAY}
    return {**{name: one[name] for name in _STAY if name in one}, "exactly": exactly}


def _device(one: Any) -> Any:
    if not isinstance(one, dict) or not isinstance(one.get("basic"), dict):
        return one
    return {**{name: value for name, value in one.items() if name != "basic"}, **one["basic"]}
