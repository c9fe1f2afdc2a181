"""What admission does to DeviceClasses: the extended resource that one stands for survives old API servers.

Purpose: API servers with DRAExtendedResource off (1.34 and 1.35 by default) drop `extendedResourceName`. So
in mode controller it is written into an annotation, which counts where the field is not
(`controller.extended`). The annotation follows its class: another name replaces it, and it goes when the
class gives its name up.

Flow: `carried_over` compares the class as it was sent with what is stored.

When a class gives its name up: where the server keeps the field, it was stored and is not sent any more.
Where it was dropped, no stored class has it, and an update without it says nothing by that: most updates
write back what they read. Then it counts what the author applied: kubectl notes it in an annotation, and a
server-side apply in `managedFields`, both also of what the server dropped.

Limits: pure. A name that Helm 3 or a patch takes out of a class that never had it stored leaves no trace.
What somebody writes into the annotation by hand stands.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from controller.admission.patching import annotated, annotation_removed
from controller.extended import CARRIED
from driver.kube.client import JSON

_LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"
_FIELD = "extendedResourceName"


def carried_over(found: Mapping[str, Any], *, old: Mapping[str, Any] | None, carries: bool) -> list[JSON]:
    """What is to be changed in a DeviceClass.

    Args:
        found: The class as it was sent.
        old: The class as it is stored; None where it is created.
        carries: Whether the name is carried over; if not, only an annotation that is there is kept true.

    Returns:
        Operations of RFC 6902.

    Raises:
        AttributeError: It has a shape that no API server would store.
    """
    said = (found.get("spec") or {}).get(_FIELD)
    carried = _annotations(found).get(CARRIED)
    if said:
        wrong = said != carried if carries else carried and said != carried
        return annotated(found, CARRIED, str(said), path="/metadata") if wrong else []
    if not carried or old is None or carried != _annotations(old).get(CARRIED):
        return []
    if (old.get("spec") or {}).get(_FIELD) or _given_up(found, old):
        return [annotation_removed(CARRIED, path="/metadata")]
    return []


def _given_up(found: Mapping[str, Any], old: Mapping[str, Any]) -> bool:
    """Whether whoever applied the name applied the class without it now."""
    before, now = (_annotations(one).get(_LAST_APPLIED) for one in (old, found))
    if _names(before) is True and _names(now) is False:
        # With another author's word for it the name stands.
        return not any(names for _, names in _appliers(found))
    appliers = dict(_appliers(found))
    if any(appliers.values()):
        return False
    return any(names and manager in appliers for manager, names in _appliers(old))


def _names(applied: Any) -> bool | None:
    """Whether a configuration that kubectl applied has the name; None where that cannot be told."""
    try:
        return bool((json.loads(applied).get("spec") or {}).get(_FIELD))
    except (ValueError, TypeError, AttributeError, RecursionError):
        return None


def _appliers(document: Mapping[str, Any]) -> Iterator[tuple[str, bool]]:
    """Who applied the class on the server's side, and whether with the name."""
    for one in (document.get("metadata") or {}).get("managedFields") or []:
        if one.get("operation") == "Apply" and not one.get("subresource"):
            fields = (one.get("fieldsV1") or {}).get("f:spec") or {}
            yield str(one.get("manager")), f"f:{_FIELD}" in fields


def _annotations(document: Mapping[str, Any]) -> Mapping[str, Any]:
    return (document.get("metadata") or {}).get("annotations") or {}
