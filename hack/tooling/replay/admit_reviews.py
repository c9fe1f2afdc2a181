"""AdmissionReviews with all the fields that an API server sends, for whoever asks the webhooks' code."""

from __future__ import annotations

from typing import Any

from driver.kube.resources import (
    ACCELERATOR_POLICIES,
    ACCELERATOR_QUOTAS,
    DEVICE_CLASSES,
    PODS,
    RESOURCE_CLAIM_TEMPLATES,
    RESOURCE_CLAIMS,
)

JSON = dict[str, Any]

KINDS = {
    one.kind: one
    for one in (
        PODS,
        RESOURCE_CLAIMS,
        RESOURCE_CLAIM_TEMPLATES,
        DEVICE_CLASSES,
        ACCELERATOR_POLICIES,
        ACCELERATOR_QUOTAS,
    )
}
"""Kinds that the webhooks are asked about."""


def review(kind: str, found: JSON | None, *, namespace: str = "apps", uid: str = "r-1", **more: Any) -> JSON:
    """A review of an object that is made.

    Args:
        kind: The object's kind.
        found: The object; None where there is none, as when one is deleted.
        namespace: Where it is to be.
        uid: UID of the review.
        more: Further fields of the request, or others than these.
    """
    resource = KINDS[kind]
    names = {"group": resource.group, "version": resource.version}
    made = {**names, "kind": kind}
    asked = {**names, "resource": resource.plural}
    return {
        "kind": "AdmissionReview",
        "apiVersion": "admission.k8s.io/v1",
        "request": {
            "uid": uid,
            "kind": made,
            "resource": asked,
            "requestKind": made,
            "requestResource": asked,
            "namespace": namespace,
            "operation": "CREATE",
            "userInfo": {"username": "jane", "groups": ["system:authenticated"]},
            "object": found,
            "oldObject": None,
            "dryRun": False,
            "options": {"kind": "CreateOptions", "apiVersion": "meta.k8s.io/v1"},
            **more,
        },
    }
