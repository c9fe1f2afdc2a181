"""Answers AdmissionReviews about ResourceClaims and ResourceClaimTemplates.

Purpose: on API servers that drop `capacity` from requests (1.34 and 1.35 by default), the amounts survive in
a ShareConfig, and a stamp says that the object was seen (`driver.api.asked`).

Flow: `answer` takes the decoded request and gives the decoded answer; it adds to an object and never changes
what is there, by a JSON patch of the added parts alone.

Limits: objects of other drivers' classes pass unchanged. A claim that Kubernetes made from a template is not
stamped here: its amounts were lost, or carried over, when the template was stored.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from driver.api.asked import STAMP, carry_over
from driver.api.share_allocation import refuse_in_spec
from driver.errors import DragomanError
from driver.kube.client import JSON

_FROM_TEMPLATE = "resource.kubernetes.io/pod-claim-name"
_KINDS = ("ResourceClaim", "ResourceClaimTemplate")


@dataclass(frozen=True, kw_only=True)
class Knowledge:
    """What an answer depends on.

    Attributes:
        is_ours: Whether a DeviceClass of this name picks only devices of our driver.
        amounts_kept: Whether the API server keeps the amounts that claims ask for; None if not known yet,
            which is taken for no.
    """

    is_ours: Callable[[str], bool]
    amounts_kept: Callable[[], bool | None]


def answer(review: Mapping[str, Any], known: Knowledge) -> JSON:
    """Answers an AdmissionReview (admission.k8s.io/v1).

    Raises:
        ValueError: It is none.
    """
    request = review.get("request") if isinstance(review, Mapping) else None
    if request is None or review.get("kind") != "AdmissionReview" or not isinstance(request, Mapping):
        raise ValueError("This is no AdmissionReview with a request.")
    response: JSON = {"uid": str(request.get("uid") or ""), "allowed": True}
    try:
        patch = _patch(request, known)
    except DragomanError as refused:
        response["allowed"] = False
        response["status"] = {
            "code": 422,
            "reason": "Invalid",
            "message": f"{refused.reason}: {refused}",
        }
    except (AttributeError, TypeError) as odd:
        # The API server sends no such object, but it is not the only one that can send.
        raise ValueError("Its object is not what the API server would store.") from odd
    else:
        if patch:
            response["patch"] = patch
    return {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": response}


def _patch(request: Mapping[str, Any], known: Knowledge) -> list[JSON]:
    kind = (request.get("kind") or {}).get("kind")
    found = request.get("object")
    if kind not in _KINDS or request.get("operation") != "CREATE" or not isinstance(found, Mapping):
        return []
    holder = found if kind == "ResourceClaim" else found.get("spec") or {}
    path = "" if kind == "ResourceClaim" else "/spec"
    devices = (holder.get("spec") or {}).get("devices") or {}
    if not _asks_for_ours(devices, known):
        return []
    config = devices.get("config") or []
    refuse_in_spec(config, field=f"{path.replace('/', '')}.spec.devices.config".removeprefix("."))
    annotations = (holder.get("metadata") or {}).get("annotations") or {}
    # The pod's controller made it, from a template that has been through here or has not.
    generated = kind == "ResourceClaim" and _FROM_TEMPLATE in annotations
    if known.amounts_kept() is True or generated:
        return []
    entries, stamp = carry_over(devices, is_ours=known.is_ours)
    patch: list[JSON] = []
    if entries:
        patch.append({"op": "add", "path": f"{path}/spec/devices/config", "value": [*config, *entries]})
    if annotations.get(STAMP) != stamp:
        patch += _stamped(holder, stamp, path=f"{path}/metadata")
    return patch


def _stamped(holder: Mapping[str, Any], stamp: str, *, path: str) -> list[JSON]:
    metadata = holder.get("metadata")
    if not metadata:
        return [{"op": "add", "path": path, "value": {"annotations": {STAMP: stamp}}}]
    if not metadata.get("annotations"):
        return [{"op": "add", "path": f"{path}/annotations", "value": {STAMP: stamp}}]
    name = STAMP.replace("~", "~0").replace("/", "~1")
    return [{"op": "add", "path": f"{path}/annotations/{name}", "value": stamp}]


def _asks_for_ours(devices: Mapping[str, Any], known: Knowledge) -> bool:
    for one in devices.get("requests") or []:
        for option in (one.get("exactly") or {}, *(one.get("firstAvailable") or [])):
            if known.is_ours(str(option.get("deviceClassName") or "")):
                return True
    return False
