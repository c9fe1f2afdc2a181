"""Extended resources that stand for DeviceClasses.

Flow: `asked_of_pod` says which extended resources the containers of a pod ask for; `by_resource` which class
stands for each; `class_of` joins the two.

Source of the rules: KEP-5004. A DeviceClass stands for `spec.extendedResourceName`, and each one for
`deviceclass.resource.kubernetes.io/<its name>`; of several classes for one resource the newest counts, of
equally old ones the first by name. API servers with DRAExtendedResource off (1.34 and 1.35 by default) drop
the field; in mode controller the webhook writes it into an annotation, which counts where the field is not.

Limits: pure. Counts of 1 to 999 are looked at, as kube-scheduler would refuse more.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Protocol

from driver.cards import DRIVER_NAME
from driver.kube.client import JSON

IMPLICIT = "deviceclass.resource.kubernetes.io/"
CARRIED = f"{DRIVER_NAME}/extended-resource"
"""Annotation of a DeviceClass with its `extendedResourceName`."""


class NamedClass(Protocol):
    """What has to be known of a DeviceClass."""

    @property
    def extended(self) -> str:
        """The extended resource that it stands for, "" if none but that of its name."""

    @property
    def created(self) -> str:
        """When it was made, as the API writes it."""


def asked_of_pod(spec: JSON) -> Iterator[tuple[int, str, int]]:
    """What containers ask for under names with a domain; limits count where requests are not set.

    Gives the place of the container, the name and the count.
    """
    containers = [*(spec.get("initContainers") or []), *(spec.get("containers") or [])]
    for place, container in enumerate(containers):
        resources = container.get("resources") or {}
        asked = {**(resources.get("limits") or {}), **(resources.get("requests") or {})}
        for name, amount in sorted(asked.items()):
            text = str(amount)
            if "/" in name and text.isascii() and text.isdigit() and len(text) < 4 and int(text) > 0:
                yield place, name, int(text)


def resource_of(device_class: JSON) -> str:
    """The extended resource that a DeviceClass says it stands for, also where the server dropped that."""
    said = (device_class.get("spec") or {}).get("extendedResourceName")
    annotations = device_class["metadata"].get("annotations") or {}
    return str(said or annotations.get(CARRIED) or "")


def by_resource(classes: Iterable[tuple[str, NamedClass]]) -> dict[str, str]:
    """The name of the class that stands for each resource."""
    found: dict[str, tuple[str, str]] = {}
    for name, view in sorted(classes, key=lambda one: one[0]):
        if view.extended and (view.extended not in found or view.created > found[view.extended][0]):
            found[view.extended] = (view.created, name)
    return {resource: name for resource, (_, name) in found.items()}


def class_of(resource: str, stands_for: Mapping[str, str]) -> str | None:
    """The name of the class that a resource stands for; None if it stands for none.

    Args:
        resource: Name of the resource.
        stands_for: What `by_resource` gives.
    """
    if resource.startswith(IMPLICIT):
        return resource.removeprefix(IMPLICIT)
    return stands_for.get(resource)
