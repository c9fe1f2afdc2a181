"""One pod compared with many nodes."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.allocating import comparing
from controller.allocating.aside import aside
from controller.allocating.comparing import TOO_LONG, Comparison
from controller.allocating.pod_fit import Amounts, node_facts, pod_facts
from driver.allocation.models import NodeSelection
from driver.allocation.nodes import Node, matches
from tests.controller.allocating.world import World, card

FREE = Amounts(10**12, 10**12, 100)
Expression = dict[str, Any]


def node(name: str, labels: Mapping[str, str] = {}, *, taints: tuple[str, ...] = ()) -> Any:
    return node_facts(
        {
            "metadata": {"name": name, "labels": dict(labels)},
            "spec": {"taints": [{"key": key, "value": "", "effect": "NoSchedule"} for key in taints]},
            "status": {"conditions": [{"type": "Ready", "status": "True"}]},
        }
    )


def affinity(*terms: Expression) -> Any:
    return {"nodeSelectorTerms": list(terms)}


def pod(wanted: Any = None, tolerations: tuple[Any, ...] = ()) -> Any:
    required = {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": wanted}}
    spec = {"containers": [{}], "affinity": required, "tolerations": list(tolerations)}
    return pod_facts({"metadata": {"name": "p"}, "spec": spec})


def counted(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the nodes that a node affinity is compared with from now on."""
    seen: list[str] = []

    def noted(selection: NodeSelection, one: Node) -> bool:
        seen.append(one.name)
        return matches(selection, one)

    monkeypatch.setattr(comparing, "matches", noted)
    return seen


keys, values = st.sampled_from(["a", "b", "c"]), st.sampled_from(["1", "2", "3"])
expressions = st.builds(
    lambda key, operator, wanted: {
        "key": key,
        "operator": operator,
        "values": [] if "Exist" in operator else wanted[:1] if operator in ("Gt", "Lt") else wanted,
    },
    keys,
    st.sampled_from(["In", "NotIn", "Exists", "DoesNotExist", "Gt", "Lt"]),
    st.lists(values, min_size=1, max_size=3),
)
fields = st.builds(
    lambda operator, wanted: {"key": "metadata.name", "operator": operator, "values": [wanted]},
    st.sampled_from(["In", "NotIn"]),
    st.sampled_from(["n0", "n1"]),
)
terms = st.builds(
    lambda by_label, by_name: {"matchExpressions": by_label, "matchFields": by_name},
    st.lists(expressions, max_size=3),
    st.lists(fields, max_size=1),
)


@given(st.lists(terms, min_size=1, max_size=3), st.lists(st.dictionaries(keys, values), max_size=8))
def test_what_nodes_have_in_common_makes_no_difference_to_the_answer(
    wanted: list[Any], labelled: list[dict[str, str]]
) -> None:
    comparison = Comparison(pod(affinity(*wanted)))
    for number, labels in enumerate(labelled):
        name = f"n{number}"
        alone = matches(NodeSelection(selector=affinity(*wanted)), Node(name, labels))
        assert (comparison.unfit(name, node(name, labels), FREE) == "") is alone


def test_nodes_that_look_alike_to_an_affinity_are_compared_once(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = counted(monkeypatch)
    comparison = Comparison(
        pod(affinity({"matchExpressions": [{"key": "zone", "operator": "In", "values": ["a"]}]}))
    )
    found = [
        comparison.unfit(
            f"n{number}", node(f"n{number}", {"zone": "ab"[number % 2], "host": str(number)}), FREE
        )
        for number in range(10)
    ]
    assert [not one for one in found] == [True, False] * 5
    assert len(seen) == 2


def test_an_affinity_that_is_made_to_take_long_is_compared_with_so_many_nodes_and_the_others_are_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen = counted(monkeypatch)
    long = [{"key": f"k{number}", "operator": "DoesNotExist"} for number in range(10)]
    wanted = affinity({"matchExpressions": long, "matchFields": []}, {"matchFields": [_no_name()]})
    comparison = Comparison(pod(wanted), units=40)
    found = [comparison.unfit(f"n{number}", node(f"n{number}"), FREE) for number in range(5)]
    assert found == ["", "", "", TOO_LONG, TOO_LONG]
    assert len(seen) == 3


def test_terms_that_want_nothing_are_compared_with_no_node(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []

    def noted(selection: NodeSelection, one: Node) -> bool:
        seen.append(len((selection.selector or {})["nodeSelectorTerms"]))
        return matches(selection, one)

    monkeypatch.setattr(comparing, "matches", noted)
    nothing: Expression = {"matchExpressions": [], "matchFields": []}
    comparison = Comparison(pod(affinity(*[{}] * 2000, nothing, {"matchFields": [_no_name()]})))
    assert comparison.unfit("n1", node("n1"), FREE) == "the pod's node affinity excludes the node"
    assert comparison.unfit("none", node("none"), FREE) == ""
    assert Comparison(pod(affinity({}))).unfit("n1", node("n1"), FREE) != ""
    assert seen == [1, 1, 0]


def _no_name() -> Expression:
    return {"key": "metadata.name", "operator": "In", "values": ["none"]}


def test_values_and_tolerations_count_as_well() -> None:
    values = [str(number) for number in range(160)]
    wanted = affinity({"matchExpressions": [{"key": "host", "operator": "NotIn", "values": values}]})
    assert Comparison(pod(wanted), units=10).unfit("n", node("n"), FREE) == TOO_LONG
    tolerant = pod(None, tuple({"key": str(number), "operator": "Exists"} for number in range(11)))
    assert Comparison(tolerant, units=10).unfit("n", node("n", taints=("10",)), FREE) == TOO_LONG
    assert Comparison(tolerant, units=11).unfit("n", node("n", taints=("10",)), FREE) == ""


def _threads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    threads: list[str] = []
    unfit: Callable[..., str] = Comparison.unfit

    def noted(*arguments: Any) -> str:
        threads.append(threading.current_thread().name)
        return unfit(*arguments)

    monkeypatch.setattr(Comparison, "unfit", noted)
    return threads


@pytest.mark.asyncio
async def test_a_pod_is_compared_with_all_nodes_beside_the_event_loop(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    threads = _threads(monkeypatch)
    world = World(tuple(f"n{number}" for number in range(5)), run=aside())
    world.ask("p")
    await world.reconcile("p")
    assert world.node_of("p") == "n0"
    assert len(threads) == 5
    assert threading.current_thread().name not in threads


@pytest.mark.asyncio
async def test_so_it_is_where_reasons_are_worked_out_for_an_event(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(run=aside())
    world.cards("n1", card(mib=100))
    world.ask("p")
    await world.reconcile("p")
    threads = _threads(monkeypatch)
    question = world.part.allocator.question("default/p")
    assert question is not None
    assert threads == []
    await world.part.books.why_not(question.claims, nodes=question.candidates.choose, release="1.36")
    assert threads
    assert threading.current_thread().name not in threads
