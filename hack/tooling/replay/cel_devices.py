"""Random devices for generated selectors."""

from __future__ import annotations

import random
from typing import Any

DRIVER = "gpu.example.com"
OTHER = "other.example.com"
DOMAINS = (DRIVER, OTHER, "resource.kubernetes.io", "none")
NAMES = (
    "model",
    "driverVersion",
    "index",
    "healthy",
    "empty",
    "zone",
    "links",
    "names",
    "flags",
    "versions",
    "big",
    "nope",
)
AMOUNTS = ("memory", "cores", "shares", "nope")

_ATTRIBUTES: dict[str, tuple[dict[str, Any], ...]] = {
    "model": ({"string": "A100"}, {"string": "H100-SXM5"}, {"string": "straße"}, {"int": 100}),
    "driverVersion": (
        {"version": "1.2.3"},
        {"version": "550.54.15"},
        {"version": "1.2.3-rc.1+b7"},
        {"string": "1.2.3"},
    ),
    "index": ({"int": 0}, {"int": 3}, {"int": -1}, {"string": "3"}),
    "healthy": ({"bool": True}, {"bool": False}, {"string": "true"}),
    "empty": ({"string": ""},),
    "zone": ({"string": "eu-1"}, {"string": "us-2"}),
    "links": ({"ints": [1, 2, 3]}, {"ints": [3]}, {"ints": [0, 0]}, {"int": 1}),
    "names": ({"strings": ["fish", "bird"]}, {"strings": [""]}, {"string": "fish"}),
    "flags": ({"bools": [True, False]}, {"bools": [True]}),
    "versions": ({"versions": ["1.0.0", "2.0.0"]}, {"versions": ["1.2.3"]}),
    "big": ({"int": 2**63 - 1}, {"int": -(2**63)}),
}
_CAPACITY = {
    "memory": ("40Gi", "80Gi", "0", "1.5Gi", "16E"),
    "cores": ("100", "108", "0"),
    "shares": ("1500m", "3", "0.1"),
}


def devices(rng: random.Random, count: int) -> list[dict[str, Any]]:
    """Random devices; one in fifteen has a version that cannot be read."""
    return [_device(rng) for _ in range(count)]


def _device(rng: random.Random) -> dict[str, Any]:
    driver = DRIVER if rng.random() < 0.9 else OTHER
    # A name with the driver's domain and the same name without one: which counts is chance in the reference.
    domains = [one for one in ("", f"{OTHER}/", "resource.kubernetes.io/") if one != f"{driver}/"]
    attributes: dict[str, Any] = {}
    for name, values in _ATTRIBUTES.items():
        for domain in domains:
            if rng.random() < (0.75 if not domain else 0.2):
                attributes[domain + name] = rng.choice(values)
    if rng.random() < 0.07:
        attributes["broken"] = {"version": rng.choice(("v1", "1.2", ""))}
    capacity = {
        domain + name: {"value": rng.choice(values)}
        for name, values in _CAPACITY.items()
        for domain in domains[:-1]
        if rng.random() < (0.8 if not domain else 0.15)
    }
    device: dict[str, Any] = {"driver": driver}
    if rng.random() < 0.6:
        device["allowMultipleAllocations"] = rng.random() < 0.6
    return device | {"attributes": attributes, "capacity": capacity}
