"""The cluster that `hack/bench resolve` measures on: 5,000 nodes of 8 cards, made from parameters.

Purpose: ResourceSlices as the API server would send them, one JSON text for each, so that what a process
holds afterwards is what decoding leaves it; and claims, the plain one of the scenarios and a stream of
distinct ones.

Flow: `slice_text` for node i, `plain_claim` and `distinct_claim` for claim n, `sold` for a card that is held
by one share of everything.

Limits: what is drawn comes from the seed alone.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, TypeAlias

JSON: TypeAlias = dict[str, Any]

DRIVER = "dragoman.dev"
CLASS_NAME = "accelerator.dragoman.dev"
CARDS = 8
RUN_OF_NODES = 20
"""So many nodes one after the other have one model; one in so many has room in the scenario `full95`."""


@dataclass(frozen=True, slots=True)
class Model:
    """A kind of card."""

    vendor: str
    name: str
    architecture: str
    driver_version: str
    memory: str


MODELS = (
    Model("nvidia", "A100-SXM4-80GB", "Ampere", "550.54.15", "80Gi"),
    Model("ascend", "910B4", "DaVinci", "24.1.0", "32Gi"),
    Model("nvidia", "H100-SXM5-80GB", "Hopper", "570.86.10", "80Gi"),
    Model("amd", "MI300X", "CDNA3", "6.10.5", "192Gi"),
)


def node_name(number: int) -> str:
    """The name of a node; names sort as numbers do."""
    return f"node-{number:05d}"


def model_of(number: int) -> Model:
    """What the cards of a node are."""
    return MODELS[number // RUN_OF_NODES % len(MODELS)]


def device_class() -> JSON:
    """The class that all claims name."""
    expression = f'device.driver == "{DRIVER}"'
    return {"metadata": {"name": CLASS_NAME}, "spec": {"selectors": [{"cel": {"expression": expression}}]}}


def slice_text(number: int, *, generation: int = 1) -> str:
    """The ResourceSlice of a node, as JSON."""
    node, model = node_name(number), model_of(number)
    return json.dumps(
        {
            "apiVersion": "resource.k8s.io/v1",
            "kind": "ResourceSlice",
            "metadata": {"name": f"{node}-{DRIVER}", "uid": f"slice-{number}"},
            "spec": {
                "driver": DRIVER,
                "nodeName": node,
                "pool": {"name": node, "generation": generation, "resourceSliceCount": 1},
                "devices": [_card(number, place, model) for place in range(CARDS)],
            },
        }
    )


def _card(number: int, place: int, model: Model) -> JSON:
    standard = "resource.kubernetes.io"
    return {
        "name": f"card-{place}",
        "allowMultipleAllocations": True,
        "attributes": {
            "vendor": {"string": model.vendor},
            "model": {"string": model.name},
            "architecture": {"string": model.architecture},
            "driverVersion": {"version": model.driver_version},
            "uuid": {"string": f"{model.vendor}-{number:05d}-{place}"},
            "isolation": {"string": "preload"},
            f"{standard}/numaNode": {"int": place // 4},
            f"{standard}/pcieRoot": {"string": f"pci0000:{place // 2 * 16:02x}"},
            f"{standard}/pciBusID": {"string": f"0000:{8 * place + 1:02x}:00.0"},
        },
        "capacity": {
            "memory": {
                "value": model.memory,
                "requestPolicy": {"default": model.memory, "validRange": {"min": "1Mi", "step": "1Mi"}},
            },
            "cores": {
                "value": "100",
                "requestPolicy": {"default": "0", "validRange": {"min": "0", "max": "100", "step": "1"}},
            },
        },
    }


def sold(nodes: int, *, all_of_them: bool) -> Iterator[JSON]:
    """Claims that hold cards whole by one share each; one node in `RUN_OF_NODES` is left free or not."""
    for number in range(nodes):
        if not all_of_them and number % RUN_OF_NODES == RUN_OF_NODES - 1:
            continue
        for place in range(CARDS):
            result = {
                "request": "r",
                "driver": DRIVER,
                "pool": node_name(number),
                "device": f"card-{place}",
                "shareID": f"held-{number}-{place}",
                "consumedCapacity": {"memory": model_of(number).memory, "cores": "100"},
            }
            yield _with_allocation(f"held-{number}-{place}", {"devices": {"results": [result]}})


def _with_allocation(uid: str, allocation: JSON) -> JSON:
    return {
        "metadata": {"name": uid, "namespace": "default", "uid": uid},
        "status": {"allocation": allocation},
    }


def allocated(claim: JSON, allocation: JSON) -> JSON:
    """A claim as it is once its allocation has been written."""
    return {**claim, "status": {"allocation": allocation}}


def _claim(number: int, requests: list[JSON], constraints: list[JSON] | None = None) -> JSON:
    devices: JSON = {"requests": requests}
    if constraints:
        devices["constraints"] = constraints
    return {
        "metadata": {"name": f"claim-{number}", "namespace": "default", "uid": f"claim-{number}"},
        "spec": {"devices": devices},
    }


def _request(name: str, expression: str, amounts: JSON, count: int = 1) -> JSON:
    exactly: JSON = {
        "deviceClassName": CLASS_NAME,
        "count": count,
        "selectors": [{"cel": {"expression": expression}}],
        "capacity": {"requests": amounts},
    }
    return {"name": name, "exactly": exactly}


PLAIN = (
    f'device.attributes["{DRIVER}"].vendor == "nvidia" && '
    f'device.capacity["{DRIVER}"].memory.compareTo(quantity("40Gi")) >= 0'
)


def plain_claim(number: int) -> JSON:
    """The claim of the scenarios: one share of a large card of one vendor."""
    return _claim(number, [_request("r", PLAIN, {"memory": "10Gi", "cores": "30"})])


def distinct_claim(number: int, draw: random.Random) -> JSON:
    """A claim whose selector, amounts, count and constraints are drawn; no selector comes twice."""
    requests = [
        _request(
            f"r{place}",
            _selector(number * 4 + place, draw),
            {"memory": f"{draw.randint(256, 24 * 1024)}Mi", "cores": str(draw.randint(0, 60))},
            draw.choice((1, 1, 1, 2, 3, 4)),
        )
        for place in range(draw.choice((1, 1, 1, 1, 1, 2)))
    ]
    constraints = []
    if draw.random() < 0.4:
        name = draw.choice(("pcieRoot", "numaNode", "model"))
        attribute = f"{DRIVER}/model" if name == "model" else f"resource.kubernetes.io/{name}"
        # No root port has more than two cards behind it.
        if not (name == "pcieRoot" and any(one["exactly"]["count"] > 2 for one in requests)):
            constraints = [{"matchAttribute": attribute}]
    elif draw.random() < 0.2:
        constraints = [{"distinctAttribute": f"{DRIVER}/uuid"}]
    return _claim(number, requests, constraints)


def _selector(serial: int, draw: random.Random) -> str:
    """An expression that nobody wrote before: `serial` is in one of its constants."""
    attributes, capacity = f'device.attributes["{DRIVER}"]', f'device.capacity["{DRIVER}"]'
    fresh = f"{1024 + serial}Mi"
    vendors = draw.sample(sorted({one.vendor for one in MODELS}), 2)
    vendor, model = draw.choice(MODELS).vendor, draw.choice(MODELS).name
    architecture = draw.choice(MODELS).architecture
    root = 'device.attributes["resource.kubernetes.io"].numaNode'
    other = f'{capacity}.cores.compareTo(quantity("{draw.randint(1, 100)}")) >= 0'
    at_least = f'{capacity}.memory.compareTo(quantity("{fresh}")) >= 0'
    shapes = (
        f'{attributes}.vendor == "{vendor}" && {at_least}',
        f"{attributes}.vendor in {json.dumps(vendors)} && {at_least}",
        f'has({attributes}.model) && {attributes}.model.startsWith("{model[:3]}") && {at_least}',
        f'{attributes}.driverVersion.isGreaterThan(semver("{draw.randint(5, 26)}.0.{serial}"))',
        f'({attributes}.architecture == "{architecture}" || {root} < {serial + 2}) && {other}',
        f'!({attributes}.vendor == "{vendors[0]}") && !{attributes}.isolation.matches("x{serial}$")',
    )
    return draw.choice(shapes)
