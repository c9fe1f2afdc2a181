"""What is wrong with an object: the one function that the webhook calls.

Flow: `validate` -> the check of the object's kind -> `Findings`.

Limits: whatever the object is, an answer comes, and within bounded time: an object that nests deeper than can
be read is refused as such.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from driver.validation.claims import check_claim
from driver.validation.classes import check_class
from driver.validation.errors import ObjectTooLargeError, ObjectUnreadableError
from driver.validation.facts import ClusterFacts
from driver.validation.findings import Findings, Notes
from driver.validation.policies import check_policy
from driver.validation.quotas import check_quota
from driver.validation.reading import mapping

__all__ = ["KINDS", "ClusterFacts", "Findings", "validate"]

_FROM_TEMPLATE = "resource.kubernetes.io/pod-claim-name"

KINDS = (
    "ResourceClaim",
    "ResourceClaimTemplate",
    "DeviceClass",
    "AcceleratorPolicy",
    "AcceleratorQuota",
)
"""Kinds that there can be findings about."""


def validate(
    kind: str,
    found: Mapping[str, Any],
    *,
    old: Mapping[str, Any] | None = None,
    facts: ClusterFacts,
) -> Findings:
    """Looks for what cannot work in an object.

    Args:
        kind: One of `KINDS`; there are no findings about any other.
        found: The object as it would be stored, whatever somebody made of it.
        old: What is stored of it; where its spec is the same nothing is found, so that what was stored before
            there was a rule can still be labelled and deleted.
        facts: The cluster.
    """
    notes = Notes()
    try:
        if kind in KINDS and not (old is not None and old.get("spec") == found.get("spec")):
            _check(kind, found, facts=facts, notes=notes)
    except (ObjectUnreadableError, ObjectTooLargeError) as odd:
        notes.refuse(odd)
    except RecursionError:
        notes.refuse(ObjectTooLargeError("It nests too deeply to be read.", field="spec"))
    return notes.findings()


def _check(kind: str, found: Mapping[str, Any], *, facts: ClusterFacts, notes: Notes) -> None:
    if kind == "DeviceClass":
        check_class(found, facts=facts, notes=notes)
    elif kind == "AcceleratorPolicy":
        check_policy(found, facts=facts, notes=notes)
    elif kind == "AcceleratorQuota":
        check_quota(found, facts=facts, notes=notes)
    else:
        template = kind == "ResourceClaimTemplate"
        holder = mapping(found, "spec", field="") if template else found
        outer = "spec" if template else ""
        field = "spec.spec" if template else "spec"
        devices = mapping(mapping(holder, "spec", field=outer), "devices", field=field)
        metadata = mapping(found, "metadata", field="")
        annotations = mapping(metadata, "annotations", field="metadata")
        check_claim(
            devices,
            field=f"{field}.devices",
            facts=facts,
            notes=notes,
            made=not template and _FROM_TEMPLATE in annotations,
        )
