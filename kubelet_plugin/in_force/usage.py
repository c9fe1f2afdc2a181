"""What is really used of shares, as HAMi-core counts it, and who is alone on a card.

Flow: each round reads the region of every share that the preload library holds -> metrics by namespace,
pod, container, claim and device -> for shares with `corePolicy: default` the region's switch: off while
nobody else computes on the card, on otherwise.

Source of the switch: HAMi's monitor does the same every five seconds. Two things it does differently, on
purpose. It takes for active what has launched a kernel within a few seconds by the region's own clock,
where HAMi counts down a number in the region, which only containers with a cap ever set. And who waits for
whom does not stand in the regions: `kubelet_plugin.in_force.priority`.

Limits: a container can write its region as it likes. It then spoils its own series, and others' relief
from a cap that they agreed to give up: never a limit of others. At most `MAX_SERIES` series of each
metric.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

import structlog

from driver.api.share_config import CorePolicy
from driver.cards import IsolationLevel
from driver.host import Host
from driver.isolation.region import (
    UTILIZATION_SWITCH,
    Region,
    RegionError,
    read_region,
    write_number,
)
from driver.quantities import MIB
from kubelet_plugin.metrics import Metrics
from kubelet_plugin.prepare.records import ShareRecord

log = structlog.get_logger(__name__)

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

Holder = tuple[str, str]
"""A claim's UID and a request of it, whose share on a card counts in one region."""


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


def wanted_switches(
    uses: Collection[Use], *, holders: Mapping[str, Collection[Holder]], now: float
) -> dict[str, int]:
    """What the switch of each region has to be whose author lets go of the cap while nobody else computes.

    Args:
        uses: All shares of the node with a region.
        holders: The shares of each card that are prepared, with a region or without. One whose activity
            nobody knows counts as active, however many regions others have.
        now: Seconds since 1970.

    Returns:
        0 (no cap) or 1 by the region's file, for regions of `corePolicy: default` only.
    """
    known: dict[str, dict[str, bool]] = {}
    seen: dict[str, set[Holder]] = {}
    for use in uses:
        active = now - use.region.last_kernel <= ACTIVE_S
        known.setdefault(use.record.share.device, {})[use.path] = active
        seen.setdefault(use.record.share.device, set()).add(holder_of(use.record))
    wanted: dict[str, int] = {}
    for use in uses:
        if not is_relieved(use.record):
            continue
        device = use.record.share.device
        others = [active for path, active in known[device].items() if path != use.path]
        alone = not any(others) and seen[device].issuperset(holders.get(device, ()))
        # A region with several cards has one switch: it is off only if it is alone on all of them.
        wanted[use.path] = max(wanted.get(use.path, 0), 0 if alone else 1)
    return wanted


def holder_of(record: ShareRecord) -> Holder:
    """Who holds a share, for `wanted_switches`."""
    return record.share.claim_uid, record.share.request


def is_relieved(record: ShareRecord) -> bool:
    """Whether the cap of a share holds only while others compute, and it is the region that says so."""
    return (
        record.core_policy == CorePolicy.DEFAULT
        and record.share.limits_cores
        and record.cores_level is IsolationLevel.PRELOAD
    )


def write_switches(uses: Iterable[Use], wanted: Mapping[str, int], *, host: Host) -> int:
    """Writes the switches that differ.

    Returns:
        How many were written.
    """
    present = {use.path: use.region.utilization_switch for use in uses}
    differing = [(path, value) for path, value in wanted.items() if present.get(path) != value]
    return sum(_write(path, value, host=host) for path, value in differing)


def give_caps_back(wanted: Mapping[str, int], *, host: Host, but: Collection[str] = ()) -> None:
    """Switches the cap on again wherever it was off.

    Args:
        wanted: What the switches were set to, by the region's file.
        host: The node.
        but: Files of regions that somebody looks after.
    """
    for path, value in wanted.items():
        if value == 0 and path not in but:
            _write(path, 1, host=host)


def _write(path: str, value: int, *, host: Host) -> bool:
    try:
        write_number(path, field=UTILIZATION_SWITCH, value=value, host=host)
    except OSError as failed:
        log.debug("switch of a region not written", error=str(failed))
        return False
    return True
