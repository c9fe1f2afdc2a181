"""Clusters and objects for the tests of validation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from driver.cards import Card
from driver.validation.cards import KnownCards
from driver.validation.facts import ClusterFacts
from driver.validation.findings import Findings
from driver.validation.validate import validate

JSON = dict[str, Any]

OURS = "nvidia.dragoman.dev"
SHARE = {"apiVersion": "dragoman.dev/v1alpha1", "kind": "ShareConfig"}


def card(number: int = 0, *, gib: int = 80, node: str = "n", model: str = "A100", **changed: Any) -> Card:
    uuid = f"GPU-{node}-{number}"
    return Card(
        name=f"nvidia-{node}-{number}",
        vendor="nvidia",
        model=model,
        memory_bytes=gib << 30,
        uuid=uuid,
        **changed,
    )


def known(**nodes: Sequence[Card]) -> KnownCards:
    found = KnownCards()
    for name, cards in nodes.items():
        found.put(name, cards)
    return found


def device_class(
    name: str, *expressions: str, config: Sequence[JSON] = (), labels: Mapping[str, str] | None = None
) -> JSON:
    return {
        "metadata": {"name": name, "labels": dict(labels or {})},
        "spec": {
            "selectors": [{"cel": {"expression": one}} for one in expressions],
            "config": list(config),
        },
    }


CLASSES = {
    OURS: device_class(
        OURS,
        'device.driver == "dragoman.dev"',
        'device.attributes["dragoman.dev"].vendor == "nvidia"',
    ),
    "amd.dragoman.dev": device_class("amd.dragoman.dev", 'device.attributes["dragoman.dev"].vendor == "amd"'),
    "gpu.nvidia.com": device_class("gpu.nvidia.com", 'device.driver == "gpu.nvidia.com"'),
}


def facts(cards: KnownCards | None = None, **changed: Any) -> ClusterFacts:
    given: JSON = {
        "release": "1.36",
        "is_ours": lambda name: name.endswith(".dragoman.dev"),
        "class_is_ours": lambda one: one["metadata"]["name"].endswith(".dragoman.dev"),
        "classes": CLASSES,
        "cards": KnownCards() if cards is None else cards,
        "amounts_kept": True,
        # Enough for a machine that is busy with other things.
        "seconds": 60.0,
        **changed,
    }
    return ClusterFacts(**given)


def request(
    name: str = "gpu",
    *expressions: str,
    asks: Mapping[str, Any] | None = None,
    device_class: str = OURS,
    **fields: Any,
) -> JSON:
    exactly: JSON = {"deviceClassName": device_class, **fields}
    if expressions:
        exactly["selectors"] = [{"cel": {"expression": one}} for one in expressions]
    if asks is not None:
        exactly["capacity"] = {"requests": dict(asks)}
    return {"name": name, "exactly": exactly}


def config(parameters: Mapping[str, Any], *requests: str, driver: str = "dragoman.dev") -> JSON:
    entry: JSON = {"opaque": {"driver": driver, "parameters": dict(parameters)}}
    if requests:
        entry["requests"] = list(requests)
    return entry


def claim(*requests: JSON, **devices: Any) -> JSON:
    return {"metadata": {"name": "c"}, "spec": {"devices": {"requests": list(requests), **devices}}}


def template(*requests: JSON, **devices: Any) -> JSON:
    return {"metadata": {"name": "t"}, "spec": {"spec": claim(*requests, **devices)["spec"]}}


def findings(found: JSON, known_facts: ClusterFacts | None = None, **kwargs: Any) -> Findings:
    return validate("ResourceClaim", found, facts=known_facts or facts(), **kwargs)


def told(found: Findings) -> list[tuple[str, str]]:
    """Reason and field of each error."""
    return [(one.reason, one.field) for one in found.errors]
