"""Rarer answers: states that take a claim or a slice which few people write."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

from tests.controller.cli.cases import (
    Case,
    edited,
    explained,
    extended,
    incomplete,
    stamped,
    twice,
    two_nodes,
)
from tests.controller.cli.world import JSON, World, allocated, card, claim

_AGE = 'device.attributes["dragoman.dev"].'


def _devices(edit: Callable[[JSON], Any]) -> JSON:
    found = claim("want", memory="1Gi")
    edit(found["spec"]["devices"])
    return found


def _all(devices: JSON) -> None:
    exactly = {"deviceClassName": "nvidia.dragoman.dev", "allocationMode": "All"}
    devices["requests"][0]["exactly"] = exactly


def _all_of_one_uuid(devices: JSON) -> None:
    _all(devices)
    devices["constraints"] = [{"matchAttribute": "dragoman.dev/uuid"}]


def _many_requests(devices: JSON) -> None:
    (one,) = devices["requests"]
    devices["requests"] = [{**one, "name": f"card-{number}"} for number in range(33)]


def _two_cards(edit: Callable[[JSON], None] | None = None) -> World:
    world = World().node("n1", card("nvidia-a"), card("nvidia-b")).controllers()
    for item in world.slices if edit is not None else ():
        assert edit is not None
        edit(item["spec"])
    return world


def _lost() -> JSON:
    """A claim of 1.34 after the upgrade: its amounts are in its ShareConfig only."""
    found = stamped()
    found["spec"]["devices"]["requests"][0]["exactly"].pop("capacity", None)
    return found


def _counters() -> World:
    """Both cards take slots of one set, of which one claim leaves too few."""
    world = _two_cards()
    (item,) = world.slices
    slots = [{"counterSet": "slots", "counters": {"slot": {"value": "2"}}}]
    for device in item["spec"]["devices"]:
        device["consumesCounters"] = slots
        # A card that several may hold takes its slots once.
        device.pop("allowMultipleAllocations", None)
        for one in device["capacity"].values():
            one.pop("requestPolicy", None)
    item["spec"]["pool"]["resourceSliceCount"] = 2
    sets = copy.deepcopy(item)
    sets["metadata"]["name"] += "-counters"
    del sets["spec"]["devices"]
    sets["spec"]["sharedCounters"] = [{"name": "slots", "counters": {"slot": {"value": "3"}}}]
    world.slices.append(sets)
    world.claims.append(allocated(claim("whole", namespace="team-c"), "n1", "nvidia-a"))
    return world


def _of_other_nodes(spec: JSON) -> None:
    node = spec.pop("nodeName")
    spec["perDeviceNodeSelection"] = True
    for device, name in zip(spec["devices"], ("elsewhere", node), strict=True):
        device["nodeName"] = name


MORE: dict[str, Callable[[], Case]] = {
    "all-constraint": lambda: explained(_devices(_all_of_one_uuid), world=_two_cards()),
    "all-pool-invalid": lambda: explained(_devices(_all), world=_two_cards(twice)),
    "all-pool-incomplete": lambda: explained(_devices(_all), world=_two_cards(incomplete)),
    "amounts-lost": lambda: explained(_lost()),
    "different-reasons": lambda: explained(
        claim("want", memory="100Gi", cel=f'{_AGE}model == "NVIDIA A100" || {_AGE}colour == "red"')
    ),
    "not-representable": lambda: explained(claim("want", memory="8Ei")),
    "constraint-unknown": lambda: explained(
        _devices(lambda devices: devices.update(constraints=[{"sameRack": "true"}]))
    ),
    "extended-resource-controller": lambda: (extended("controller"), ("explain", "pod/train")),
    "node-unfit-controller": lambda: explained(
        stamped(), world=two_nodes("controller", version="v1.34.4"), nodeSelector={"pool": "none"}
    ),
    "request-unknown": lambda: explained(
        _devices(
            lambda devices: devices.update(
                constraints=[{"matchAttribute": "dragoman.dev/model", "requests": ["other"]}]
            )
        )
    ),
    "too-many-requests": lambda: explained(_devices(_many_requests)),
    "counters-exhausted": lambda: explained(claim("want"), world=_counters()),
    "other-node": lambda: edited(_of_other_nodes, claim("want", memory="100Gi")),
}
"""Worlds and commands by name."""
