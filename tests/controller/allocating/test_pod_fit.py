"""Which nodes a pod may use."""

from __future__ import annotations

from typing import Any

import pytest

from controller.allocating.comparing import Comparison
from controller.allocating.pod_fit import Amounts, PodFacts, node_facts, pod_asks, pod_facts

PLENTY = Amounts(10**12, 10**12, 100)


def node(*, ready: bool = True, **spec: Any) -> Any:
    return node_facts(
        {
            "metadata": {"name": "n1", "uid": "u", "labels": {"zone": "a"}},
            "spec": spec,
            "status": {
                "allocatable": {"cpu": "4", "memory": "8Gi", "pods": "110"},
                "conditions": [{"type": "Ready", "status": str(ready)}],
            },
        }
    )


def pod(**spec: Any) -> PodFacts:
    return pod_facts({"metadata": {"name": "p"}, "spec": {"containers": [{}], **spec}})


def why(the_pod: PodFacts, the_node: Any, free: Amounts = PLENTY) -> str:
    return Comparison(the_pod).unfit("n1", the_node, free)


def container(cpu: str = "0", memory: str = "0", **fields: Any) -> Any:
    return {"resources": {"requests": {"cpu": cpu, "memory": memory}}, **fields}


def asks(**spec: Any) -> Amounts:
    return pod_asks({"metadata": {"name": "p"}, "spec": spec})


def test_a_plain_pod_may_use_a_plain_node() -> None:
    assert why(pod(), node()) == ""


def test_a_node_that_is_not_ready_is_not_used() -> None:
    assert "not Ready" in why(pod(), node(ready=False))


def test_a_cordoned_node_is_used_only_by_pods_that_tolerate_it() -> None:
    assert "cordoned" in why(pod(), node(unschedulable=True))
    tolerant = pod(tolerations=[{"key": "node.kubernetes.io/unschedulable", "operator": "Exists"}])
    assert why(tolerant, node(unschedulable=True)) == ""


@pytest.mark.parametrize(
    ("toleration", "tolerated"),
    [
        ({}, False),
        ({"operator": "Exists"}, True),
        ({"key": "gpu", "operator": "Exists"}, True),
        ({"key": "gpu", "value": "yes"}, True),
        ({"key": "gpu", "operator": "Equal", "value": "no"}, False),
        ({"key": "gpu", "operator": "Exists", "effect": "NoExecute"}, False),
        ({"key": "other", "operator": "Exists"}, False),
    ],
)
def test_a_taint_keeps_pods_away_that_do_not_tolerate_it(toleration: Any, tolerated: bool) -> None:
    tainted = node(taints=[{"key": "gpu", "value": "yes", "effect": "NoSchedule"}])
    assert (why(pod(tolerations=[toleration] if toleration else []), tainted) == "") is tolerated


def test_a_preference_not_to_schedule_keeps_nobody_away() -> None:
    assert why(pod(), node(taints=[{"key": "gpu", "effect": "PreferNoSchedule"}])) == ""


def test_a_node_selector_wants_its_labels() -> None:
    assert why(pod(nodeSelector={"zone": "a"}), node()) == ""
    assert "zone=b" in why(pod(nodeSelector={"zone": "b"}), node())


@pytest.mark.parametrize(("zone", "fits"), [("a", True), ("b", False)])
def test_required_node_affinity_excludes_nodes(zone: str, fits: bool) -> None:
    term = {"matchExpressions": [{"key": "zone", "operator": "In", "values": [zone]}]}
    required = {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [term]}}
    assert (why(pod(affinity={"nodeAffinity": required}), node()) == "") is fits


def test_a_pod_made_for_another_node_is_not_moved() -> None:
    assert "another node" in why(pod(nodeName="n2"), node())


@pytest.mark.parametrize(
    ("free", "word"),
    [
        (Amounts(10**9 - 1, 10**12, 1), "processor"),
        (Amounts(10**12, 2**30 - 1, 1), "memory"),
        (Amounts(10**12, 10**12, 0), "pods"),
    ],
)
def test_a_node_without_room_is_not_used(free: Amounts, word: str) -> None:
    wants = pod(containers=[container("1", "1Gi")])
    assert word in why(wants, node(), free)


def test_a_pod_that_asks_for_nothing_fits_an_overcommitted_node() -> None:
    assert why(pod(), node(), Amounts(-1, -1, 1)) == ""


def test_containers_and_sidecars_add_up_and_init_containers_take_turns() -> None:
    asked = asks(
        containers=[container("1", "1Gi"), container("500m", "0")],
        initContainers=[
            container("200m", "100Mi", restartPolicy="Always"),
            container("1", "3Gi"),
            container("1", "2Gi"),
        ],
    )
    assert asked == Amounts(1_700_000_000, (3 << 30) + (100 << 20), 1)


def test_overhead_and_amounts_of_the_pod_as_a_whole_count() -> None:
    asked = asks(
        containers=[container("1", "1Gi")],
        resources={"requests": {"cpu": "3"}},
        overhead={"cpu": "100m", "memory": "1Mi"},
    )
    assert asked == Amounts(3_100_000_000, (1 << 30) + (1 << 20), 1)


def test_a_pod_that_is_done_asks_for_nothing() -> None:
    done = {
        "metadata": {},
        "spec": {"containers": [container("1", "1Gi")]},
        "status": {"phase": "Succeeded"},
    }
    assert pod_asks(done) == Amounts()


def test_what_a_node_has_is_read_from_allocatable() -> None:
    assert node().allocatable == Amounts(4 * 10**9, 8 << 30, 110)
