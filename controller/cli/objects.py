"""A pod, its claims, and what was said about them, as they are in one namespace.

Flow: `look_at` reads what `explain` was asked about; `Subject` holds it.

Limits: at most `MAX_CLAIMS` claims; a pod has no more by the API's rules. What may not be read is noted, and
the rest is shown.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from controller.cli.reading import Reading
from driver.errors import InvalidInputError
from driver.kube.client import JSON, ForbiddenError
from driver.kube.resources import PODS, RESOURCE_CLAIMS, Resource

TEMPLATES = Resource(
    group="resource.k8s.io",
    version="v1",
    plural="resourceclaimtemplates",
    kind="ResourceClaimTemplate",
    namespaced=True,
)
CORE_EVENTS = Resource(group="", version="v1", plural="events", kind="Event", namespaced=True)
MAX_CLAIMS = 64
_ENTRY = "resource.kubernetes.io/pod-claim-name"  # PodResourceClaimAnnotation of the API
_OURS = "dragoman.dev/"
_SAID = {
    "FailedScheduling": ("default-scheduler", "karpenter"),
    "FailedPrepareDynamicResources": ("kubelet",),
    "FailedResourceClaimCreation": ("resource_claim",),
    "NotTriggerScaleUp": ("cluster-autoscaler",),
    "TriggeredScaleUp": ("cluster-autoscaler",),
}
"""Events of others that say what becomes of a pod that waits, and who writes them."""


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A claim as a pod names it.

    Attributes:
        entry: Its name in the pod, "" for a claim by itself or one for extended resources.
        name: Its own name, "" while it is not made.
        template: The template that it is made from, "" if none.
        claim: The claim; None if it does not exist or may not be read.
        forbidden: It may not be read.
        template_there: Whether its template exists; None if that is not known.
        unnamed: Name of the claim that was made for it all the same, where the pod's status does not name it.
    """

    entry: str
    name: str
    template: str = ""
    claim: JSON | None = None
    forbidden: bool = False
    template_there: bool | None = None
    unnamed: str = ""


@dataclass(frozen=True, kw_only=True)
class Subject:
    """What is explained.

    Attributes:
        kind: `Pod` or `ResourceClaim`.
        namespace: Its namespace.
        name: Its name.
        pod: The pod; for a claim the one that uses it and waits, None if there is none.
        users: For a claim, names of all pods that name it; None if they may not be listed.
        entries: The claims.
        events: What Dragoman, kube-scheduler, the kubelet and autoscalers said about them, the newest first.
    """

    kind: str
    namespace: str
    name: str
    pod: JSON | None
    entries: Sequence[Entry]
    users: Sequence[str] | None = None
    events: Sequence[JSON] = field(default_factory=tuple)


def parse_what(what: str) -> tuple[str, str]:
    """Kind and name of `pod/NAME` or `claim/NAME`.

    Raises:
        InvalidInputError: It is neither.
    """
    kind, slash, name = what.partition("/")
    kinds = {
        **dict.fromkeys(("pod", "pods", "po"), "Pod"),
        **dict.fromkeys(("claim", "claims", "resourceclaim", "resourceclaims"), "ResourceClaim"),
    }
    if not slash or kind.lower() not in kinds or not name or "/" in name:
        raise InvalidInputError(f"{what!r} is neither pod/NAME nor claim/NAME.", remedy="Write one of them.")
    return kinds[kind.lower()], name


async def look_at(reading: Reading, kind: str, name: str, *, namespace: str) -> Subject:
    """Reads a pod with its claims, or a claim.

    Raises:
        InvalidInputError: It does not exist.
        ForbiddenError: It may not be read.
    """
    if kind == "Pod":
        pod = await reading.one(PODS, name, namespace=namespace)
        if pod is None:
            raise _none("pod", name, namespace)
        entries = await asyncio.gather(
            *(_entry(reading, one, namespace) for one in entries_of(pod)[:MAX_CLAIMS])
        )
        if any(one.template_there for one in entries):
            made = await _made_for(reading, pod, namespace)
            entries = [
                replace(one, unnamed=made.get(one.entry, "")) if one.template_there else one
                for one in entries
            ]
        users = None
    else:
        claim = await reading.one(RESOURCE_CLAIMS, name, namespace=namespace)
        if claim is None:
            raise _none("ResourceClaim", name, namespace)
        entries = [Entry(entry="", name=name, claim=claim)]
        found = await reading.all(PODS, lambda one: one if _names(one, name) else None, namespace=namespace)
        users = None if found is None else [str(one["metadata"]["name"]) for one in found]
        waiting = [one for one in found or [] if not (one.get("spec") or {}).get("nodeName")]
        pod = waiting[0] if waiting else None
    subjects = [(kind, name)]
    if kind == "ResourceClaim" and pod is not None:
        subjects.append(("Pod", str(pod["metadata"]["name"])))
    subjects += [("ResourceClaim", one.name) for one in entries if one.claim is not None and kind == "Pod"]
    events = await asyncio.gather(*(_events(reading, one, namespace) for one in subjects))
    return Subject(
        kind=kind,
        namespace=namespace,
        name=name,
        pod=pod,
        entries=entries,
        users=users,
        events=_newest(events),
    )


def entries_of(pod: JSON) -> list[Entry]:
    """The claims that a pod names, the one for its extended resources included."""
    spec, status = pod.get("spec") or {}, pod.get("status") or {}
    made = {
        str(one.get("name")): str(one.get("resourceClaimName") or "")
        for one in status.get("resourceClaimStatuses") or []
    }
    found = [
        Entry(
            entry=str(one.get("name") or ""),
            name=str(one.get("resourceClaimName") or made.get(str(one.get("name"))) or ""),
            template=str(one.get("resourceClaimTemplateName") or ""),
        )
        for one in spec.get("resourceClaims") or []
    ]
    special = (status.get("extendedResourceClaimStatus") or {}).get("resourceClaimName")
    if special:
        found.append(Entry(entry="", name=str(special)))
    return found


async def _entry(reading: Reading, one: Entry, namespace: str) -> Entry:
    claim: JSON | None = None
    forbidden, there = False, None
    try:
        if one.name:
            claim = await reading.one(RESOURCE_CLAIMS, one.name, namespace=namespace)
        if claim is None and one.template:
            there = await reading.one(TEMPLATES, one.template, namespace=namespace) is not None
    except ForbiddenError:
        forbidden = True
    return Entry(
        entry=one.entry,
        name=one.name,
        template=one.template,
        claim=claim,
        forbidden=forbidden,
        template_there=there,
    )


async def _made_for(reading: Reading, pod: JSON, namespace: str) -> dict[str, str]:
    """Names of the claims that were made from templates for a pod, by their names in the pod."""

    def of_pod(claim: JSON) -> tuple[str, str] | None:
        metadata = claim["metadata"]
        entry = (metadata.get("annotations") or {}).get(_ENTRY)
        owned = any(one.get("uid") == pod["metadata"]["uid"] for one in metadata.get("ownerReferences") or [])
        return (str(entry), str(metadata["name"])) if entry and owned else None

    return dict(await reading.all(RESOURCE_CLAIMS, of_pod, namespace=namespace) or [])


async def _events(reading: Reading, subject: tuple[str, str], namespace: str) -> list[JSON]:
    kind, name = subject
    selector = f"involvedObject.kind={kind},involvedObject.name={name}"
    # The same objects in two groups; before 1.36 the role `view` knows only the older one (tried on 1.34.4).
    return await reading.all(CORE_EVENTS, _event, namespace=namespace, field_selector=selector) or []


def _event(document: JSON) -> JSON | None:
    who = str(document.get("reportingComponent") or "")
    who = who or str((document.get("source") or {}).get("component") or "")
    reason = str(document.get("reason") or "")
    if not who.startswith(_OURS) and who not in _SAID.get(reason, ()):
        return None
    series = document.get("series") or {}
    last = (
        series.get("lastObservedTime")
        or document.get("lastTimestamp")
        or document.get("eventTime")
        or document["metadata"].get("creationTimestamp")
    )
    about = document.get("involvedObject") or {}
    return {
        "by": who,
        "about": f"{str(about.get('kind') or '').lower()}/{about.get('name')}",
        "reason": reason,
        "note": str(document.get("message") or ""),
        "count": int(series.get("count") or document.get("count") or 1),
        "last": str(last or ""),
    }


def _newest(found: Sequence[Sequence[JSON]]) -> list[JSON]:
    """All of them, the newest first; what is said of a pod and of its claims alike, once."""
    ordered = sorted((one for some in found for one in some), key=lambda one: str(one["last"]), reverse=True)
    unique: dict[tuple[Any, ...], JSON] = {}
    for one in ordered:
        unique.setdefault((one["by"], one["reason"], one["note"]), one)
    return list(unique.values())


def _names(pod: JSON, claim: str) -> bool:
    done = (pod.get("status") or {}).get("phase") in ("Succeeded", "Failed")
    return not done and any(one.name == claim for one in entries_of(pod))


def _none(kind: str, name: str, namespace: str) -> InvalidInputError:
    return InvalidInputError(
        f"There is no {kind} {name} in namespace {namespace}.",
        remedy="Look at its name, or name its namespace with -n.",
    )
