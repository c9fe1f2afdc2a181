"""Nodes that differ in one respect are told apart, in answers about all nodes too."""

from __future__ import annotations

from typing import Any

import pytest

from driver.allocation import Snapshot
from driver.allocation.cluster import Cluster
from tests.driver.allocation.builders import DRIVER, card, claim, device_class, exclusive, pool, request
from tests.driver.allocation.cluster.clusters import check

JSON = dict[str, Any]
LARGE = 'device.attributes["dragoman.dev"].size > 1'


def held(pool_name: str, device: str = "d0", **more: Any) -> JSON:
    result = {"request": "r", "driver": DRIVER, "pool": pool_name, "device": device, **more}
    return {
        "metadata": {"uid": f"{pool_name}-{device}-{len(more)}"},
        "status": {"allocation": {"devices": {"results": [result]}}},
    }


def share(pool_name: str, memory: str, device: str = "d0") -> JSON:
    return held(pool_name, device, shareID="s", consumedCapacity={"memory": memory, "cores": "0"})


def rooted(name: str, root: str | None, **more: Any) -> JSON:
    attributes = {} if root is None else {"root": {"string": root}}
    return card(name, attributes=attributes, **more)


def sized(name: str, size: int | None) -> JSON:
    return card(name, attributes={} if size is None else {"size": {"int": size}})


def partitions(node: str, units: str, *sizes: int) -> list[JSON]:
    draws = [{"counterSet": "c", "counters": {"units": {"value": "3"}}}]
    about: dict[str, Any] = {"pool": {"name": node, "generation": 1, "resourceSliceCount": 2}}
    devices = [
        exclusive(f"d{place}", consumesCounters=draws, attributes={"size": {"int": size}})
        for place, size in enumerate(sizes or (2, 2))
    ]
    sets = [{"name": "c", "counters": {"units": {"value": units}}}]
    return [
        pool(*devices, node=node, slice_name=f"{node}-1", **about),
        pool(node=node, slice_name=f"{node}-2", sharedCounters=sets, **about),
    ]


COMMON = pool(
    {**sized("d0", 2), "nodeName": "a"},
    {**sized("d1", 0), "nodeName": "b"},
    node="",
    name="common",
    perDeviceNodeSelection=True,
)
TAINT = [{"key": "k", "effect": "NoSchedule"}]
TOLERATED = [{"operator": "Exists"}]
MATCH = [{"matchAttribute": f"{DRIVER}/root"}]
DISTINCT = [{"distinctAttribute": f"{DRIVER}/root"}]
HALF = {"memory": "50Gi"}

CASES: dict[str, tuple[list[JSON], list[JSON], JSON | list[JSON], tuple[str, ...]]] = {
    "a taint": (
        [pool(card("d0", taints=TAINT), node="a"), pool(card("d0"), node="b")],
        [],
        claim(request()),
        ("b",),
    ),
    "a tolerated taint": (
        [pool(card("d0", taints=TAINT), node="a"), pool(card("d0"), node="b")],
        [],
        claim(request(tolerations=TOLERATED)),
        ("a", "b"),
    ),
    "a device held as a whole": (
        [pool(exclusive("d0"), node="a"), pool(exclusive("d0"), node="b")],
        [held("a")],
        claim(request()),
        ("b",),
    ),
    "shares of a device that cannot be shared any more": (
        [pool(exclusive("d0"), node="a"), pool(exclusive("d0"), node="b")],
        [share("a", "1Gi")],
        claim(request()),
        ("b",),
    ),
    "admin access to what is held": (
        [pool(exclusive("d0"), node="a"), pool(exclusive("d0"), node="b")],
        [held("a")],
        claim(request(adminAccess=True)),
        ("a", "b"),
    ),
    "what is left of a card": (
        [pool(card("d0"), node="a"), pool(card("d0"), node="b")],
        [share("a", "40Gi")],
        claim(request(ask={"memory": "41Gi"})),
        ("b",),
    ),
    "what is left by several shares": (
        [pool(card("d0"), node="a"), pool(card("d0"), node="b")],
        [share("a", "20Gi"), share("b", "20Gi"), {**share("b", "20Gi"), "metadata": {"uid": "more"}}],
        claim(request(ask=HALF)),
        ("a",),
    ),
    "a card that is drawn over": (
        [pool(card("d0", "20Gi"), node="a"), pool(card("d0"), node="b")],
        [share("a", "40Gi"), share("b", "40Gi")],
        claim(request(ask={"memory": "1Mi"})),
        ("b",),
    ),
    "room for both requests on one card": (
        [
            pool(card("d0", "80Gi"), node="a"),
            pool(card("d0", "120Gi"), node="b"),
            pool(card("d0"), card("d1"), node="c"),
        ],
        [],
        claim(request("x", ask=HALF), request("y", ask=HALF)),
        ("b", "c"),
    ),
    "room for both requests by what is held": (
        [pool(card("d0", "120Gi"), node="a"), pool(card("d0", "120Gi"), node="b")],
        [share("a", "60Gi"), share("b", "20Gi")],
        claim(request("x", ask=HALF), request("y", ask=HALF)),
        ("b",),
    ),
    "room for more requests than are combined": (
        [pool(card("d0", "40Gi"), node="a"), pool(card("d0", "40Gi"), node="b")],
        [share("a", "10Gi")],
        claim(*(request(f"r{size}", ask={"memory": f"{size}Gi"}) for size in range(1, 9))),
        ("b",),
    ),
    "equal values": (
        [
            pool(rooted("d0", "x"), rooted("d1", "y"), node="a"),
            pool(rooted("d0", "y"), rooted("d1", "y"), node="b"),
        ],
        [],
        claim(request(count=2), constraints=MATCH),
        ("b",),
    ),
    "distinct values": (
        [
            pool(rooted("d0", "x"), rooted("d1", "y"), node="a"),
            pool(rooted("d0", "y"), rooted("d1", "y"), node="b"),
        ],
        [],
        claim(request(count=2), constraints=DISTINCT),
        ("a",),
    ),
    "a value that is missing": (
        [pool(rooted("d0", None), node="a"), pool(rooted("d0", "x"), node="b")],
        [],
        claim(request(), constraints=MATCH),
        ("b",),
    ),
    "a list where lists are not compared": (
        [
            pool(card("d0", attributes={"root": {"strings": ["x"]}}), node="a"),
            pool(rooted("d0", None), node="b"),
        ],
        [],
        claim(request(), constraints=MATCH),
        ("a",),
    ),
    "a selector that raises first": (
        [
            pool(sized("d0", None), sized("d1", 2), node="a"),
            pool(sized("d0", 2), sized("d1", None), node="b"),
        ],
        [],
        claim(request(selectors=[LARGE])),
        ("b",),
    ),
    "all devices, of which one is held": (
        [pool(exclusive("d0"), exclusive("d1"), node="a"), pool(exclusive("d0"), exclusive("d1"), node="b")],
        [held("a", "d1")],
        claim(request(allocationMode="All")),
        ("b",),
    ),
    "all devices of a pool that lacks a slice": (
        [
            pool(card("d0"), node="a", pool={"name": "a", "generation": 1, "resourceSliceCount": 2}),
            pool(card("d0"), node="b"),
        ],
        [],
        claim(request(allocationMode="All")),
        ("b",),
    ),
    "two devices of one name": (
        [pool(card("d0"), card("d0"), node="a"), pool(card("d0"), node="b")],
        [],
        claim(request()),
        ("b",),
    ),
    "counters": ([*partitions("a", "3"), *partitions("b", "6")], [], claim(request(count=2)), ("b",)),
    "counters that others draw on": (
        [*partitions("a", "6"), *partitions("b", "6")],
        [held("a", "d0")],
        claim(request("x"), request("y", count=1)),
        ("b",),
    ),
    "counters that a device draws on which nobody asks for": (
        [*partitions("a", "3", 0, 2), *partitions("b", "3", 0, 2)],
        [held("a", "d0")],
        claim(request(selectors=[LARGE])),
        ("b",),
    ),
    "admin access to what the pod has, which only a device that is not shared allows": (
        [pool(exclusive("d0"), node="a"), pool(card("d0"), node="b")],
        [],
        [
            claim(request(ask={"memory": "50Gi"}), name="c1"),
            claim(request(ask={"memory": "50Gi"}, adminAccess=True), name="c2"),
        ],
        ("a",),
    ),
    "a selector that raises on a device before the one that fits": (
        [pool(sized("d0", None), sized("d1", 2), node="a"), pool(sized("d0", 0), sized("d1", 2), node="b")],
        [],
        claim(request("x", selectors=[LARGE]), request("y")),
        ("b",),
    ),
    "all devices of a kind, where a pool without any of them lacks a slice": (
        [
            pool(sized("d0", 0), node="a", pool={"name": "a", "generation": 1, "resourceSliceCount": 2}),
            pool(sized("d0", 2), node="b"),
        ],
        [],
        claim(request(allocationMode="All", selectors=[LARGE])),
        ("b",),
    ),
    "devices of a common pool that are for one of them": (
        [pool(node="a"), pool(node="b"), COMMON],
        [],
        claim(request(selectors=[LARGE])),
        ("a",),
    ),
    "more than anybody counts with, all of it held": (
        [pool(card("d0", "1e40"), node="a"), pool(card("d0"), node="b")],
        [share("a", "1e40")],
        claim(request(ask=HALF)),
        ("b",),
    ),
    "more than anybody counts with": (
        [pool(card("d0", "1e40"), node="a"), pool(card("d0"), node="b")],
        [],
        claim(request("x", ask=HALF), request("y", ask=HALF)),
        ("a",),
    ),
    "a device with an unknown field": (
        [pool(card("d0", unheardOf=1), node="a"), pool(card("d0"), node="b")],
        [],
        claim(request()),
        ("b",),
    ),
}


@pytest.mark.parametrize("what", CASES)
@pytest.mark.parametrize("release", ["1.36", "1.37"])
def test_nodes_are_told_apart_by(what: str, release: str) -> None:
    slices, claims, asked, feasible = CASES[what]
    wanted = asked if isinstance(asked, list) else [asked]
    cluster = Cluster.build(Snapshot.build(slices=slices, classes=[device_class()]), claims=claims)
    snapshot = Snapshot.build(slices=slices, classes=[device_class()], claims=claims)
    check(cluster, snapshot, wanted, release)
    assert cluster.answers(wanted, release=release).feasible == feasible
