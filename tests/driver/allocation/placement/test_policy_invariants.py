"""What must hold whatever a policy wishes."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from driver.allocation import Decision, Snapshot, allocate
from driver.allocation.cluster import Cluster
from driver.allocation.placement import PlacementPolicy, Strategy, Wish, place
from driver.quantities import parse_quantity
from tests.driver.allocation.builders import allocated, card, claim, device_class, exclusive, pool, request

JSON = dict[str, Any]
NUMA, LINKS = "resource.kubernetes.io/numaNode", "dragoman.dev/links"
NODES = ("n1", "n2", "n3")
STRATEGIES = st.sampled_from(list(Strategy))
POLICIES = st.builds(
    PlacementPolicy,
    nodes=STRATEGIES,
    cards=STRATEGIES,
    topology=st.sampled_from([Wish.NONE, Wish.PREFERRED]),
    topology_attributes=st.sampled_from([(NUMA,), (LINKS, NUMA)]),
)
REQUESTS = st.fixed_dictionaries(
    {
        "memory": st.sampled_from([None, "1Gi", "30Gi", "40Gi", "80Gi", "81Gi"]),
        "cores": st.sampled_from([None, "0", "30", "60", "100"]),
        "count": st.integers(1, 3),
        # The last one raises on devices without a colour.
        "selector": st.sampled_from(
            [
                None,
                'device.capacity["dragoman.dev"].memory.isGreaterThan(quantity("50Gi"))',
                'device.attributes["dragoman.dev"].colour == "red"',
            ]
        ),
    }
)
CLAIMS = st.fixed_dictionaries(
    {
        "requests": st.lists(REQUESTS, min_size=1, max_size=2),
        "constraint": st.sampled_from(
            [None, {"matchAttribute": NUMA}, {"distinctAttribute": "dragoman.dev/uuid"}]
        ),
    }
)
PODS = st.lists(CLAIMS, min_size=1, max_size=2)


def written(drawn: JSON, name: str) -> JSON:
    requests = []
    for place_, one in enumerate(drawn["requests"]):
        ask = {key: one[key] for key in ("memory", "cores") if one[key] is not None}
        selectors = [one["selector"]] if one["selector"] else []
        requests.append(request(f"r{place_}", ask=ask, count=one["count"], selectors=selectors))
    more = {"constraints": [drawn["constraint"]]} if drawn["constraint"] else {}
    return claim(*requests, name=name, **more)


def a_card(name: str, number: int, drawn: tuple[str, bool]) -> JSON:
    memory, coloured = drawn
    made = card(name, memory=memory)
    made["attributes"][NUMA] = {"int": number % 2}
    made["attributes"]["links"] = {"strings": [f"l{number // 2}", "all"][: number % 3]}
    if coloured:
        made["attributes"]["colour"] = {"string": "red"}
    return made


SLICES = st.lists(
    st.lists(st.tuples(st.sampled_from(["40Gi", "80Gi"]), st.booleans()), min_size=1, max_size=3),
    min_size=len(NODES),
    max_size=len(NODES),
).map(
    lambda nodes: [
        pool(*(a_card(f"c{k}", k, one) for k, one in enumerate(cards)), exclusive("x"), node=name)
        for name, cards in zip(NODES, nodes, strict=True)
    ]
)


def sums(held: list[JSON]) -> dict[tuple[str, str, str], int]:
    found: dict[tuple[str, str, str], int] = defaultdict(int)
    for one in held:
        for result in one["status"]["allocation"]["devices"]["results"]:
            for name, amount in result.get("consumedCapacity", {"whole": "1"}).items():
                found[result["pool"], result["device"], name] += parse_quantity(amount).rounded_up
    return found


def capacities(slices: list[JSON]) -> dict[tuple[str, str, str], int]:
    return {
        (one["spec"]["pool"]["name"], device["name"], name): parse_quantity(value["value"]).rounded_up
        for one in slices
        for device in one["spec"]["devices"]
        for name, value in {**device["capacity"], "whole": {"value": "1"}}.items()
    }


def counts(decision: Decision) -> list[list[str]]:
    return [
        sorted(result["request"] for result in one["devices"]["results"])
        for one in decision.allocations or ()
    ]


@settings(max_examples=120, deadline=None)
@given(slices=SLICES, pods=st.lists(PODS, min_size=1, max_size=4), policy=POLICIES)
def test_a_policy_chooses_among_what_fits_and_never_changes_whether_it_does(
    slices: list[JSON], pods: list[list[JSON]], policy: PlacementPolicy
) -> None:
    held: list[JSON] = []
    for number, pod in enumerate(pods):
        snapshot = Snapshot.build(slices=slices, classes=[device_class()], claims=held)
        claims = [written(drawn, f"c{number}-{place_}") for place_, drawn in enumerate(pod)]
        fitting = {
            name: plain
            for name in NODES
            if (plain := allocate(snapshot, node=name, claims=claims)).refusal is None
        }
        decision = place(snapshot, claims=claims, policy=policy)
        assert (decision.allocations is not None) == bool(fitting)
        if decision.allocations is None:
            continue
        assert counts(decision) == counts(fitting[decision.node])
        held += [allocated(one, decision, place_) for place_, one in enumerate(claims)]
        whole = capacities(slices)
        assert all(total <= whole[key] for key, total in sums(held).items())


@settings(max_examples=60, deadline=None)
@given(slices=SLICES, pod=PODS, policy=POLICIES)
def test_an_answer_is_one_that_the_allocator_gives_where_only_those_devices_are_free(
    slices: list[JSON], pod: list[JSON], policy: PlacementPolicy
) -> None:
    claims = [written(drawn, f"c{place_}") for place_, drawn in enumerate(pod)]
    snapshot = Snapshot.build(slices=slices, classes=[device_class()])
    decision = place(snapshot, claims=claims, policy=policy)
    if decision.allocations is None:
        return
    chosen = {result["device"] for one in decision.allocations for result in one["devices"]["results"]}
    only = [
        {
            **one,
            "spec": {**one["spec"], "devices": [d for d in one["spec"]["devices"] if d["name"] in chosen]},
        }
        for one in slices
        if one["spec"]["nodeName"] == decision.node
    ]
    fewer = Snapshot.build(slices=only, classes=[device_class()])
    assert allocate(fewer, node=decision.node, claims=claims).refusal is None


@settings(max_examples=60, deadline=None)
@given(slices=SLICES, pod=PODS)
def test_first_fit_gives_what_the_first_node_gives_that_fits(slices: list[JSON], pod: list[JSON]) -> None:
    claims = [written(drawn, f"c{place_}") for place_, drawn in enumerate(pod)]
    snapshot = Snapshot.build(slices=slices, classes=[device_class()])
    decision = place(snapshot, claims=claims, share_id=lambda: "s")
    plain = [allocate(snapshot, node=name, claims=claims, share_id=lambda: "s") for name in NODES]
    first = next((one for one in plain if one.refusal is None), None)
    assert decision.allocations == (None if first is None else first.allocations)


@settings(max_examples=40, deadline=None)
@given(slices=SLICES, count=st.integers(2, 3), strategy=STRATEGIES)
def test_a_compact_set_is_found_on_a_node_whenever_there_is_one(
    slices: list[JSON], count: int, strategy: Strategy
) -> None:
    wanted = claim(request(ask={"memory": "40Gi"}, count=count))
    near = claim(request(ask={"memory": "40Gi"}, count=count), constraints=[{"matchAttribute": NUMA}])
    policy = PlacementPolicy(cards=strategy, topology=Wish.REQUIRED, topology_attributes=(NUMA,))
    snapshot = Snapshot.build(slices=slices, classes=[device_class()])
    for name in NODES:
        exists = allocate(snapshot, node=name, claims=[near]).refusal is None
        assert (place(snapshot, claims=[wanted], policy=policy, nodes=[name]).refusal is None) == exists


@settings(max_examples=60, deadline=None)
@given(slices=SLICES, pods=st.lists(PODS, min_size=2, max_size=3), policy=POLICIES)
def test_a_cluster_gives_the_answers_of_its_snapshot(
    slices: list[JSON], pods: list[list[JSON]], policy: PlacementPolicy
) -> None:
    snapshot = Snapshot.build(slices=slices, classes=[device_class()])
    cluster = Cluster.build(snapshot)
    for number, pod in enumerate(pods):
        claims = [written(drawn, f"c{number}-{place_}") for place_, drawn in enumerate(pod)]
        decision = place(cluster.snapshot, claims=claims, policy=policy, share_id=lambda: "s")
        found = place(cluster, claims=claims, policy=policy, share_id=lambda: "s")
        assert (found.node, found.allocations) == (decision.node, decision.allocations) or (
            found.refusal is not None and decision.refusal is not None
        )
        if decision.allocations is None:
            continue
        cluster = cluster.with_claims(
            changed=[allocated(one, decision, place_) for place_, one in enumerate(claims)]
        )
