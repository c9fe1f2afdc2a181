"""A YAML of objects, as far as it is about pods and claims.

Flow: `read_manifest` reads documents and lists; workloads that make pods stand for as many pods as they want.

Limits: 4 MiB, and as many values as a thousand large pods have, so that aliases cannot multiply without end.
Kinds that are not known are counted and passed over. Only resource.k8s.io/v1: older versions are written
otherwise.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from driver.errors import InvalidInputError
from driver.kube.client import JSON

MAX_BYTES = 4 << 20
MAX_VALUES = 500_000
MAX_PODS = 1_000

_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_DRA = "resource.k8s.io/v1"
_WORKLOADS = {
    ("apps/v1", "Deployment"): "replicas",
    ("apps/v1", "ReplicaSet"): "replicas",
    ("apps/v1", "StatefulSet"): "replicas",
    ("batch/v1", "Job"): "parallelism",
}


@dataclass(slots=True)
class Manifest:
    """What a file holds.

    Attributes:
        pods: Pods in the file's order, those of workloads included.
        claims: ResourceClaims by namespace and name.
        templates: ResourceClaimTemplates by namespace and name.
        classes: DeviceClasses.
        passed_over: How many objects there are of each other kind.
    """

    pods: list[JSON] = field(default_factory=list)
    claims: dict[tuple[str, str], JSON] = field(default_factory=dict)
    templates: dict[tuple[str, str], JSON] = field(default_factory=dict)
    classes: list[JSON] = field(default_factory=list)
    passed_over: dict[str, int] = field(default_factory=dict)


def read_manifest(filename: str, *, namespace: str, stdin: Any = None) -> Manifest:
    """Reads a file.

    Args:
        filename: Its path; `-` for standard input.
        namespace: The namespace of objects that name none.
        stdin: Standard input; that of the process if None.

    Raises:
        InvalidInputError: It cannot be read, is no YAML, or holds something that is no object.
    """
    found = Manifest()
    for place, document in enumerate(_documents(_text(filename, stdin), filename), start=1):
        _add(found, document, place=place, filename=filename, namespace=namespace)
    if not (found.pods or found.claims or found.templates):
        raise InvalidInputError(
            f"{filename} holds no pod, ResourceClaim or ResourceClaimTemplate.",
            remedy="Name a file with the pods and claims that you mean to create.",
        )
    return found


def _text(filename: str, stdin: Any) -> bytes:
    try:
        if filename == "-":
            stream = sys.stdin.buffer if stdin is None else stdin
            text: bytes = stream.read(MAX_BYTES + 1)
        else:
            with Path(filename).open("rb") as file:
                text = file.read(MAX_BYTES + 1)
    except OSError as failed:
        raise InvalidInputError(
            f"{filename} cannot be read: {failed.strerror}.", remedy="Name another file with -f."
        ) from None
    if len(text) > MAX_BYTES:
        raise InvalidInputError(
            f"{filename} is longer than {MAX_BYTES >> 20} MiB.", remedy="Cut it into several files."
        )
    return text


def _documents(text: bytes, filename: str) -> Iterator[JSON]:
    try:
        documents = [one for one in yaml.load_all(text, Loader=_Loader) if one is not None]
        _check_size(documents, filename)
    except (yaml.YAMLError, ValueError, RecursionError) as invalid:
        mark = getattr(invalid, "problem_mark", None)
        problem = getattr(invalid, "problem", None) or "it cannot be parsed"
        where = f"line {mark.line + 1}: " if mark is not None else ""
        raise InvalidInputError(
            f"{filename} is no YAML: {where}{problem}.", remedy="Mend the file."
        ) from None
    for place, one in enumerate(documents, start=1):
        if not isinstance(one, dict):
            raise InvalidInputError(
                f"{filename}: document {place} is no object.", remedy="Give objects with kind and metadata."
            )
        if str(one.get("kind") or "").endswith("List") and isinstance(one.get("items"), list):
            for item in one["items"]:
                if not isinstance(item, dict):
                    raise InvalidInputError(
                        f"{filename}: an item of document {place} is no object.", remedy="Mend the file."
                    )
                yield item
        else:
            yield one


def _check_size(documents: list[Any], filename: str) -> None:
    left = MAX_VALUES
    waiting: list[Any] = list(documents)
    while waiting:
        one = waiting.pop()
        left -= 1
        if left < 0:
            raise InvalidInputError(
                f"{filename} holds more than {MAX_VALUES:,} values.", remedy="Cut it into several files."
            )
        if isinstance(one, dict):
            waiting.extend(one.values())
        elif isinstance(one, list):
            waiting.extend(one)


def _add(found: Manifest, document: JSON, *, place: int, filename: str, namespace: str) -> None:
    version, kind = str(document.get("apiVersion") or ""), str(document.get("kind") or "")
    metadata = document.get("metadata")
    where = f"{filename}: object {place} ({kind or 'without a kind'})"
    if not kind or not isinstance(metadata, dict):
        raise InvalidInputError(f"{where} has no kind or no metadata.", remedy="Mend the file.")
    name = str(metadata.get("name") or metadata.get("generateName") or "")
    if not name:
        raise InvalidInputError(f"{where} has no metadata.name.", remedy="Give it a name.")
    # What is created has no status yet, whatever the file says.
    placed = {key: value for key, value in document.items() if key != "status"}
    placed["metadata"] = {**metadata, "name": name}
    if kind in ("ResourceClaim", "ResourceClaimTemplate", "DeviceClass") and version != _DRA:
        raise InvalidInputError(
            f"{where} is of {version or 'no version'}.", remedy=f"Write it for {_DRA}: fields differ."
        )
    if kind == "DeviceClass":
        _shape(placed, ("spec",), where)
        found.classes.append(placed)
        return
    placed["metadata"]["namespace"] = str(metadata.get("namespace") or namespace)
    key = (str(placed["metadata"]["namespace"]), name)
    if kind == "ResourceClaim":
        _devices(placed, ("spec",), where)
        found.claims[key] = placed
    elif kind == "ResourceClaimTemplate":
        _devices(placed, ("spec", "spec"), where)
        found.templates[key] = placed
    elif (version, kind) == ("v1", "Pod"):
        _pod(found, placed, where)
    elif (version, kind) in _WORKLOADS:
        _workload(found, placed, where, counted=_WORKLOADS[version, kind])
    else:
        found.passed_over[kind] = found.passed_over.get(kind, 0) + 1


def _workload(found: Manifest, document: JSON, where: str, *, counted: str) -> None:
    spec = _shape(document, ("spec",), where)
    template = _shape(document, ("spec", "template"), where)
    _shape(document, ("spec", "template", "spec"), where)
    wanted = spec.get(counted)
    number = wanted if isinstance(wanted, int) and wanted >= 0 else 1
    metadata = document["metadata"]
    for index in range(min(number, MAX_PODS + 1)):
        labels = (template.get("metadata") or {}).get("labels") or {}
        named = {"name": f"{metadata['name']}-{index}", "namespace": metadata["namespace"], "labels": labels}
        _pod(found, {"metadata": named, "spec": template["spec"]}, where)


def _pod(found: Manifest, pod: JSON, where: str) -> None:
    spec = _shape(pod, ("spec",), where)
    for name in ("containers", "initContainers", "resourceClaims", "tolerations", "schedulingGates"):
        entries = spec.get(name) or []
        if not isinstance(entries, list) or not all(isinstance(one, dict) for one in entries):
            raise InvalidInputError(
                "This has to be a list of objects.", field=f"{where}: spec.{name}", remedy="Mend the file."
            )
    if len(found.pods) >= MAX_PODS:
        raise InvalidInputError(f"There are more than {MAX_PODS:,} pods.", remedy="Ask about fewer at once.")
    found.pods.append(pod)


def _devices(document: JSON, path: tuple[str, ...], where: str) -> None:
    spec = _shape(document, path, where)
    devices = _shape(spec, ("devices",), f"{where}: {'.'.join(path)}") if "devices" in spec else {}
    for name in ("requests", "constraints", "config"):
        entries = devices.get(name) or []
        if not isinstance(entries, list) or not all(isinstance(one, dict) for one in entries):
            field = f"{where}: {'.'.join(path)}.devices.{name}"
            raise InvalidInputError("This has to be a list of objects.", field=field, remedy="Mend the file.")
    for request in devices.get("requests") or []:
        options = [request.get("exactly"), *(request.get("firstAvailable") or [])]
        if not all(one is None or isinstance(one, dict) for one in options):
            field = f"{where}: {'.'.join(path)}.devices.requests"
            raise InvalidInputError("A request is no object.", field=field, remedy="Mend the file.")
        _quantities(options)


def _quantities(options: list[Any]) -> None:
    """Amounts as the API server stores them: `memory: 4` is as good as `memory: "4"`."""
    for one in options:
        capacity = (one or {}).get("capacity")
        requests = capacity.get("requests") if isinstance(capacity, dict) else None
        if isinstance(requests, dict):
            for name, amount in requests.items():
                requests[name] = str(amount)


def _shape(document: JSON, path: tuple[str, ...], where: str) -> JSON:
    found: Any = document
    for depth, name in enumerate(path, start=1):
        found = found.get(name)
        if not isinstance(found, dict):
            raise InvalidInputError(
                "This is missing, or no object.",
                field=f"{where}: {'.'.join(path[:depth])}",
                remedy="Mend the file.",
            )
    checked: JSON = found
    return checked
