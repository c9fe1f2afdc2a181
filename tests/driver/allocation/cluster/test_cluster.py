"""What one may rely on when asking a cluster, case by case."""

from __future__ import annotations

from typing import Any

import pytest

from driver.allocation import Snapshot, search
from driver.allocation.cluster import Cluster, values
from driver.allocation.cluster import ask as asking
from driver.errors import InvalidInputError
from tests.driver.allocation.builders import card, claim, device_class, exclusive, pool, request
from tests.driver.allocation.cluster.clusters import check

JSON = dict[str, Any]
VENDOR = 'device.attributes["dragoman.dev"].vendor == "nvidia"'
RARE = 'device.attributes["dragoman.dev"].rare == "yes"'


def cluster_of(*slices: JSON, claims: tuple[JSON, ...] = ()) -> Cluster:
    return Cluster.build(Snapshot.build(slices=slices, classes=[device_class()]), claims=claims)


def cards(node: str, count: int = 2, **more: Any) -> JSON:
    return pool(*(card(f"d{place}", **more) for place in range(count)), node=node)


def placed(cluster: Cluster, wanted: JSON) -> tuple[Cluster, JSON]:
    decision = cluster.first([wanted])
    assert decision.allocations is not None, decision.refusal
    done = {**wanted, "status": {"allocation": decision.allocations[0]}}
    return cluster.with_claims(changed=[done]), done


def named(name: str, *requests: JSON, **more: Any) -> JSON:
    one = claim(*requests, name=name, **more)
    one["metadata"]["uid"] = name
    return one


def test_claims_fill_the_first_node_before_the_second() -> None:
    cluster = cluster_of(cards("a"), cards("b"))
    nodes = []
    for number in range(4):
        cluster, done = placed(cluster, named(f"c{number}", request(ask={"memory": "80Gi"})))
        nodes.append(done["status"]["allocation"]["devices"]["results"][0]["pool"])
    assert nodes == ["a", "a", "b", "b"]
    refusal = cluster.first([named("late", request(ask={"memory": "80Gi"}))]).refusal
    assert refusal is not None
    assert (refusal.reason, refusal.node) == ("NoDevice", "a")


def test_a_cluster_stays_what_it_was_when_claims_come_and_go() -> None:
    before = cluster_of(cards("a", 1), cards("b", 1))
    wanted = named("c", request(ask={"memory": "80Gi"}))
    after, _ = placed(before, wanted)
    assert before.first([wanted]).node == "a"
    assert after.first([wanted]).node == "b"
    assert after.with_claims(removed=["c"]).first([wanted]).node == "a"
    assert after.first([wanted]).node == "b"


def test_a_claim_that_changes_holds_what_it_says_last() -> None:
    cluster, done = placed(cluster_of(cards("a", 1)), named("c", request(ask={"memory": "60Gi"})))
    more = named("d", request(ask={"memory": "60Gi"}))
    assert cluster.first([more]).allocations is None
    result = done["status"]["allocation"]["devices"]["results"][0]
    result["consumedCapacity"] = {"memory": "1Gi", "cores": "0"}
    assert cluster.with_claims(changed=[done]).first([more]).allocations is not None
    assert cluster.with_claims(changed=[{**done, "status": {}}]).first([more]).allocations is not None


def test_what_the_snapshot_says_is_held_stays_held() -> None:
    held = {
        "metadata": {"name": "x"},
        "status": {
            "allocation": {"devices": {"results": [{"driver": "dragoman.dev", "pool": "a", "device": "d0"}]}}
        },
    }
    snapshot = Snapshot.build(
        slices=[pool(exclusive("d0"), node="a")], classes=[device_class()], claims=[held]
    )
    cluster = Cluster.build(snapshot)
    assert cluster.first([named("c", request())]).allocations is None


def test_after_a_change_of_slices_only_the_new_cluster_may_be_asked() -> None:
    old = cluster_of(cards("a"))
    new = old.with_slices(removed=["a-a"], changed=[cards("b")])
    assert new.first([named("c", request())]).node == "b"
    with pytest.raises(RuntimeError, match="have changed"):
        old.first([named("c", request())])
    with pytest.raises(RuntimeError, match="have changed"):
        old.with_claims(removed=["x"])


def test_a_slice_that_cannot_be_read_changes_nothing() -> None:
    cluster = cluster_of(cards("a"))
    with pytest.raises(InvalidInputError, match="ResourceSlice"):
        cluster.with_slices(changed=[cards("b"), {"metadata": {"name": "broken"}, "spec": {}}])
    assert cluster.answers([named("c", request())]).feasible == ("a",)


def test_nodes_come_and_go() -> None:
    network = {
        "metadata": {"name": "network"},
        "spec": {
            "driver": "dragoman.dev",
            "pool": {"name": "net", "generation": 1, "resourceSliceCount": 1},
            "nodeSelector": {
                "nodeSelectorTerms": [
                    {"matchExpressions": [{"key": "zone", "operator": "In", "values": ["z"]}]}
                ]
            },
            "devices": [exclusive("shared")],
        },
    }
    nodes: list[JSON] = [{"metadata": {"name": name}} for name in ("a", "b", "c")]
    parts: dict[str, Any] = {"slices": [cards("a", 1), cards("b", 1), network], "classes": [device_class()]}
    cluster = Cluster.build(Snapshot.build(**parts, nodes=nodes))
    wanted = [named("c", request(count=2))]
    assert cluster.answers(wanted).feasible == ()
    nodes = [
        {"metadata": {"name": "b", "labels": {"zone": "z"}}},
        {"metadata": {"name": "c", "labels": {"zone": "z"}}},
        {"metadata": {"name": "d", "labels": {"zone": "z"}}},
    ]
    cluster = cluster.with_nodes(changed=nodes, removed=["a"])
    check(cluster, Snapshot.build(**parts, nodes=nodes), wanted)
    assert cluster.answers(wanted).feasible == ("b",)
    assert cluster.answers([named("c", request())]).feasible == ("b", "c", "d")


def test_classes_come_and_go() -> None:
    before = cluster_of(cards("a"))
    wanted = [claim(request(deviceClassName="new"))]
    after = before.with_classes(changed=[device_class("new", VENDOR)], removed=["any"])
    assert after.first(wanted).allocations is not None
    refusal = before.first(wanted).refusal
    assert refusal is not None
    assert refusal.reason == "DeviceClassNotFound"
    assert after.first([claim(request())]).allocations is None


def test_a_claim_without_name_and_uid_is_refused_by_field() -> None:
    with pytest.raises(InvalidInputError) as refused:
        cluster_of(cards("a")).with_claims(changed=[{"metadata": {}, "status": {}}])
    assert refused.value.field == "ResourceClaim: metadata"


def test_a_selector_that_raises_on_an_earlier_node_ends_the_attempt() -> None:
    cluster = cluster_of(cards("a"), pool(card("d0", attributes={"rare": {"string": "yes"}}), node="b"))
    refusal = cluster.first([named("c", request(selectors=[RARE]))]).refusal
    assert refusal is not None
    assert (refusal.reason, refusal.node) == ("SelectorFailed", "a")
    backwards = cluster.first([named("c", request(selectors=[RARE]))], nodes=["b", "a"])
    assert backwards.node == "b"
    assert backwards.allocations is not None


def test_a_selector_that_would_raise_only_where_nobody_looks_does_no_harm() -> None:
    cluster = cluster_of(pool(card("d0", attributes={"rare": {"string": "yes"}}), node="a"), cards("b"))
    assert cluster.first([named("c", request(selectors=[RARE]))]).node == "a"


def test_nodes_without_devices_are_refused_without_being_in_the_way() -> None:
    nodes = [{"metadata": {"name": name}} for name in ("a", "b", "c")]
    snapshot = Snapshot.build(slices=[cards("c")], classes=[device_class()], nodes=nodes)
    cluster = Cluster.build(snapshot)
    assert cluster.first([named("x", request())]).node == "c"
    assert cluster.answers([named("x", request())]).feasible == ("c",)
    assert cluster.answers([named("x")]).feasible == ("a", "b", "c")


def test_without_any_node_the_answer_is_a_refusal() -> None:
    assert cluster_of().first([named("c", request())]).allocations is None
    assert cluster_of().answers([named("c", request())]).feasible == ()


def test_a_preference_has_its_say_within_the_node() -> None:
    class Last:
        def order(self, devices: Any, option: Any, in_use: Any) -> Any:
            return devices[::-1]

    decision = cluster_of(cards("a")).first([named("c", request())], preference=Last())
    assert decision.allocations is not None
    assert decision.allocations[0]["devices"]["results"][0]["device"] == "d1"


def test_slices_that_come_out_of_order_are_still_tried_by_name() -> None:
    cluster = cluster_of(*(cards(f"n{number:03}", 1 + number % 3) for number in range(0, 200, 2)))
    known = {f"n{number:03}": cards(f"n{number:03}", 1 + number % 3) for number in range(0, 200, 2)}
    wanted = [named("c", request(count=3))]
    for number in range(1, 200, 7):
        # What goes leaves a place that somebody else's devices take.
        gone, come = f"n{number - 1:03}" if number % 2 else f"n{number:03}", f"n{number | 1:03}"
        known.pop(gone, None)
        known[come] = cards(come, 1 + number % 4)
        cluster = cluster.with_slices(removed=[f"{gone}-{gone}"], changed=[known[come]])
    snapshot = Snapshot.build(slices=known.values(), classes=[device_class()])
    check(cluster, snapshot, wanted)
    assert cluster.first(wanted).node == min(
        name for name, one in known.items() if len(one["spec"]["devices"]) > 2
    )


def test_a_node_that_takes_the_numbers_of_one_that_went_keeps_its_own_place() -> None:
    cluster = cluster_of(cards("n0"), cards("n1"))
    cluster = cluster.with_slices(removed=["n0-n0"], changed=[cards("n9")])
    assert cluster.first([named("c", request())]).node == "n1"
    assert cluster.answers([named("c", request())]).feasible == ("n1", "n9")


def test_so_many_nodes_out_of_order_that_all_are_numbered_anew_change_no_answer() -> None:
    cluster = cluster_of(*(cards(f"n{number:03}", 1) for number in range(200)))
    for number in range(150):
        cluster = cluster.with_slices(
            removed=[f"n{number:03}-n{number:03}"], changed=[cards(f"z{999 - number}", 1)]
        )
    assert cluster.first([named("c", request())]).node == "n150"
    answers = cluster.answers([named("c", request())])
    assert list(answers.feasible) == sorted(answers.feasible)
    assert len(answers.feasible) == 200


def test_values_that_constraints_compare_follow_slices() -> None:
    def rooted(*roots: str) -> JSON:
        some = [card(f"d{place}", attributes={"root": {"string": root}}) for place, root in enumerate(roots)]
        return pool(*some, node="a")

    cluster = cluster_of(rooted("x", "y"))
    wanted = [named("c", request(count=2), constraints=[{"matchAttribute": "dragoman.dev/root"}])]
    assert cluster.answers(wanted).feasible == ()
    cluster = cluster.with_slices(changed=[rooted("y", "y")])
    assert cluster.answers(wanted).feasible == ("a",)
    assert cluster.with_slices(changed=[rooted("y", "z")]).answers(wanted).feasible == ()


KINDS: dict[str, JSON] = {
    "shared": pool(card("d0")),
    "small": pool(card("d0", "40Gi")),
    "exclusive": pool(exclusive("d0")),
    "tainted": pool(card("d0", taints=[{"key": "k", "effect": "NoSchedule"}])),
    "unreadable": pool(card("d0", unheardOf=1)),
    "odd": pool(card("d0", "1e40")),
    "twice": pool(card("d0"), card("d0")),
    "incomplete": pool(card("d0"), pool={"name": "node-a", "generation": 1, "resourceSliceCount": 2}),
}


@pytest.mark.parametrize("before", KINDS)
@pytest.mark.parametrize("after", KINDS)
@pytest.mark.parametrize("used", [False, True])
def test_a_node_that_becomes_another_is_what_it_became(before: str, after: str, used: bool) -> None:
    held = named("h", request(ask={"memory": "30Gi"}))
    cluster = cluster_of(KINDS[before])
    decision = cluster.first([held])
    claims = []
    if used and decision.allocations is not None:
        claims.append({**held, "status": {"allocation": decision.allocations[0]}})
        cluster = cluster.with_claims(changed=claims)
    snapshot = Snapshot.build(slices=[KINDS[after]], classes=[device_class()], claims=claims)
    cluster = cluster.with_slices(changed=[KINDS[after]])
    check(cluster, snapshot, [named("c", request(ask={"memory": "50Gi"}))])
    check(cluster, snapshot, [named("c", request(ask={"memory": "5Gi"}), request("more"))])


def test_a_node_that_gets_other_values_is_not_taken_for_what_it_was() -> None:
    def rooted(node: str, *roots: str) -> JSON:
        some = [card(f"d{place}", attributes={"root": {"string": root}}) for place, root in enumerate(roots)]
        return pool(*some, node=node)

    wanted = [named("c", request(count=2), constraints=[{"distinctAttribute": "dragoman.dev/root"}])]
    cluster = cluster_of(rooted("a", "y", "y"), rooted("b", "y", "y"))
    assert cluster.answers(wanted).feasible == ()
    assert cluster.with_slices(changed=[rooted("b", "x", "y")]).answers(wanted).feasible == ("b",)


def test_devices_for_all_nodes_that_come_are_seen_on_all_nodes() -> None:
    cluster = cluster_of(cards("a", 1), cards("b", 1))
    wanted = [named("c", request(count=2))]
    assert cluster.answers(wanted).feasible == ()
    network = pool(exclusive("far"), node="", name="net", allNodes=True)
    cluster = cluster.with_slices(changed=[network])
    assert cluster.answers(wanted).feasible == ("a", "b")
    assert cluster.with_slices(removed=[network["metadata"]["name"]]).answers(wanted).feasible == ()


def test_an_attribute_with_a_value_for_each_device_is_compared_all_the_same(monkeypatch: Any) -> None:
    monkeypatch.setattr(values, "MAX_PLACES", 2)
    slices = [
        pool(
            *(card(f"d{place}", attributes={"root": {"string": one}}) for place, one in enumerate(roots)),
            node=node,
        )
        for node, roots in (("a", "xyz"), ("b", "xyx"))
    ]
    wanted = [named("c", request(count=2), constraints=[{"matchAttribute": "dragoman.dev/root"}])]
    cluster = cluster_of(*slices)
    check(cluster, Snapshot.build(slices=slices, classes=[device_class()]), wanted)
    assert cluster.answers(wanted).feasible == ("b",)


def test_of_two_states_of_one_claim_the_last_counts() -> None:
    full = named("c", request())
    result = {"request": "r", "driver": "dragoman.dev", "pool": "a", "device": "d0", "shareID": "s"}
    amounts = [{"memory": "80Gi", "cores": "0"}, {"memory": "10Gi", "cores": "0"}]
    states = [
        {**full, "status": {"allocation": {"devices": {"results": [{**result, "consumedCapacity": one}]}}}}
        for one in amounts
    ]
    cluster = cluster_of(cards("a", 1), claims=tuple(states))
    assert cluster.first([named("d", request(ask={"memory": "70Gi"}))]).allocations is not None


@pytest.mark.parametrize(("release", "feasible"), [("1.36", ("a", "b")), ("1.37", ("b",))])
def test_a_full_card_is_in_the_way_of_all_devices_from_1_37_on(
    release: str, feasible: tuple[str, ...]
) -> None:
    sized = [
        pool(
            card("d0", attributes={"size": {"int": 2}}),
            card("d1", attributes={"size": {"int": two}}),
            node=node,
        )
        for node, two in (("a", 2), ("b", 0))
    ]
    result: JSON = {"request": "r", "driver": "dragoman.dev", "pool": "a", "device": "d1", "shareID": "s"}
    result |= {"consumedCapacity": {"memory": "80Gi", "cores": "0"}}
    held = named("h") | {"status": {"allocation": {"devices": {"results": [result]}}}}
    large = 'device.attributes["dragoman.dev"].size > 1'
    wanted = [named("c", request(allocationMode="All", selectors=[large], ask={"memory": "10Gi"}))]
    cluster = cluster_of(*sized, claims=(held,))
    check(cluster, Snapshot.build(slices=sized, classes=[device_class()], claims=[held]), wanted, release)
    assert cluster.answers(wanted, release=release).feasible == feasible


def test_what_two_nodes_call_by_one_name_is_held_on_both() -> None:
    about: dict[str, Any] = {"pool": {"name": "common", "generation": 1, "resourceSliceCount": 2}}
    slices = [pool(exclusive("d0"), node=node, slice_name=node, **about) for node in ("a", "b")]
    cluster = cluster_of(*slices)
    assert cluster.answers([named("c", request())]).feasible == ("a", "b")
    cluster, _ = placed(cluster, named("c", request()))
    assert cluster.answers([named("d", request())]).feasible == ()


def test_amounts_beyond_all_reason_cost_no_memory() -> None:
    cluster = cluster_of(cards("a"), pool(card("d0", "1e900"), node="b"))
    assert cluster.first([named("c", request(ask={"memory": "90Gi"}))]).node == "b"
    assert max(len(one.digits) for one in cluster._state.free.values()) < 120


def puzzle(nodes: int) -> tuple[Cluster, JSON]:
    """Nodes that are all different, and a claim that fits on none for a reason that is hard to find."""
    slices = [
        pool(
            *(
                card(f"d{place}", f"{20 + place + number}Gi", attributes={"root": {"string": f"r{place}"}})
                for place in range(8)
            ),
            node=f"n{number:02}",
        )
        for number in range(nodes)
    ]
    requests = [request(f"r{place}", ask={"memory": f"{9 + place}Gi"}) for place in range(28)]
    return cluster_of(*slices), named("c", *requests)


def test_a_search_without_end_on_one_node_ends_the_attempt(monkeypatch: Any) -> None:
    monkeypatch.setattr(search, "MAX_STEPS", 3_000)
    monkeypatch.setattr(asking, "MAX_STEPS", 3_000)
    cluster, wanted = puzzle(20)
    decision = cluster.first([wanted])
    assert decision.refusal is not None
    assert decision.refusal.reason == "SearchLimit"
    answers = cluster.answers([wanted])
    assert answers.feasible == ()
    assert len(answers.undecided) >= 10
    hopeless = answers.decision(answers.undecided[0])
    assert hopeless.refusal is not None


def test_searches_over_many_nodes_end_the_attempt_when_they_take_as_many_steps_as_one_may(
    monkeypatch: Any,
) -> None:
    monkeypatch.setattr(asking, "MAX_STEPS", 20)
    # Each request finds a device on each node, but no node has nine.
    slices = [
        pool(*(exclusive(f"d{place}") for place in range(count)), node=f"n{count}") for count in range(1, 9)
    ]
    wanted = named("c", *(request(f"r{place}") for place in range(9)))
    cluster = cluster_of(*slices)
    refusal = cluster.first([wanted]).refusal
    assert refusal is not None
    assert refusal.reason == "SearchLimit"
    assert "over several nodes" in refusal.message
    answers = cluster.answers([wanted])
    assert answers.feasible == ()
    assert answers.undecided
    assert answers.decision(answers.undecided[-1]).refusal is not None


def test_many_requests_are_answered_as_each_node_answers_them() -> None:
    slices = [
        pool(*(card(f"d{place}", f"{30 + 10 * (place % 3)}Gi") for place in range(4)), node=f"n{number}")
        for number in range(4)
    ]
    snapshot = Snapshot.build(slices=slices, classes=[device_class()])
    requests = [request(f"r{place}", ask={"memory": f"{1 + place}Gi", "cores": "10"}) for place in range(12)]
    check(Cluster.build(snapshot), snapshot, [named("c", *requests)])


def endless(number: int) -> JSON:
    """A node about which nobody can say whether the claims of `packed` fit."""
    return pool(
        *(card(f"d{place}", f"{100 + 7 * place + number}Gi") for place in range(12)), node=f"n{number:02}"
    )


def packed() -> list[JSON]:
    return [named(f"c{place}", request(ask={"memory": f"{31 + 2 * place}Gi"})) for place in range(36)]


def test_a_node_that_is_hard_to_decide_about_does_not_hide_one_that_serves(monkeypatch: Any) -> None:
    monkeypatch.setattr(search, "MAX_STEPS", 20_000)
    monkeypatch.setattr(asking, "MAX_STEPS", 20_000)
    cluster = cluster_of(endless(0), endless(1), cards("n99", 36, memory="102Gi"))
    alone = cluster.first(packed(), nodes=["n00"]).refusal
    assert alone is not None
    assert alone.reason == "SearchLimit"
    assert cluster.first(packed()).node == "n99"
    answers = cluster.answers(packed())
    assert answers.feasible == ("n99",)
    assert answers.undecided == ("n00", "n01")


def test_hard_nodes_take_a_bounded_number_of_steps_in_all(monkeypatch: Any) -> None:
    monkeypatch.setattr(search, "MAX_STEPS", 20_000)
    monkeypatch.setattr(asking, "MAX_STEPS", 20_000)
    cluster = cluster_of(*(endless(number) for number in range(40)))
    decision = cluster.first(packed())
    assert decision.refusal is not None
    assert decision.refusal.reason == "SearchLimit"
    assert decision.steps <= 2 * 20_000
