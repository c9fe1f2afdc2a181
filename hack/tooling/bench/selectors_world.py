"""The cluster and the selectors of `hack/bench selectors`.

Flow: `slices` makes the devices of each ResourceSlice; `Selectors` makes selectors of 14 kinds, each with
constants that no earlier one had.

Limits: all devices are of one driver. About half of the constants occur in the cluster, so that answers are
neither all nor nothing; nothing about them is known to the index.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterator
from typing import Any

from driver.cel import DeviceView

DRIVER = "gpu.example.com"
STANDARD = "resource.kubernetes.io"
TOPOLOGY = "topology.example.com"
CARDS = 8
MODELS = tuple(
    f"{name} {size}GB"
    for name, size in (
        ("A30", 24),
        ("A40", 48),
        ("A100-SXM4", 40),
        ("A100-SXM4", 80),
        ("A100-PCIe", 80),
        ("H100-SXM5", 80),
        ("H100-PCIe", 80),
        ("H200-SXM", 141),
        ("L4", 24),
        ("L40S", 48),
        ("T4", 16),
        ("V100-SXM2", 32),
    )
)
VERSIONS = (
    "525.147.5",
    "535.104.5",
    "535.183.1",
    "550.54.15",
    "550.90.7",
    "555.42.6",
    "560.35.3",
    "570.86.15",
)
_FEATURES = ("mig", "mps", "nvlink", "rdma", "ecc", "vgpu")


def device(*, node: int, place: int, rng: random.Random) -> DeviceView:
    """One card: 14 attributes in 3 domains, 2 capacities."""
    model = MODELS[node * 7 % len(MODELS)]
    content: dict[str, Any] = {
        "attributes": {
            "vendor": {"string": "nvidia"},
            "model": {"string": model},
            "uuid": {"string": f"GPU-{rng.getrandbits(64):016x}"},
            "serial": {"string": str(rng.getrandbits(40))},
            "architecture": {"string": model[0]},
            "driverVersion": {"version": VERSIONS[node * 5 % len(VERSIONS)]},
            "features": {"strings": sorted(rng.sample(_FEATURES, 2))},
            "nvlink": {"int": rng.choice((0, 4, 12, 18))},
            f"{STANDARD}/pciBusID": {"string": f"0000:{16 + 8 * place:02x}:00.0"},
            f"{STANDARD}/pcieRoot": {"string": f"pci0000:{place // 2:02x}"},
            f"{STANDARD}/numaNode": {"int": place // 4},
            f"{TOPOLOGY}/rack": {"string": f"rack-{node // 16}"},
            f"{TOPOLOGY}/block": {"string": f"block-{node // 512}"},
            f"{TOPOLOGY}/zone": {"string": f"zone-{node % 3}"},
        },
        "capacity": {
            "memory": {"value": f"{model.split()[1].removesuffix('GB')}Gi"},
            "cores": {"value": "100"},
        },
        "allowMultipleAllocations": node % 4 != 0,
    }
    if place == 7:
        # Not every card has every attribute.
        del content["attributes"]["nvlink"]
    return DeviceView.build(content, driver=DRIVER)


def slices(nodes: int, *, rng: random.Random) -> Iterator[list[DeviceView]]:
    """The devices of each node, a ResourceSlice each."""
    for node in range(nodes):
        yield [device(node=node, place=place, rng=rng) for place in range(CARDS)]


_A = f'device.attributes["{DRIVER}"]'
_C = f'device.capacity["{DRIVER}"]'
_T = f'device.attributes["{TOPOLOGY}"]'
_S = f'device.attributes["{STANDARD}"]'


def _model(number: int) -> str:
    return MODELS[number // 2 % len(MODELS)] if number % 2 else f"X{number} 96GB"


# The number is new for each selector; it is in the text, so no two are the same.
KINDS: dict[str, Callable[[int], str]] = {
    "driver==": lambda n: f'device.driver == "{DRIVER if n % 2 else "npu"}" && device.driver != "gpu{n}"',
    "model==": lambda n: f'{_A}.model == "{_model(n)}" || {_A}.model == "Y{n}"',
    "quantity": lambda n: f'{_C}.memory.compareTo(quantity("{n % 160}.{n}Gi")) >= 0',
    "semver": lambda n: f'{_A}.driverVersion.compareTo(semver("{520 + n % 50}.{n}.0")) >= 0',
    "in": lambda n: f'{_A}.model in ["{_model(n)}", "A{n}", "B{n}"]',
    "has": lambda n: f"has({_A}.nvlink) && {_A}.nvlink != {n}",
    "regex": lambda n: f'{_A}.model.matches("^(A100|H{n}00|L4).*[48]0GB$")',
    "bind": lambda n: f'cel.bind(card, {_A}, card.architecture == "H" && card.model != "H{n}")',
    "optional": lambda n: f'{_T}.?rack.orValue("none") == "rack-{n}"',
    "multi": lambda n: f'device.allowMultipleAllocations && device.driver != "gpu{n}"',
    "includes": lambda n: f'{_A}.features.includes("{_FEATURES[n % 6]}") || {_A}.features.includes("f{n}")',
    "strings": lambda n: f'{_A}.model.lowerAscii().startsWith("{"ahlt"[n % 4]}") && {_A}.vendor != "v{n}"',
    "sets": lambda n: f'sets.intersects({_A}.features, ["{_FEATURES[n % 6]}", "f{n}"])',
    "all": lambda n: (
        f'device.driver == "{DRIVER}" && {_A}.architecture in ["A", "H"]'
        f' && {_C}.memory.compareTo(quantity("{n % 100}.{n}Gi")) >= 0'
        f' && {_A}.driverVersion.isGreaterThan(semver("{530 + n % 30}.{n}.0"))'
        f' && {_S}.numaNode == {n % 2} && {_A}.model != "X{n}"'
    ),
}


class Selectors:
    """Makes selectors that have not been made before, the kinds in turn."""

    def __init__(self) -> None:
        # A number for each round over all kinds, so that odd and even ones alternate in each kind.
        self._all = ((kind, make(number)) for number in itertools.count(1) for kind, make in KINDS.items())

    def take(self, count: int) -> list[tuple[str, str]]:
        """The next selectors, each with its kind."""
        return list(itertools.islice(self._all, count))
