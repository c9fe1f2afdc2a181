"""Whose turn it is, and what is said of it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from controller.rollouts.deciding import Change, Decision, Holder, Node, Question, There, decide
from driver.api.rollout import MAX_TURNS, AcceleratorPolicyStatus, PolicyTurn

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)


def node(name: str, *, waits: int = 0, policies: tuple[str, ...] = ("p",), **more: Any) -> Node:
    change = Change(waits, waits=True, policies=policies) if waits else None
    return Node(name=name, change=change, **{"ready": True, "picked": True, "offered": 2, **more})


def nodes(count: int, *, waits: int = 5) -> list[Node]:
    return [node(f"n{number}", waits=waits) for number in range(count)]


def turn(name: str, number: int = 5, *, ago_s: float = 10, offered: int = 2) -> PolicyTurn:
    since = (NOW - timedelta(seconds=ago_s)).strftime("%Y-%m-%dT%H:%M:%SZ")
    return PolicyTurn(node=name, number=number, since=since, offered=offered)


def holder(
    number: int = 5, *, waits: bool = False, away: str = "", policies: tuple[str, ...] = ("p",)
) -> Holder:
    return Holder(there=There.BOTH, change=Change(number, waits=waits, policies=policies), away=away)


def decided(
    *known: Node,
    limit: int | str = 1,
    turns: tuple[PolicyTurn, ...] = (),
    holders: dict[str, Holder] | None = None,
    behind: int = 0,
    has: bool = True,
) -> Decision:
    return decide(
        Question(
            policy="p",
            generation=3,
            max_unavailable=limit,
            before=AcceleratorPolicyStatus(turns=turns),
            nodes=known,
            holders=holders or {},
            has_turn=lambda _policy, _node, _number: has,
            behind=behind,
            now=NOW,
        )
    )


def given(found: Decision) -> list[tuple[str, int]]:
    return [(one.node, one.number) for one in found.status.turns]


@pytest.mark.parametrize(("limit", "count"), [(1, 1), (3, 3), ("25%", 2), ("100%", 5), (90, 5)])
def test_as_many_nodes_have_their_turn_as_may(limit: int | str, count: int) -> None:
    found = decided(*nodes(5), limit=limit)
    assert given(found) == [(f"n{number}", 5) for number in range(count)]
    assert (found.status.nodes, found.status.waiting) == (5, 5 - count)


def test_the_list_of_turns_is_bounded() -> None:
    assert len(decided(*nodes(MAX_TURNS + 50), limit="100%").status.turns) == MAX_TURNS


def test_a_node_that_has_its_turn_keeps_its_place_until_it_is_back() -> None:
    for has in (
        holder(waits=True),
        holder(away="its agent is not Ready"),
        Holder(there=There.NODE_ALONE),
    ):
        found = decided(*nodes(3), turns=(turn("n0"),), holders={"n0": has})
        assert given(found) == [("n0", 5)]
        assert found.status.waiting == 2


@pytest.mark.parametrize(
    "has",
    [
        holder(),
        Holder(there=There.NOTHING),
        Holder(there=There.BOTH, change=None, away="its agent is not Ready"),
        holder(6, waits=True, policies=("q",)),
    ],
    ids=["done and back", "gone", "made anew", "at another policy's change"],
)
def test_the_next_one_has_its_turn_when_a_node(has: Holder) -> None:
    others = [node("n1", waits=5), node("n2", waits=5)]
    assert given(decided(*others, turns=(turn("n0"),), holders={"n0": has})) == [("n1", 5)]


def test_a_node_at_its_next_change_keeps_its_place_for_that() -> None:
    found = decided(*nodes(3, waits=6), turns=(turn("n0"),), holders={"n0": holder(6, waits=True, away="x")})
    assert given(found) == [("n0", 6)]


def test_a_node_that_offered_nothing_before_is_not_waited_for() -> None:
    has = {"n0": holder(away="NothingOffered: no card is offered")}
    assert given(decided(node("n1", waits=5), turns=(turn("n0", offered=0),), holders=has)) == [("n1", 5)]


def test_nodes_whose_agent_is_not_ready_take_a_place_and_get_no_turn() -> None:
    away = node("n0", waits=5, ready=False)
    found = decided(away, *nodes(3)[1:], limit=1)
    assert given(found) == []
    assert (found.reason, "n0" in found.message) == ("NodesUnavailable", True)
    assert given(decided(away, *nodes(3)[1:], limit=2)) == [("n1", 5)]


def test_nodes_that_offered_nothing_or_are_of_other_policies_take_no_place() -> None:
    others = (node("x", ready=False, offered=0), node("y", ready=False, picked=False))
    assert given(decided(*others, *nodes(2))) == [("n0", 5)]


@pytest.mark.parametrize("limit", [1, "10%"])
def test_a_node_that_leaves_the_policy_has_its_turn_too(limit: int | str) -> None:
    found = decided(node("n0", waits=5, picked=False), limit=limit)
    assert (given(found), found.status.nodes) == ([("n0", 5)], 0)


def test_a_change_of_several_policies_has_its_turns_in_the_order_of_their_names() -> None:
    both = node("n0", waits=5, policies=("a", "p"))
    assert given(decided(both, has=False)) == []
    assert given(decided(both, has=True)) == [("n0", 5)]
    assert given(decided(node("n0", waits=5, policies=("p", "z")), has=False)) == [("n0", 5)]


def test_a_place_is_not_kept_for_a_change_that_waits_for_another_policy_first() -> None:
    has = {"n0": holder(6, waits=True, policies=("a", "p"))}
    found = decided(node("n0", waits=6, policies=("a", "p")), turns=(turn("n0"),), holders=has, has=False)
    assert given(found) == []


def test_when_nobody_waits_all_nodes_have_it() -> None:
    found = decided(node("n0"), node("n1"))
    assert (found.holds, found.reason, found.again_s) == (True, "Done", None)
    assert found.status.observed_generation == 3


def test_nodes_that_have_not_told_yet_are_waited_for() -> None:
    found = decided(node("n0"), node("n1"), behind=2)
    assert (found.holds, found.reason) == (False, "InProgress")
    assert found.message == "2 of 2 nodes have not told yet that they have it."
    assert found.again_s is not None


def test_what_is_going_on_is_said() -> None:
    found = decided(*nodes(4), limit=2)
    assert (found.holds, found.reason) == (False, "InProgress")
    assert found.message == "2 nodes wait; changing now: n0, n1."


@pytest.mark.parametrize(
    ("has", "why"),
    [
        (holder(away="NothingOffered: no card is offered"), "n0: NothingOffered: no card is offered."),
        (holder(waits=True), "n0: its agent has not begun."),
        (holder(waits=True, away="its agent is not Ready"), "has not begun (its agent is not Ready)."),
        (Holder(there=There.NODE_ALONE), "n0: it has no AcceleratorNode."),
    ],
)
def test_a_node_that_does_not_come_back_stops_the_rollout_and_is_named(has: Holder, why: str) -> None:
    found = decided(*nodes(3), turns=(turn("n0", ago_s=601),), holders={"n0": has})
    assert (found.holds, found.reason, given(found)) == (False, "NodesNotBack", [("n0", 5)])
    assert why in found.message
    assert found.message.endswith("2 nodes wait for it.")


def test_a_time_that_cannot_be_read_is_not_late() -> None:
    odd = turn("n0").model_copy(update={"since": "yesterday"})
    found = decided(turns=(odd,), holders={"n0": holder(away="x")})
    assert found.reason == "InProgress"
