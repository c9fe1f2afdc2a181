"""Cases of the allocation corpus, answered by `driver.allocation`.

Purpose: nothing but a case's inputs is used; `inputs` takes everything else away before anything is read.

Flow: one snapshot for a case, one decision for each node of `tryNodes`; share ids are counted over all claims
of a decision, as in the corpus.

Limits: a case that cannot be decided gets an answer too: an `errorKind` of `not-supported`, `search-limit`,
`invalid-input` or `internal-error`.
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
from collections.abc import Iterator, Mapping
from typing import Any

from driver.allocation import Decision, Features, Snapshot, allocate, error_kind
from driver.errors import DragomanError
from tooling.replay.check import AllocationCheck
from tooling.replay.lines import Line, read
from tooling.replay.progress import Progress

INPUTS = ("id", "features", "nodes", "slices", "classes", "allocated", "claims", "tryNodes")
SHARES = "consumableCapacity"

_LISTS = ("nodes", "slices", "classes", "claims", "tryNodes")


def inputs(line: Line) -> dict[str, Any]:
    """The inputs of a case and nothing else.

    Raises:
        ReplayError: The line is no case.
    """
    case = {name: line.value[name] for name in INPUTS if name in line.value}
    if not isinstance(case.get("id"), str):
        raise line.wrong("a case needs an 'id', a string")
    for name in _LISTS:
        if not isinstance(case.setdefault(name, []), list):
            raise line.wrong(f"case {case['id']}: {name!r} has to be a list")
    for name in ("features", "allocated"):
        if not isinstance(case.setdefault(name, {}), dict):
            raise line.wrong(f"case {case['id']}: {name!r} has to be an object")
    return case


def answer(case: Mapping[str, Any], *, release: str) -> dict[str, Any]:
    """Answer a case, in the form of the corpus' `expected`."""
    features = frozenset(name for name, on in case["features"].items() if on)
    try:
        snapshot = Snapshot.build(
            slices=case["slices"],
            classes=case["classes"],
            claims=list(held(case["allocated"], shares=SHARES in features)),
            nodes=[{"metadata": node} for node in case["nodes"]],
        )
        nodes = [
            decide(snapshot, case["claims"], node=node, release=release, features=features)
            for node in case["tryNodes"]
        ]
    except Exception as error:  # noqa: BLE001 - an error of ours is an answer to be seen, not an end
        kind = "invalid-input" if isinstance(error, DragomanError) else "internal-error"
        print(f"case {case['id']}: {kind}: {error!r}", file=sys.stderr)
        nodes = [{"node": node, "allocations": None, "errorKind": kind} for node in case["tryNodes"]]
    return {"id": case["id"], "nodes": nodes}


def decide(
    snapshot: Snapshot, claims: list[Any], *, node: str, release: str, features: frozenset[str]
) -> dict[str, Any]:
    """Answer for one node."""
    numbers = itertools.count()
    decision = allocate(
        snapshot,
        node=node,
        claims=claims,
        release=release,
        share_id=lambda: f"share-{next(numbers)}",
        features=Features.named(features),
    )
    return as_answer(decision)


def as_answer(decision: Decision) -> dict[str, Any]:
    """A decision in the form of the corpus."""
    if decision.allocations is not None:
        return {"node": decision.node, "allocations": list(decision.allocations)}
    refused: dict[str, Any] = {"node": decision.node, "allocations": None}
    kind = error_kind(decision.refusal) if decision.refusal else None
    return refused | ({"errorKind": kind} if kind else {})


def held(allocated: Mapping[str, Any], *, shares: bool) -> Iterator[dict[str, Any]]:
    """Claims that hold what a case says is held; without shares, each holds the device as a whole."""
    for result in [*(allocated.get("devices") or ()), *(allocated.get("shares") or ())]:
        kept = result if shares else {name: result[name] for name in ("driver", "pool", "device")}
        yield {"status": {"allocation": {"devices": {"results": [{"request": "r", **kept}]}}}}


def run(options: argparse.Namespace) -> int:
    """The command `allocator`; returns the exit status."""
    release = options.kubernetes or "1.36"
    check, progress = AllocationCheck(release), Progress("allocations")
    for line in read(sys.stdin.buffer):
        ours = answer(inputs(line), release=release)
        for said in check.add(line, ours) if options.check else [json.dumps(ours)]:
            print(said)
        progress.step()
    progress.end()
    return check.close() if options.check else 0
