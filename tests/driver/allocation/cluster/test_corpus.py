"""The cases of the corpus, asked of a cluster: the answers are those of asking each node."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from driver.allocation import Snapshot
from driver.allocation.cluster import Cluster
from tests.driver.allocation.cluster.clusters import check
from tests.driver.allocation.test_corpus import cases

HELD = ("devices", "shares")


def compare(case: dict[str, Any], release: str) -> int:
    """Ask about a case; returns how many nodes can serve its claims."""
    held: list[dict[str, Any]] = [
        {
            "metadata": {"uid": f"held-{number}"},
            "status": {"allocation": {"devices": {"results": [{"request": "r", **result}]}}},
        }
        for number, result in enumerate(
            itertools.chain.from_iterable(case["allocated"].get(kind, ()) for kind in HELD)
        )
    ]
    parts: dict[str, Any] = {
        "slices": case["slices"],
        "classes": case["classes"],
        "nodes": [{"metadata": node} for node in case["nodes"]],
    }
    cluster = Cluster.build(Snapshot.build(**parts), claims=held)
    check(cluster, Snapshot.build(**parts, claims=held), case["claims"], release)
    gone = Cluster.build(Snapshot.build(**parts), claims=held).with_claims(
        removed=[one["metadata"]["uid"] for one in held]
    )
    check(gone, Snapshot.build(**parts), case["claims"], release)
    return len(cluster.answers(case["claims"], release=release).feasible)


@pytest.mark.parametrize(("release", "first"), [("1.36", 0), ("1.37", 4)])
def test_a_cluster_answers_a_slice_of_the_cases_as_each_node_answers_them(release: str, first: int) -> None:
    handwritten = itertools.islice(cases("handwritten"), first, None, 6)
    random = itertools.islice(cases("random"), first, None, 200)
    assert sum(compare(case, release) > 0 for case in itertools.chain(handwritten, random)) > 10


@pytest.mark.long
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("release", ["1.36", "1.37"])
def test_a_cluster_answers_all_cases_as_each_node_answers_them(release: str) -> None:
    every = itertools.chain(cases("handwritten"), cases("random"))
    assert sum(compare(case, release) > 0 for case in every) > 500
