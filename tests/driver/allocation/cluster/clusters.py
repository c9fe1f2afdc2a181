"""Small clusters with everything in them that makes nodes differ, and claims that notice."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from hypothesis import strategies as st

from driver.allocation import Decision, Snapshot, allocate, error_kind, node_only
from driver.allocation.cluster import Cluster
from tests.driver.allocation.builders import CORES_POLICY, DRIVER, MEMORY_POLICY, claim, device_class

JSON = dict[str, Any]
NODES = ("n0", "n1", "n2", "n3")

CLASSES = [device_class(), device_class("large", 'device.attributes["dragoman.dev"].size > 1')]

SELECTORS = (
    'device.attributes["dragoman.dev"].size > 0',
    'device.attributes["dragoman.dev"].vendor == "b"',
    'device.attributes["other.dev"].rare == true',
    "device.allowMultipleAllocations",
    'device.capacity["dragoman.dev"].memory.compareTo(quantity("20Gi")) > 0',
    "this is no expression",
)


@st.composite
def devices(draw: st.DrawFn, name: str, *, counters: bool = False) -> JSON:
    attributes: JSON = {
        "size": {"int": draw(st.integers(0, 3))},
        "vendor": {"string": draw(st.sampled_from("ab"))},
        "root": {"string": draw(st.sampled_from("xy"))},
    }
    if draw(st.booleans()):
        attributes["other.dev/rare"] = {"bool": draw(st.booleans())}
    if not draw(st.integers(0, 9)):
        del attributes["root"]
    one: JSON = {"name": name, "attributes": attributes}
    memory = draw(st.sampled_from(("16Gi", "40Gi", "80Gi")))
    if draw(st.integers(0, 3)):
        one["allowMultipleAllocations"] = True
        one["capacity"] = {
            "memory": {"value": memory, "requestPolicy": {"default": memory, **MEMORY_POLICY}},
            "cores": {"value": "100", "requestPolicy": CORES_POLICY},
        }
    else:
        one["capacity"] = {"memory": {"value": memory}}
    peculiar(one, draw(st.integers(0, 30)))
    if counters:
        units = {"units": {"value": str(draw(st.integers(1, 3)))}}
        one["consumesCounters"] = [{"counterSet": "c", "counters": units}]
    return one


def peculiar(one: JSON, kind: int) -> None:
    """Make a device peculiar, for a few kinds."""
    if kind == 0:
        one["taints"] = [{"key": "k", "effect": "NoSchedule"}]
    elif kind == 1:
        one["attributes"]["broken"] = {"version": "none"}
    elif kind == 2:
        one["somethingNew"] = 1
    elif kind == 3:
        one["bindingConditions"] = ["ready"]
        one["bindingFailureConditions"] = ["failed"]
    elif kind == 4:
        one["capacity"]["memory"]["value"] = "1e40"
    elif kind == 5:
        one["attributes"]["root"] = {"strings": ["x", "y"]}


@st.composite
def slices_of(draw: st.DrawFn, node: str) -> list[JSON]:
    """The slices of a node; usually one, now and then something peculiar."""
    kind = draw(st.integers(0, 9))
    generation = draw(st.integers(1, 2))
    pool = node if kind != 1 else "common"
    counters = kind == 2
    count = draw(st.integers(0, 4))
    names = [f"d{place}" for place in range(count)]
    if kind == 3 and count > 1:
        names[1] = names[0]
    one: JSON = {
        "metadata": {"name": f"{node}-slice"},
        "spec": {
            "driver": DRIVER,
            "nodeName": node,
            "pool": {"name": pool, "generation": generation, "resourceSliceCount": 1},
            "devices": [draw(devices(name, counters=counters)) for name in names],
        },
    }
    if kind == 1:
        one["spec"]["pool"] |= {"resourceSliceCount": draw(st.integers(1, 4)), "generation": 1}
    if kind == 4:
        one["spec"]["pool"]["resourceSliceCount"] = 2
    result = [one]
    if counters:
        sets = [{"name": "c", "counters": {"units": {"value": "4"}}}]
        result.append(
            {
                "metadata": {"name": f"{node}-counters"},
                "spec": {
                    "driver": DRIVER,
                    "nodeName": node,
                    "pool": {"name": pool, "generation": generation, "resourceSliceCount": 2},
                    "sharedCounters": sets,
                },
            }
        )
        one["spec"]["pool"]["resourceSliceCount"] = 2
    if kind == 5:
        result.append(
            {
                "metadata": {"name": f"{node}-another"},
                "spec": {
                    "driver": draw(st.sampled_from((DRIVER, "a.dev"))),
                    "nodeName": node,
                    "pool": {"name": f"{node}-b", "generation": 1, "resourceSliceCount": 1},
                    "devices": [draw(devices("e0"))],
                },
            }
        )
    return result


@st.composite
def network(draw: st.DrawFn) -> list[JSON]:
    """A slice that names no node, or none."""
    kind = draw(st.integers(0, 7))
    spec: JSON = {
        "driver": DRIVER,
        "pool": {"name": draw(st.sampled_from(("a-net", "z-net"))), "generation": 1, "resourceSliceCount": 1},
        "devices": [draw(devices("net0")), draw(devices("net1"))],
    }
    terms = [{"matchExpressions": [{"key": "zone", "operator": "In", "values": ["z1"]}]}]
    if kind == 0:
        spec["allNodes"] = True
    elif kind == 1:
        spec["nodeSelector"] = {"nodeSelectorTerms": terms}
    elif kind == 2:
        spec["perDeviceNodeSelection"] = True
        spec["devices"][0]["nodeName"] = "n1"
        spec["devices"][1]["nodeSelector"] = {"nodeSelectorTerms": terms}
    else:
        return []
    return [{"metadata": {"name": "network"}, "spec": spec}]


LABELS = [
    {"metadata": {"name": name, "labels": {"zone": f"z{number % 2}"}}} for number, name in enumerate(NODES)
]


@st.composite
def worlds(draw: st.DrawFn) -> list[JSON]:
    found = [one for node in NODES for one in draw(slices_of(node))]
    return found + draw(network())


@st.composite
def options(draw: st.DrawFn) -> JSON:
    one: JSON = {"deviceClassName": draw(st.sampled_from(("any", "any", "large")))}
    if draw(st.booleans()):
        chosen = draw(st.sampled_from(SELECTORS[:5] * 3 + SELECTORS))
        one["selectors"] = [{"cel": {"expression": chosen}}]
    kind = draw(st.integers(0, 9))
    if kind == 0:
        one["allocationMode"] = "All"
    else:
        one["count"] = draw(st.sampled_from((1, 1, 1, 2, 3)))
    asked = {}
    if draw(st.booleans()):
        asked["memory"] = draw(st.sampled_from(("1Gi", "10Gi", "30Gi", "41Gi", "-1")))
    if draw(st.booleans()):
        asked["cores"] = draw(st.sampled_from(("0", "30", "60", "100")))
    if asked:
        one["capacity"] = {"requests": asked}
    if not draw(st.integers(0, 5)):
        one["tolerations"] = [{"operator": "Exists"}]
    return one


@st.composite
def requests(draw: st.DrawFn, name: str) -> JSON:
    kind = draw(st.integers(0, 7))
    if kind == 0:
        several = [{"name": f"s{place}", **draw(options())} for place in range(2)]
        return {"name": name, "firstAvailable": several}
    exactly = draw(options())
    if kind == 1:
        exactly["adminAccess"] = True
    return {"name": name, "exactly": exactly}


@st.composite
def asked(draw: st.DrawFn, name: str) -> JSON:
    wanted = [draw(requests(f"r{place}")) for place in range(draw(st.sampled_from((0, 1, 1, 1, 2, 2, 3))))]
    more: JSON = {}
    kind = draw(st.integers(0, 5))
    if wanted and kind < 3:
        attribute = draw(st.sampled_from(("root", "vendor", "size", "missing")))
        constraint: JSON = {("matchAttribute" if kind else "distinctAttribute"): f"{DRIVER}/{attribute}"}
        if draw(st.booleans()):
            constraint["requests"] = [wanted[0]["name"]]
        more["constraints"] = [constraint]
    one = claim(*wanted, name=name, **more)
    one["metadata"]["uid"] = name
    return one


@st.composite
def pods(draw: st.DrawFn, name: str) -> list[JSON]:
    return [draw(asked(f"{name}-{place}")) for place in range(draw(st.sampled_from((1, 1, 1, 2))))]


def same_id() -> str:
    return "share"


def expected_first(snapshot: Snapshot, names: Sequence[str], claims: list[JSON], release: str) -> Decision:
    """What asking each node in turn comes to."""
    refused: Decision | None = None
    for name in names:
        found = allocate(snapshot, node=name, claims=claims, release=release, share_id=same_id)
        if found.refusal is None:
            return found
        if error_kind(found.refusal) is not None and not node_only(found.refusal):
            return found
        refused = refused or found
    assert refused is not None
    return refused


def check(cluster: Cluster, snapshot: Snapshot, claims: list[JSON], release: str = "1.36") -> Decision:
    """A cluster says what asking each node says."""
    names = snapshot.node_names
    answers = cluster.answers(claims, release=release, share_id=same_id)
    assert not answers.undecided
    feasible = []
    for name in names:
        found = allocate(snapshot, node=name, claims=claims, release=release, share_id=same_id)
        assert answers.decision(name) == found
        if found.allocations is not None:
            feasible.append(name)
    assert list(answers.feasible) == feasible
    first = cluster.first(claims, release=release, share_id=same_id)
    assert _same(first, expected_first(snapshot, names, claims, release))
    backwards = names[::-1]
    found = cluster.first(claims, release=release, nodes=backwards, share_id=same_id)
    assert _same(found, expected_first(snapshot, backwards, claims, release))
    return first


def _same(one: Decision, other: Decision) -> bool:
    """Compare what was decided; a cluster may need fewer steps."""
    return replace(one, steps=0) == replace(other, steps=0)
