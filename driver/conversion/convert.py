"""The two verbs: a pod's patch at admission, and its claim templates afterwards.

Limits: of the names there are, only NVIDIA's count, memory and cores yet, in app containers.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from driver.conversion.errors import ConvertedPodError
from driver.conversion.marks import CONVERTED_ANNOTATION, CONVERTED_LABEL, opted_out
from driver.conversion.settings import ConversionSettings
from driver.conversion.stock import Stock

JSON = dict[str, Any]

_COUNT, _MEMORY, _CORES = "nvidia.com/gpu", "nvidia.com/gpumem", "nvidia.com/gpucores"


@dataclass(frozen=True, kw_only=True)
class Conversion:
    """What becomes of a pod.

    Attributes:
        patch: RFC 6902 operations on the pod as it came; nothing but what changes.
        templates: The ResourceClaimTemplates that the patched pod names, whole but for namespace and owner.
        warnings: Sentences for whoever made the pod.
    """

    patch: tuple[JSON, ...]
    templates: tuple[JSON, ...]
    warnings: tuple[str, ...] = ()


def names_of(settings: ConversionSettings) -> frozenset[str]:
    """All names of extended resources that are converted, as this cluster calls them."""
    return frozenset(settings.renamed.get(name, name) for name in (_COUNT, _MEMORY, _CORES))


def convert(
    pod: Mapping[str, Any],
    *,
    identity: str,
    settings: ConversionSettings,
    stock: Stock,
    classes: Mapping[str, str],  # noqa: ARG001
) -> Conversion | None:
    """Converts a pod that is being created.

    Args:
        pod: The Pod as admission got it.
        identity: UID of the admission request: it makes the template's name unique, since the pod may have
            neither name nor UID yet.
        settings: How amounts are read.
        stock: The cluster's cards.
        classes: DeviceClasses by the `extendedResourceName` that they claim.

    Returns:
        None if the pod asks for none of the names, was converted already, or is not to be converted.

    Raises:
        ConversionError: It cannot be converted as it is.
    """
    metadata, spec = pod.get("metadata") or {}, pod.get("spec") or {}
    if opted_out(metadata.get("labels")):
        return None
    asked = {
        one["name"]: limits
        for one in spec.get("containers") or []
        if (limits := (one.get("resources") or {}).get("limits")) and _COUNT in limits
    }
    if not asked:
        return None
    template = "dragoman-" + hashlib.sha256(identity.encode()).hexdigest()[:20]
    patch: list[JSON] = []
    for index, container in enumerate(spec["containers"]):
        if container["name"] not in asked:
            continue
        path = f"/spec/containers/{index}/resources"
        for part in ("limits", "requests"):
            present = container["resources"].get(part) or {}
            patch += [
                {"op": "remove", "path": f"{path}/{part}/{name.replace('/', '~1')}"}
                for name in (_COUNT, _MEMORY, _CORES)
                if name in present
            ]
        claims = [{"name": "dragoman", "request": container["name"]}]
        patch.append({"op": "add", "path": f"{path}/claims", "value": claims})
    named = [{"name": "dragoman", "resourceClaimTemplateName": template}]
    written = {
        name: {key: limits[key] for key in (_COUNT, _MEMORY, _CORES) if key in limits}
        for name, limits in asked.items()
    }
    marks = {
        "labels": {**(metadata.get("labels") or {}), CONVERTED_LABEL: "true"},
        "annotations": {
            **(metadata.get("annotations") or {}),
            CONVERTED_ANNOTATION: json.dumps({"template": template, "containers": written}),
        },
    }
    patch.append({"op": "add", "path": "/spec/resourceClaims", "value": named})
    patch += [{"op": "add", "path": f"/metadata/{key}", "value": value} for key, value in marks.items()]
    marked = {**pod, "metadata": {**metadata, **marks}}
    return Conversion(
        patch=tuple(patch), templates=templates_of(marked, settings=settings, stock=stock), warnings=()
    )


def templates_of(
    pod: Mapping[str, Any],
    *,
    settings: ConversionSettings,  # noqa: ARG001
    stock: Stock,  # noqa: ARG001
) -> tuple[JSON, ...]:
    """The claim templates of a converted pod, worked out from what it asked for before.

    Raises:
        ConversionError: Its annotation is not what conversion writes, or what it asked for cannot be
            converted with these cards.
    """
    text = ((pod.get("metadata") or {}).get("annotations") or {}).get(CONVERTED_ANNOTATION)
    try:
        said = json.loads(str(text))
        requests = [_request(name, limits) for name, limits in said["containers"].items()]
        name = str(said["template"])
    except (KeyError, TypeError, ValueError, AttributeError):
        raise ConvertedPodError(
            "This is not what conversion writes.", field=f"metadata.annotations[{CONVERTED_ANNOTATION}]"
        ) from None
    return (
        {
            "apiVersion": "resource.k8s.io/v1",
            "kind": "ResourceClaimTemplate",
            "metadata": {"name": name},
            "spec": {"spec": {"devices": {"requests": requests}}},
        },
    )


def _request(name: str, limits: Mapping[str, Any]) -> JSON:
    amounts = {}
    if _MEMORY in limits:
        amounts["memory"] = f"{int(limits[_MEMORY])}Mi"
    if _CORES in limits:
        amounts["cores"] = str(int(limits[_CORES]))
    exactly: JSON = {"deviceClassName": "nvidia.dragoman.dev", "count": int(limits[_COUNT])}
    if amounts:
        exactly["capacity"] = {"requests": amounts}
    return {"name": name, "exactly": exactly}
