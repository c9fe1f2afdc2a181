"""What admission adds to ResourceClaims and ResourceClaimTemplates.

Purpose: on API servers that drop `capacity` from requests (1.34 and 1.35 by default), the amounts survive in
a ShareConfig, and a stamp says that the object was seen (`driver.api.asked`). That is so whatever the server
was seen to do: while servers of two releases run side by side, nobody says which of them asks. 1.35 refuses a
constraint whose `distinctAttribute` it dropped; so such a constraint is carried over and taken out, but only
where the server is not seen to keep amounts.

Limits: beside that, adds to an object and never changes what is there. Objects of other drivers' classes get
nothing. A claim that Kubernetes made from a template is not stamped here: its amounts were lost, or carried
over, when the template was stored.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from controller.admission.knowledge import Knowledge
from controller.admission.patching import annotated, removed
from driver.api.asked import STAMP, carry_over, other_constraints
from driver.api.share_allocation import refuse_in_spec
from driver.kube.client import JSON

CLAIM, TEMPLATE, CLASS = "ResourceClaim", "ResourceClaimTemplate", "DeviceClass"
_FROM_TEMPLATE = "resource.kubernetes.io/pod-claim-name"


def additions(kind: str, found: Mapping[str, Any], known: Knowledge) -> list[JSON]:
    """What is to be added to a claim or template.

    Returns:
        Operations of RFC 6902.

    Raises:
        ConfigError: A ShareConfig does not decode, or there would be more entries than the API allows.
        AttributeError: It has a shape that no API server would store.
        TypeError: The same.
    """
    holder = found if kind == CLAIM else found.get("spec") or {}
    path = "" if kind == CLAIM else "/spec"
    devices = (holder.get("spec") or {}).get("devices") or {}
    if not asks_for_ours(devices, known):
        return []
    config = devices.get("config") or []
    refuse_in_spec(config, field=f"{path.replace('/', '')}.spec.devices.config".removeprefix("."))
    annotations = (holder.get("metadata") or {}).get("annotations") or {}
    # The pod's controller made it, from a template that has been through here or has not.
    generated = kind == CLAIM and _FROM_TEMPLATE in annotations
    if generated or not known.stamps:
        return []
    kept = known.amounts_kept() is True
    entries, stamp = carry_over(devices, is_ours=known.is_ours, kept=kept)
    patch: list[JSON] = []
    if entries:
        patch.append({"op": "add", "path": f"{path}/spec/devices/config", "value": [*config, *entries]})
    others = other_constraints(devices)
    if not kept and len(others) < len(devices.get("constraints") or []):
        where = f"{path}/spec/devices/constraints"
        patch.append({"op": "replace", "path": where, "value": others} if others else removed(where))
    if annotations.get(STAMP) != stamp:
        patch += annotated(holder, STAMP, stamp, path=f"{path}/metadata")
    return patch


def asks_for_ours(devices: Mapping[str, Any], known: Knowledge) -> bool:
    """Whether any request in `spec.devices` names a class of ours."""
    for one in devices.get("requests") or []:
        for option in (one.get("exactly") or {}, *(one.get("firstAvailable") or [])):
            if known.is_ours(str(option.get("deviceClassName") or "")):
                return True
    return False
