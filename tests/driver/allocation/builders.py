"""Short ways to write v1 objects for the tests of allocation."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable
from typing import Any

from driver.allocation import Decision, Snapshot, allocate

JSON = dict[str, Any]
DRIVER = "dragoman.dev"
NODE = "node-a"
MEMORY_POLICY = {"validRange": {"min": "1Mi", "step": "1Mi"}}
CORES_POLICY = {"default": "0", "validRange": {"min": "0", "max": "100", "step": "1"}}


def card(name: str, memory: str = "80Gi", **more: Any) -> JSON:
    """A card that is shared by memory and cores, as we publish them."""
    return {
        "name": name,
        "allowMultipleAllocations": True,
        "attributes": {"uuid": {"string": f"uuid-{name}"}, "vendor": {"string": "nvidia"}},
        "capacity": {
            "memory": {"value": memory, "requestPolicy": {"default": memory, **MEMORY_POLICY}},
            "cores": {"value": "100", "requestPolicy": CORES_POLICY},
        },
        **more,
    }


def exclusive(name: str, **more: Any) -> JSON:
    return {"name": name, "capacity": {"memory": {"value": "80Gi"}}, **more}


def pool(*devices: JSON, node: str = NODE, name: str = "", slice_name: str = "", **more: Any) -> JSON:
    return {
        "metadata": {"name": slice_name or f"{node}-{name or node}"},
        "spec": {
            "driver": DRIVER,
            "nodeName": node,
            "pool": {"name": name or node, "generation": 1, "resourceSliceCount": 1},
            "devices": list(devices),
        }
        | more,
    }


def device_class(name: str = "any", *expressions: str, **more: Any) -> JSON:
    selectors = [{"cel": {"expression": one}} for one in expressions]
    return {"metadata": {"name": name}, "spec": {"selectors": selectors, **more}}


def request(name: str = "r", *, selectors: Iterable[str] = (), ask: JSON | None = None, **more: Any) -> JSON:
    exactly: JSON = {"deviceClassName": "any", **more}
    if selectors:
        exactly["selectors"] = [{"cel": {"expression": one}} for one in selectors]
    if ask:
        exactly["capacity"] = {"requests": ask}
    return {"name": name, "exactly": exactly}


def claim(*requests: JSON, name: str = "c", **more: Any) -> JSON:
    return {
        "metadata": {"name": name, "namespace": "default"},
        "spec": {"devices": {"requests": list(requests), **more}},
    }


def allocated(one: JSON, decision: Decision, place: int = 0) -> JSON:
    assert decision.allocations is not None
    return {**one, "status": {"allocation": decision.allocations[place]}}


def numbered() -> Callable[[], str]:
    numbers = itertools.count()
    return lambda: f"share-{next(numbers)}"


def decide(
    claims: Iterable[JSON],
    *,
    slices: Iterable[JSON],
    held: Iterable[JSON] = (),
    classes: Iterable[JSON] = (),
    node: str = NODE,
    release: str = "1.36",
) -> Decision:
    snapshot = Snapshot.build(slices=slices, classes=[device_class(), *classes], claims=held)
    return allocate(snapshot, node=node, claims=list(claims), release=release, share_id=numbered())


def given(decision: Decision) -> list[str]:
    """The devices that were given, in order."""
    assert decision.allocations is not None, decision.refusal
    return [
        result["device"]
        for one in decision.allocations
        for result in one.get("devices", {}).get("results", ())
    ]


def reasons(decision: Decision) -> dict[str, str]:
    """The reason against each device."""
    assert decision.refusal is not None
    return {one.device: one.reason for one in decision.refusal.devices}
