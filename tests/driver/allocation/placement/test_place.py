"""Where a policy puts claims."""

from __future__ import annotations

from collections.abc import Iterable
from importlib import import_module
from typing import Any

import pytest

from driver.allocation import Decision, Snapshot
from driver.allocation.cluster import Cluster
from driver.allocation.placement import PlacementPolicy, Strategy, Wish, place
from tests.driver.allocation.builders import (
    allocated,
    card,
    claim,
    device_class,
    exclusive,
    given,
    numbered,
    pool,
    request,
)

JSON = dict[str, Any]
NUMA, PCIE = "resource.kubernetes.io/numaNode", "resource.kubernetes.io/pcieRoot"
LINKS = "dragoman.dev/links"


def ask(memory: str = "10Gi", cores: str = "10", **more: Any) -> JSON:
    return claim(request(ask={"memory": memory, "cores": cores}, **more))


def put(*claims: JSON, slices: Iterable[JSON], held: Iterable[JSON] = (), **policy: Any) -> Decision:
    snapshot = Snapshot.build(slices=slices, classes=[device_class()], claims=held)
    return place(snapshot, claims=list(claims), policy=PlacementPolicy(**policy), share_id=numbered())


def holds(node: str, device: str, memory: str, cores: str, name: str = "held") -> JSON:
    result = {
        "request": "r",
        "driver": "dragoman.dev",
        "pool": node,
        "device": device,
        "shareID": f"{name}-{node}-{device}",
        "consumedCapacity": {"memory": memory, "cores": cores},
    }
    return {"metadata": {"name": name}, "status": {"allocation": {"devices": {"results": [result]}}}}


def node(name: str, *cards: JSON) -> JSON:
    return pool(*cards, node=name)


def placed_card(name: str, *, numa: int = 0, pcie: str = "", links: Iterable[str] = (), **more: Any) -> JSON:
    made = card(name, **more)
    made["attributes"][NUMA] = {"int": numa}
    if pcie:
        made["attributes"][PCIE] = {"string": pcie}
    if links:
        made["attributes"]["links"] = {"strings": list(links)}
    return made


THREE = [node(name, card("a"), card("b")) for name in ("n1", "n2", "n3")]
HELD = [holds("n2", "b", "20Gi", "20"), holds("n3", "a", "60Gi", "60")]


def test_without_a_policy_the_first_node_and_the_first_card_are_taken() -> None:
    decision = put(ask(), slices=THREE, held=HELD)
    assert (decision.node, given(decision)) == ("n1", ["a"])


def test_binpack_takes_the_fullest_node_and_its_fullest_card() -> None:
    policy = {"nodes": Strategy.BINPACK, "cards": Strategy.BINPACK}
    decision = put(ask(), slices=THREE, held=HELD, **policy)
    assert (decision.node, given(decision)) == ("n3", ["a"])
    decision = put(ask("30Gi"), slices=THREE, held=[HELD[0], holds("n3", "b", "60Gi", "60")], **policy)
    assert (decision.node, given(decision)) == ("n3", ["a"]), "the fullest card has not enough left"


def test_spread_takes_the_emptiest_node_and_its_emptiest_card() -> None:
    held = [*HELD, holds("n1", "a", "1Gi", "1")]
    decision = put(ask(), slices=THREE, held=held, nodes=Strategy.SPREAD, cards=Strategy.SPREAD)
    assert (decision.node, given(decision)) == ("n1", ["b"])


def test_nodes_and_cards_have_strategies_of_their_own() -> None:
    decision = put(ask(), slices=THREE, held=HELD, nodes=Strategy.BINPACK, cards=Strategy.SPREAD)
    assert (decision.node, given(decision)) == ("n3", ["b"])


def test_best_fit_prefers_the_card_whose_dimensions_run_out_together() -> None:
    slices = [node("n1", card("a"), card("b"), card("c"))]
    held = [holds("n1", "a", "60Gi", "10"), holds("n1", "b", "10Gi", "60")]
    decision = put(ask("10Gi", "60"), slices=slices, held=held, cards=Strategy.BEST_FIT)
    assert given(decision) == ["a"], "it leaves 10Gi of 80 and 30 of 100 percent"
    decision = put(ask("60Gi", "10"), slices=slices, held=held, cards=Strategy.BEST_FIT)
    assert given(decision) == ["b"]


def test_best_fit_over_nodes_compares_the_cards_that_they_would_give() -> None:
    slices = [node("n1", card("a")), node("n2", card("a")), node("n3", card("a", memory="192Gi"))]
    held = [holds("n1", "a", "8Gi", "50"), holds("n2", "a", "40Gi", "50")]
    decision = put(ask("40Gi", "50"), slices=slices, held=held, nodes=Strategy.BEST_FIT)
    assert decision.node == "n2"


def test_a_policy_may_be_given_the_nodes_that_the_pod_may_use() -> None:
    snapshot = Snapshot.build(slices=THREE, classes=[device_class()], claims=HELD)
    policy = PlacementPolicy(nodes=Strategy.BINPACK)
    assert place(snapshot, claims=[ask()], policy=policy, nodes=["n1", "n2"]).node == "n2"


def test_two_requests_of_a_claim_are_spread_over_cards_as_each_sees_what_the_other_takes() -> None:
    asked = {"memory": "10Gi", "cores": "10"}
    both = claim(request("x", ask=asked), request("y", ask=asked))
    assert given(put(both, slices=THREE, cards=Strategy.SPREAD)) == ["a", "b"]
    assert given(put(both, slices=THREE, cards=Strategy.BINPACK)) == ["a", "a"]


def test_two_claims_of_a_pod_are_spread_over_cards_as_well() -> None:
    assert given(put(ask(), ask(), slices=THREE, cards=Strategy.SPREAD)) == ["a", "b"]


def test_an_authors_order_of_sub_requests_counts_for_more_than_a_policy() -> None:
    small = {"deviceClassName": "any", "capacity": {"requests": {"memory": "1Gi", "cores": "1"}}}
    two = {**small, "name": "two", "count": 2}
    listed: JSON = {"name": "r", "firstAvailable": [two, {**small, "name": "one"}]}
    slices = [node("n1", placed_card("a", numa=0), placed_card("b", numa=1))]
    decision = put(claim(listed), slices=slices, topology=Wish.PREFERRED, topology_attributes=(NUMA,))
    assert given(decision) == ["a", "b"], "the second sub-request would be closer together"


EIGHT = [node("n1", *(placed_card(f"c{k}", numa=k // 4, pcie=f"root{k // 2}") for k in range(8)))]


def test_devices_of_a_claim_share_the_closest_group_that_has_enough_of_them() -> None:
    held = [holds("n1", name, "80Gi", "100") for name in ("c0", "c2", "c3")]
    decision = put(ask(count=2), slices=EIGHT, held=held, topology=Wish.PREFERRED)
    assert given(decision) == ["c4", "c5"], "the first root with two free cards"
    decision = put(ask(count=4), slices=EIGHT, held=held, topology=Wish.PREFERRED)
    assert given(decision) == ["c4", "c5", "c6", "c7"], "no root has four, the second NUMA node has"


def test_a_compact_set_is_found_though_constraints_force_the_search_out_of_a_group() -> None:
    def colour(name: str, numa: int, value: str) -> JSON:
        made = placed_card(name, numa=numa)
        made["attributes"]["colour"] = {"string": value}
        return made

    cards = [colour("a", 0, "red"), colour("b", 0, "red"), colour("c", 1, "red"), colour("d", 1, "blue")]
    apart = claim(
        request(ask={"memory": "1Gi"}, count=2), constraints=[{"distinctAttribute": "dragoman.dev/colour"}]
    )
    decision = put(apart, slices=[node("n1", *cards)], topology=Wish.REQUIRED, topology_attributes=(NUMA,))
    assert given(decision) == ["c", "d"]


def test_claims_of_one_pod_come_close_together() -> None:
    cards = [placed_card("a", numa=0), placed_card("b", numa=1), placed_card("c", numa=1)]
    whole = ask("80Gi", "100")
    decision = put(
        whole,
        whole,
        slices=[node("n1", *cards)],
        topology=Wish.PREFERRED,
        topology_attributes=(NUMA,),
    )
    assert sorted(given(decision)) == ["b", "c"]


def test_link_groups_may_be_lists_and_one_group_in_common_is_enough() -> None:
    cards = [
        placed_card("a", links=["l1"]),
        placed_card("b", links=["l2"]),
        placed_card("c", links=["l2", "l3"]),
        placed_card("d", links=["l3"]),
    ]
    decision = put(
        ask("80Gi", "100", count=2),
        slices=[node("n1", *cards)],
        topology=Wish.REQUIRED,
        topology_attributes=(LINKS,),
    )
    assert given(decision) == ["b", "c"]


def test_a_single_device_goes_where_it_breaks_no_larger_group() -> None:
    cards = [placed_card("a", numa=0), placed_card("b", numa=0), placed_card("c", numa=1)]
    decision = put(
        claim(request(ask={"memory": "80Gi"})),
        slices=[node("n1", *cards)],
        topology=Wish.PREFERRED,
        topology_attributes=(NUMA,),
    )
    assert given(decision) == ["c"]


def test_a_node_with_a_compact_set_is_preferred_to_an_earlier_one_without() -> None:
    slices = [
        node("n1", placed_card("a", numa=0), placed_card("b", numa=1)),
        node("n2", placed_card("a", numa=0), placed_card("b", numa=0)),
    ]
    decision = put(ask(count=2), slices=slices, topology=Wish.PREFERRED, topology_attributes=(NUMA,))
    assert decision.node == "n2"


def test_where_devices_cannot_be_close_a_preferred_topology_is_let_go_and_a_required_one_refuses() -> None:
    slices = [node("n1", placed_card("a", numa=0), placed_card("b", numa=1))]
    attributes: dict[str, Any] = {"topology_attributes": (NUMA,)}
    near = put(ask(count=2), slices=slices, topology=Wish.PREFERRED, **attributes)
    assert given(near) == ["a", "b"]
    refused = put(ask(count=2), slices=slices, topology=Wish.REQUIRED, **attributes).refusal
    assert refused is not None
    assert refused.reason == "TopologyUnmet"
    assert refused.retriable
    assert NUMA in refused.message


def test_where_nothing_fits_the_refusal_counts_nodes_by_reason() -> None:
    slices = [node("n1", card("a")), node("n2", card("a"))]
    refused = put(ask("90Gi"), slices=slices, nodes=Strategy.SPREAD).refusal
    assert refused is not None
    assert refused.reason == "NoDevice"
    assert refused.message.startswith("0 of 2 nodes fit (2 NoDevice)")


def test_where_there_is_no_node_that_is_said() -> None:
    refused = put(ask(), slices=[]).refusal
    assert refused is not None
    assert "no node" in refused.message


def test_a_claim_that_cannot_be_read_is_refused_as_without_a_policy() -> None:
    refused = put({"spec": {"devices": 7}}, slices=THREE, nodes=Strategy.SPREAD).refusal
    assert refused is not None
    assert refused.reason == "InvalidClaim"


@pytest.mark.parametrize("strategy", list(Strategy))
def test_a_selector_that_raises_on_a_card_which_only_a_policy_would_try_first_refuses_nothing(
    strategy: Strategy,
) -> None:
    odd = card("b")
    del odd["attributes"]["vendor"]
    wanted = claim(
        request(selectors=['device.attributes["dragoman.dev"].vendor == "nvidia"'], ask={"memory": "1Gi"})
    )
    held = [holds("n1", "a", "20Gi", "20")]
    decision = put(wanted, slices=[node("n1", card("a"), odd)], held=held, nodes=strategy, cards=strategy)
    assert given(decision) == ["a"]


def test_whole_cards_and_shares_are_both_counted_as_held() -> None:
    slices = [node("n1", exclusive("x"), card("a")), node("n2", exclusive("x"), card("a"))]
    first = put(claim(request()), slices=slices)
    assert given(first) == ["x"]
    held = [allocated(claim(request()), first)]
    decision = put(claim(request(ask={"memory": "1Gi"})), slices=slices, held=held, nodes=Strategy.SPREAD)
    assert decision.node == "n2"


def apart_and_near(count: int) -> list[JSON]:
    slices = [node(f"n{k:02d}", placed_card("a", numa=0), placed_card("b", numa=1)) for k in range(count)]
    return [*slices, node("n99", placed_card("a", numa=0), placed_card("b", numa=0))]


@pytest.mark.parametrize("wish", [Wish.PREFERRED, Wish.REQUIRED])
def test_in_a_cluster_the_one_node_with_a_compact_set_is_found_among_many(wish: Wish) -> None:
    cluster = Cluster.build(Snapshot.build(slices=apart_and_near(30), classes=[device_class()]))
    policy = PlacementPolicy(topology=wish, topology_attributes=(NUMA,))
    assert place(cluster, claims=[ask(count=2)], policy=policy).node == "n99"


def test_a_required_topology_is_looked_for_on_a_bounded_number_of_nodes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(import_module("driver.allocation.placement.place"), "MAX_LOOKED", 5)
    snapshot = Snapshot.build(slices=apart_and_near(30), classes=[device_class()])
    policy = PlacementPolicy(topology=Wish.REQUIRED, topology_attributes=(NUMA,))
    refused = place(snapshot, claims=[ask(count=2)], policy=policy).refusal
    assert refused is not None
    assert refused.message.startswith("0 of 5 nodes fit (5 TopologyUnmet)")


def test_nodes_that_are_hard_to_decide_about_cost_a_bounded_time_and_hide_no_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for module in ("search", "cluster.ask", "placement.place"):
        monkeypatch.setattr(import_module(f"driver.allocation.{module}"), "MAX_STEPS", 20_000)
    claims = [claim(request(ask={"memory": f"{31 + 2 * place}Gi"}), name=f"c{place}") for place in range(36)]
    hard = [
        pool(
            *(card(f"d{place}", f"{100 + 7 * place + number}Gi") for place in range(12)), node=f"n{number:02}"
        )
        for number in range(20)
    ]
    easy = pool(*(card(f"d{place}", "102Gi") for place in range(36)), node="n99")
    spread = PlacementPolicy.parse({"nodes": "spread"})

    def cluster(*slices: JSON) -> Cluster:
        return Cluster.build(Snapshot.build(slices=slices, classes=[device_class()]))

    assert place(cluster(*hard[:2], easy), claims=claims, policy=spread).node == "n99"
    refused = place(cluster(*hard), claims=claims, policy=spread)
    assert refused.refusal is not None
    assert refused.steps <= 2 * 20_000
