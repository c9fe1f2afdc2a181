"""A cluster and a stream of claims for comparing placement policies. Pure, and the same for the same seed.

The cluster: nodes with eight cards of one model each; half of the nodes have 80 GiB cards, a quarter 48 GiB
and a quarter 24 GiB. Two cards hang on one PCIe root, four on one NUMA node.

The claims: six kinds in fixed proportions, with amounts drawn evenly from a range. How long a claim lives is
drawn from an exponential distribution and counted in arrivals, so that a stream needs no clock. The mean is
chosen so that, without any refusal, the claims alive would ask for `offered` times the memory, or the
compute, of the cluster, whichever is the scarcer.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any

JSON = dict[str, Any]
DRIVER = "dragoman.dev"
CLASS = "accelerator.dragoman.dev"
CARDS = 8
_MODELS = (80, 80, 48, 24)


@dataclass(frozen=True, kw_only=True)
class Kind:
    """Claims of a kind.

    Attributes:
        name: What it stands for.
        weight: How frequent it is.
        memory_gib: Smallest and largest memory; (0, 0) asks for nothing, which is a card of one's own.
        cores: Smallest and largest percent of compute.
        count: Devices.
    """

    name: str
    weight: int
    memory_gib: tuple[int, int]
    cores: tuple[int, int]
    count: int = 1


KINDS = (
    Kind(name="small share", weight=40, memory_gib=(2, 8), cores=(5, 15)),
    Kind(name="memory above compute", weight=18, memory_gib=(12, 22), cores=(5, 20)),
    Kind(name="compute above memory", weight=18, memory_gib=(2, 6), cores=(40, 70)),
    Kind(name="half a card", weight=14, memory_gib=(10, 20), cores=(40, 50)),
    Kind(name="a whole card", weight=7, memory_gib=(0, 0), cores=(100, 100)),
    Kind(name="two whole cards", weight=3, memory_gib=(0, 0), cores=(100, 100), count=2),
)
SMALLEST_GIB = min(kind.memory_gib[0] for kind in KINDS if kind.memory_gib[0])
SMALLEST_CORES = min(kind.cores[0] for kind in KINDS)


@dataclass(frozen=True, kw_only=True)
class Arrival:
    """A claim of the stream.

    Attributes:
        claim: The ResourceClaim.
        leaves: The arrival before which it is released.
    """

    claim: JSON
    leaves: float


def model_gib(node: int) -> int:
    """Memory of the cards of a node, in GiB."""
    return _MODELS[node % len(_MODELS)]


def node_name(number: int) -> str:
    """Name of a node; names sort by number."""
    return f"node-{number:03d}"


def slices(nodes: int) -> list[JSON]:
    """The cluster's ResourceSlices."""
    return [
        {
            "metadata": {"name": f"{node_name(number)}-{DRIVER}"},
            "spec": {
                "driver": DRIVER,
                "nodeName": node_name(number),
                "pool": {"name": node_name(number), "generation": 1, "resourceSliceCount": 1},
                "devices": [_card(card, model_gib(number)) for card in range(CARDS)],
            },
        }
        for number in range(nodes)
    ]


def device_class() -> JSON:
    """The class that all claims name."""
    selector = {"cel": {"expression": f'device.driver == "{DRIVER}"'}}
    return {"metadata": {"name": CLASS}, "spec": {"selectors": [selector]}}


def stream(*, nodes: int, arrivals: int, offered: float, seed: int) -> list[Arrival]:
    """Claims in the order of their arrival."""
    chance = random.Random(seed)  # noqa: S311 - a stream is to be the same for the same seed
    lifetime = offered * _capacity_in_claims(nodes)
    weights = [kind.weight for kind in KINDS]
    found = []
    for number in range(arrivals):
        (kind,) = chance.choices(KINDS, weights)
        ask = {"cores": str(chance.randint(*kind.cores))}
        if kind.memory_gib[1]:
            ask["memory"] = f"{chance.randint(*kind.memory_gib)}Gi"
        exactly: JSON = {"deviceClassName": CLASS, "capacity": {"requests": ask}, "count": kind.count}
        claim = {
            "metadata": {"name": f"claim-{number:05d}", "namespace": "default", "uid": f"u{number}"},
            "spec": {"devices": {"requests": [{"name": "cards", "exactly": exactly}]}},
        }
        found.append(Arrival(claim=claim, leaves=number + chance.expovariate(1 / lifetime)))
    return found


def _card(number: int, memory_gib: int) -> JSON:
    memory = f"{memory_gib}Gi"
    return {
        "name": f"card-{number}",
        "allowMultipleAllocations": True,
        "attributes": {
            "model": {"string": f"M{memory_gib}"},
            "resource.kubernetes.io/pcieRoot": {"string": f"pci0000:{number // 2:02x}"},
            "resource.kubernetes.io/numaNode": {"int": number // 4},
        },
        "capacity": {
            "memory": {
                "value": memory,
                "requestPolicy": {"default": memory, "validRange": {"min": "1Mi", "step": "1Mi"}},
            },
            "cores": {
                "value": "100",
                "requestPolicy": {"default": "0", "validRange": {"min": "0", "max": "100", "step": "1"}},
            },
        },
    }


def _capacity_in_claims(nodes: int) -> float:
    """How many mean claims the cluster holds if nothing were ever lost between them."""
    cards = nodes * CARDS
    mean_gib = sum(_MODELS) / len(_MODELS)
    total = sum(kind.weight for kind in KINDS)

    def mean(kind: Kind, low_high: tuple[int, int], whole: float) -> float:
        return kind.weight / total * kind.count * (sum(low_high) / 2 if low_high[1] else whole)

    memory = sum(mean(kind, kind.memory_gib, mean_gib) for kind in KINDS)
    cores = sum(mean(kind, kind.cores, 100) for kind in KINDS)
    return min(cards * mean_gib / memory, cards * 100 / cores)
