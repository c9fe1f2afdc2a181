"""What the chart's pods may do on a node: one line of text for each privilege, of rendered manifests.

Flow: the rendered workloads -> `lines` -> `docs/security.md` has to say of each why it is there. A line
names the workload's component, the field and its value; a mount of the node's, its volume, whether the
container may write, and how mounts propagate.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

Document = dict[str, Any]

_WORKLOADS = ("DaemonSet", "Deployment", "Job")
_HOST = ("hostNetwork", "hostPID", "hostIPC", "hostUsers", "shareProcessNamespace")


def lines(documents: Iterable[Document]) -> set[str]:
    """All privileges of all workloads."""
    return {
        line
        for one in documents
        if one["kind"] in _WORKLOADS
        for line in _of_pod(one["spec"]["template"]["spec"], component=_component(one))
    }


def host_mounts(documents: Iterable[Document]) -> set[tuple[str, bool]]:
    """Folders of the node that any container sees, and whether it may write there."""
    found = set()
    for one in documents:
        if one["kind"] not in _WORKLOADS:
            continue
        spec = one["spec"]["template"]["spec"]
        paths = {
            each["name"]: each["hostPath"]["path"] for each in spec.get("volumes", []) if "hostPath" in each
        }
        for container in (*spec.get("initContainers", []), *spec["containers"]):
            for mount in container.get("volumeMounts", []):
                if mount["name"] in paths:
                    found.add((paths[mount["name"]], not mount.get("readOnly")))
    return found


def _component(workload: Document) -> str:
    labels: Document = workload["spec"]["template"]["metadata"]["labels"]
    return str(labels["app.kubernetes.io/component"])


def _of_pod(spec: Document, *, component: str) -> Iterator[str]:
    for name in _HOST:
        if name in spec:
            yield f"{component}: {name}: {str(spec[name]).lower()}"
    token = spec.get("automountServiceAccountToken", True)
    yield f"{component}: automountServiceAccountToken: {str(token).lower()}"
    for field, value in _leaves(spec.get("securityContext", {})):
        yield f"{component}: pod.securityContext.{field}: {value}"
    volumes = {volume["name"]: volume for volume in spec.get("volumes", [])}
    for container in (*spec.get("initContainers", []), *spec["containers"]):
        for field, value in _leaves(container.get("securityContext", {})):
            yield f"{component}: securityContext.{field}: {value}"
        for port in container.get("ports", []):
            if "hostPort" in port:
                yield f"{component}: hostPort: {port['name']}"
        for mount in container.get("volumeMounts", []):
            yield f"{component}: {_mount(mount, volume=volumes[mount['name']])}"


def _leaves(value: Any, path: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(value, dict):
        for name, below in value.items():
            yield from _leaves(below, f"{path}.{name}" if path else name)
    elif isinstance(value, list):
        for each in value:
            yield path, str(each)
    else:
        yield path, str(value).lower() if isinstance(value, bool) else str(value)


def _mount(mount: Document, *, volume: Document) -> str:
    kind = next(name for name in volume if name != "name")
    how = ["read-only" if mount.get("readOnly") else "writable"]
    if mount.get("mountPropagation", "None") != "None":
        how.append(mount["mountPropagation"])
    return f"{kind} {mount['name']} ({', '.join(how)})"
