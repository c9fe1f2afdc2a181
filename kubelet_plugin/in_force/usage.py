"""What is really used of shares, as HAMi-core counts it, and who computes.

Flow: each round reads the region of every share that the preload library holds -> metrics by namespace,
pod, container, claim and device; whose cap is off (`kubelet_plugin.in_force.relief`) and who waits for whom
(`kubelet_plugin.in_force.priority`) follows from it.

Limits: a container can write its region as it likes. It then spoils its own series, and others' relief
from a cap that they agreed to give up: never a limit of others. At most `MAX_SERIES` series of each
metric.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from driver.cards import IsolationLevel
from driver.host import Host
from driver.isolation.region import Region, RegionError, read_region
from driver.quantities import MIB
from kubelet_plugin.metrics import Metrics
from kubelet_plugin.prepare.records import ShareRecord

MAX_SERIES = 512
ACTIVE_S = 10
"""Who launched a kernel within so many seconds is active; the library notes launches once a second."""

SERIES = (
    "share_memory_used_bytes",
    "share_memory_limit_bytes",
    "share_compute_used_percent",
    "share_compute_limit_percent",
    "share_processes",
    "share_last_launch_timestamp_seconds",
    "share_waiting",
)


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where a share is used: the labels of its series."""

    namespace: str
    pod: str
    container: str
    claim: str
    device: str

    def labels(self) -> dict[str, str]:
        """As keyword arguments."""
        return {
            "namespace": self.namespace,
            "pod": self.pod,
            "container": self.container,
            "claim": self.claim,
            "device": self.device,
        }


@dataclass(frozen=True, kw_only=True)
class Use:
    """A share and its region at one moment.

    Attributes:
        place: Where it is used.
        record: The share.
        region: What its region said.
        path: The region's file.
    """

    place: Place
    record: ShareRecord
    region: Region
    path: str

    def computes(self, *, now: float) -> bool:
        """Whether it launched a kernel lately, by its region's clock, which is the node's.

        A launch in the future is none: a container can write any time there, and would compute for ever.

        Args:
            now: Seconds since 1970.
        """
        return abs(now - self.region.last_kernel) <= ACTIVE_S


def read_uses(places: Iterable[tuple[Place, ShareRecord, str]], *, host: Host) -> list[Use]:
    """Reads the region of each share, each file once; those that cannot be read are left out.

    Args:
        places: The shares that containers use now, each with the file of the region that its container uses.
        host: The node.
    """
    regions: dict[str, Region | None] = {}
    found = []
    for place, record, path in places:
        if IsolationLevel.PRELOAD not in (record.memory_level, record.cores_level):
            continue
        if path not in regions:
            try:
                regions[path] = read_region(path, host=host)
            except (OSError, RegionError):
                regions[path] = None
        region = regions[path]
        if region is not None:
            found.append(Use(place=place, record=record, region=region, path=path))
    return found


def post(uses: Iterable[Use], *, metrics: Metrics, waiting: Mapping[str, bool]) -> None:
    """Sets the series of what is used now; those of before are gone.

    Args:
        uses: The shares.
        metrics: The table.
        waiting: Whether it waits, for the file of each region that can be made to.
    """
    values: dict[Place, dict[str, float]] = {}
    for use in uses:
        share, index = use.record.share, use.record.index
        if len(values) >= MAX_SERIES and use.place not in values:
            continue
        mine = values.setdefault(use.place, {})
        _add(mine, "share_memory_used_bytes", use.region.used(index))
        _add(mine, "share_compute_used_percent", use.region.compute(index))
        _add(mine, "share_processes", len(use.region.processes))
        if share.limits_memory:
            _add(mine, "share_memory_limit_bytes", share.memory_mib * MIB)
        if share.limits_cores:
            _add(mine, "share_compute_limit_percent", share.cores_percent)
        if use.path in waiting:
            mine["share_waiting"] = waiting[use.path]
        mine["share_last_launch_timestamp_seconds"] = min(use.region.last_kernel, 1 << 40)
    for name in SERIES:
        metrics.clear(name)
    for place, mine in values.items():
        for name, value in mine.items():
            metrics.gauge(name, value, **place.labels())


def _add(values: dict[str, float], name: str, value: float) -> None:
    values[name] = values.get(name, 0) + value
