"""Pods that ask for cards by extended resources.

Flow: a DeviceClass may stand for an extended resource (`spec.extendedResourceName`), and each one stands for
`deviceclass.resource.kubernetes.io/<its name>`. kube-scheduler makes a claim of what a pod asks by these
names, but only once it has found a node; `special_claim` says what that claim would ask.

Limits: requests are named as kube-scheduler names them, but for counting only resources of our classes. Where
DRAExtendedResource is off, such a pod waits for a node that offers the resource, whatever the cards.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from controller.explaining.views import ClassView
from controller.extended import by_resource, class_of
from driver.kube.client import JSON
from driver.slices import canonical


def special_claim(
    asked: Sequence[tuple[int, str, int]],
    *,
    classes: Iterable[tuple[str, ClassView]],
    ours: Callable[[str], bool],
) -> bytes:
    """What the claim for a pod's extended resources would ask of our cards, as JSON text; b"" if nothing.

    Args:
        asked: Place of the container, name of the resource, count.
        classes: All DeviceClasses by name.
        ours: Says by its name whether a class is ours.
    """
    if not asked:
        return b""
    stands_for = by_resource(classes)
    requests: list[JSON] = []
    numbers: dict[int, int] = {}
    for container, resource, count in asked:
        name = class_of(resource, stands_for)
        if name is None or not ours(name):
            continue
        number = numbers.get(container, 0)
        numbers[container] = number + 1
        exactly = {"deviceClassName": name, "allocationMode": "ExactCount", "count": count}
        requests.append({"name": f"container-{container}-request-{number}", "exactly": exactly})
    return canonical({"spec": {"devices": {"requests": requests}}}) if requests else b""
