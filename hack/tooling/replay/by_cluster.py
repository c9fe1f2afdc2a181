"""The same questions put to `driver.allocation.cluster`, which answers for all nodes of a cluster at once.

Limits: a cluster is one with the features of a stock release; other cases have no answer here.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Mapping
from typing import Any

from driver.allocation import Snapshot
from driver.allocation.cluster import Cluster
from tooling.replay.allocations import as_answer, held
from tooling.replay.generate_allocator import STOCK
from tooling.replay.judge import compare


def differing_nodes(case: Mapping[str, Any], answered: Mapping[str, Any], *, release: str) -> list[str]:
    """The nodes for which the cluster says something else than was answered, or than it says of all nodes.

    Args:
        case: A case with the features of a stock cluster.
        answered: What `tooling.replay.allocations` answered.
        release: Whose rules apply.
    """
    cluster = Cluster.build(
        Snapshot.build(
            slices=case["slices"],
            classes=case["classes"],
            nodes=[{"metadata": node} for node in case["nodes"]],
        ),
        claims=[
            {"metadata": {"name": f"held-{place}", "namespace": "default", "uid": f"uid-held-{place}"}, **one}
            for place, one in enumerate(held(case["allocated"], shares=True))
        ],
    )
    answers = cluster.answers(case["claims"], release=release)
    feasible = set(answers.feasible)
    differing = []
    for mine in answered["nodes"]:
        found = as_answer(answers.decision(mine["node"]))
        fits = mine["allocations"] is not None
        if not compare(_renamed(found), mine).exact or (mine["node"] in feasible) != fits:
            differing.append(mine["node"])
    return differing


def is_stock(case: Mapping[str, Any]) -> bool:
    """Whether a case has the features of a stock cluster."""
    return {name for name, on in case["features"].items() if on} == set(STOCK)


def _renamed(answer: dict[str, Any]) -> dict[str, Any]:
    numbers = itertools.count()
    renamed = copy.deepcopy(answer)
    for one in renamed["allocations"] or ():
        for result in one.get("devices", {}).get("results", ()):
            if "shareID" in result:
                result["shareID"] = f"share-{next(numbers)}"
    return renamed
