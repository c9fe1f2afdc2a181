"""What the API server asks of admission, and what it is answered: AdmissionReview, admission.k8s.io/v1.

Flow: `read` takes the decoded document and gives a `Request`; whoever decides fills a `Reply`; `written`
makes the document that answers it, with the patch as a list (`encoded` makes base64 of it for the wire).

Limits: decides nothing. Warnings are cut to what API servers keep: 256 characters each, 4096 in all. What is
of another shape than API servers send is no request: the webhook's failure policy, or whoever reads answers,
decides then, and nothing is allowed unlooked at.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from driver.errors import DragomanError
from driver.kube.client import JSON
from driver.kube.resources import ACCELERATOR_POLICIES, RESOURCE_CLAIMS

_API_VERSION = "admission.k8s.io/v1"
INVALID, FORBIDDEN, TOO_LARGE, TOO_MANY = 422, 403, 413, 429
_REASONS = {
    INVALID: "Invalid",
    FORBIDDEN: "Forbidden",
    TOO_LARGE: "RequestEntityTooLarge",
    TOO_MANY: "TooManyRequests",
}
_GROUPS = ("", RESOURCE_CLAIMS.group, ACCELERATOR_POLICIES.group)
_WARNING_CHARACTERS = 256
_WARNINGS_CHARACTERS = 4096


@dataclass(frozen=True, kw_only=True)
class Request:
    """A question of the API server.

    Attributes:
        uid: Of the request; it is the same when this webhook is asked about one object again.
        kind: Kind of the object.
        operation: CREATE, UPDATE, DELETE or CONNECT.
        namespace: Of the object; "" for cluster-scoped ones.
        name: Of the object; "" where the API server makes it up later.
        subresource: Part of the object that is asked about, such as `status`; "" for the object itself.
        object: The object as it would be stored; None for DELETE.
        old: The object as it is stored; None for CREATE.
        dry_run: Whether nothing may be changed anywhere.
    """

    uid: str
    kind: str
    operation: str
    namespace: str = ""
    name: str = ""
    subresource: str = ""
    object: Mapping[str, Any] | None = None
    old: Mapping[str, Any] | None = None
    dry_run: bool = False


@dataclass(kw_only=True)
class Reply:
    """An answer, as it comes about.

    Attributes:
        patch: Operations of RFC 6902 on the object as it was sent.
        warnings: Sentences shown to whoever sent the object.
        refusals: Why it must not be stored; empty if it may.
        code: HTTP status of a refusal.
    """

    patch: list[JSON] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    refusals: list[DragomanError] = field(default_factory=list)
    code: int = INVALID

    @property
    def allowed(self) -> bool:
        """Whether the object may be stored."""
        return not self.refusals

    def refuse(self, *refusals: DragomanError, code: int = INVALID) -> None:
        """Says that the object must not be stored, and why."""
        self.refusals += refusals
        self.code = code


def read(review: Mapping[str, Any]) -> Request:
    """Reads an AdmissionReview.

    Raises:
        ValueError: It is none, or has no request that could be answered.
    """
    request = review.get("request") if isinstance(review, Mapping) else None
    if request is None or review.get("kind") != "AdmissionReview" or not isinstance(request, Mapping):
        raise ValueError("This is no AdmissionReview with a request.")
    if review.get("apiVersion", _API_VERSION) != _API_VERSION:
        raise ValueError(f"This is no AdmissionReview of {_API_VERSION}.")
    uid, operation, dry_run = request.get("uid"), str(request.get("operation") or ""), request.get("dryRun")
    if not uid or not isinstance(uid, str):
        raise ValueError("Its request has no uid, so no answer would be taken.")
    if not isinstance(dry_run, bool | None):
        raise ValueError("Its dryRun is neither true nor false.")  # noqa: TRY004 - like all that is none
    found = _object(request, "object")
    if found is None and operation in ("CREATE", "UPDATE"):
        raise ValueError("Its object is missing.")
    return Request(
        uid=uid,
        kind=_kind(_object(request, "kind") or {}),
        operation=operation,
        namespace=str(request.get("namespace") or ""),
        name=str(request.get("name") or ""),
        subresource=str(request.get("subResource") or ""),
        object=found,
        old=_object(request, "oldObject"),
        dry_run=dry_run is True,
    )


def written(request: Request, reply: Reply) -> JSON:
    """The AdmissionReview that answers a request; its patch is a list, see `encoded`."""
    response: JSON = {"uid": request.uid, "allowed": reply.allowed}
    if not reply.allowed:
        response["status"] = _status(reply)
    elif reply.patch:
        response["patch"] = reply.patch
    warnings = _cut(reply.warnings)
    if warnings:
        response["warnings"] = warnings
    return {"apiVersion": _API_VERSION, "kind": "AdmissionReview", "response": response}


def encoded(review: JSON) -> JSON:
    """The answer as it is sent: the patch is base64 of JSON there."""
    response = review["response"]
    if "patch" not in response:
        return review
    text = base64.b64encode(json.dumps(response["patch"]).encode()).decode()
    return {**review, "response": {**response, "patch": text, "patchType": "JSONPatch"}}


def _status(reply: Reply) -> JSON:
    causes = [
        {"reason": one.reason, "field": one.field, "message": str(one)} for one in reply.refusals if one.field
    ]
    status: JSON = {
        "code": reply.code,
        "reason": _REASONS[reply.code],
        "message": "; ".join(f"{one.reason}: {one}" for one in reply.refusals),
    }
    if causes:
        status["details"] = {"causes": causes}
    return status


def _cut(warnings: Sequence[str]) -> list[str]:
    found: list[str] = []
    left = _WARNINGS_CHARACTERS
    for one in dict.fromkeys(warnings):
        text = one if len(one) <= _WARNING_CHARACTERS else one[: _WARNING_CHARACTERS - 1] + "…"
        if len(text) > left:
            break
        found.append(text)
        left -= len(text)
    return found


def _kind(asked: Mapping[str, Any]) -> str:
    """The kind; "" for one of a group that has none of ours, whatever it is called there."""
    return str(asked.get("kind") or "") if str(asked.get("group") or "") in _GROUPS else ""


def _object(request: Mapping[str, Any], name: str) -> Mapping[str, Any] | None:
    found = request.get(name)
    if found is not None and not isinstance(found, Mapping):
        raise ValueError(f"Its {name} is no object.")
    return found
