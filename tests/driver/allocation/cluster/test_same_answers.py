"""A cluster says what asking each of its nodes would say, whatever is asked and whatever happened before."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from driver.allocation import Snapshot
from driver.allocation.cluster import Cluster
from tests.driver.allocation.cluster.clusters import (
    CLASSES,
    LABELS,
    NODES,
    check,
    network,
    pods,
    slices_of,
    worlds,
)

JSON = dict[str, Any]


def snapshot_of(slices: list[JSON], held: list[JSON]) -> Snapshot:
    return Snapshot.build(slices=slices, classes=CLASSES, claims=held, nodes=LABELS)


@settings(max_examples=25, deadline=None)
@given(slices=worlds(), some=st.lists(pods("p"), min_size=1, max_size=3))
@pytest.mark.parametrize("release", ["1.36", "1.37"])
def test_each_node_and_the_first_node_are_answered_as_the_allocator_answers(
    slices: list[JSON], some: list[list[JSON]], release: str
) -> None:
    snapshot = snapshot_of(slices, [])
    cluster = Cluster.build(snapshot)
    for claims in some:
        check(cluster, snapshot, claims, release)


@st.composite
def steps(draw: st.DrawFn) -> list[tuple[str, Any]]:
    """What happens: pods come and go, slices change."""
    found: list[tuple[str, Any]] = []
    for number in range(draw(st.integers(1, 7))):
        kind = draw(st.integers(0, 9))
        if kind < 6:
            found.append(("pod", draw(pods(f"p{number}"))))
        elif kind < 8:
            found.append(("release", draw(st.integers(0, 5))))
        elif kind == 8:
            node = draw(st.sampled_from(NODES))
            found.append(("node", (node, draw(slices_of(node)))))
        else:
            found.append(("network", draw(network())))
    return found


@settings(max_examples=25, deadline=None)
@given(slices=worlds(), happens=steps())
def test_what_follows_changes_is_what_is_built_from_the_result(
    slices: list[JSON], happens: list[tuple[str, Any]]
) -> None:
    known = {one["metadata"]["name"]: one for one in slices}
    held: dict[str, JSON] = {}
    cluster = Cluster.build(snapshot_of(slices, []))
    for what, about in happens:
        snapshot = snapshot_of(list(known.values()), list(held.values()))
        if what == "pod":
            found = check(cluster, snapshot, about)
            assert found == check(Cluster.build(snapshot), snapshot, about)
            if found.allocations is not None:
                come = [
                    {**one, "status": {"allocation": allocation}}
                    for one, allocation in zip(about, found.allocations, strict=True)
                ]
                held |= {one["metadata"]["uid"]: one for one in come}
                cluster = cluster.with_claims(changed=come)
        elif what == "release" and held:
            uid = sorted(held)[about % len(held)]
            del held[uid]
            cluster = cluster.with_claims(removed=[uid])
        elif what in {"node", "network"}:
            gone = [name for name in known if name.startswith(about[0] if what == "node" else "network")]
            come = about[1] if what == "node" else about
            for name in gone:
                del known[name]
            known |= {one["metadata"]["name"]: one for one in come}
            cluster = cluster.with_slices(changed=come, removed=gone)
