"""What is told is what the allocator says, node by node."""

from __future__ import annotations

import copy
from collections import Counter
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from driver.allocation import Snapshot, allocate
from driver.allocation.why_not import why_not
from tests.driver.allocation.builders import allocated, card, claim, device_class, exclusive, pool, request
from tests.driver.allocation.why_not.hostile import HOSTILE

JSON = dict[str, Any]
NODES = ("n1", "n2")
TAINT = {"key": "k", "effect": "NoSchedule"}
SELECTORS = (
    'device.attributes["dragoman.dev"].vendor == "nvidia"',
    'device.attributes["dragoman.dev"].colour == "red"',
    'has(device.attributes["dragoman.dev"].colour)',
    'device.capacity["dragoman.dev"].memory.isGreaterThan(quantity("50Gi")) && device.driver != ""',
    '"colour" in device.attributes["dragoman.dev"]',
    "device.allowMultipleAllocations",
)
REQUESTS = st.fixed_dictionaries(
    {
        "memory": st.sampled_from([None, "1Gi", "39Gi", "60Gi", "81Gi"]),
        "cores": st.sampled_from([None, "60", "101"]),
        "count": st.integers(1, 3),
        "selectors": st.lists(st.sampled_from(SELECTORS), max_size=2),
        "tolerations": st.sampled_from([[], [{"key": "k", "operator": "Exists"}]]),
    }
)
CLAIMS = st.fixed_dictionaries(
    {
        "requests": st.lists(REQUESTS, min_size=1, max_size=2),
        "constraint": st.sampled_from(
            [None, {"matchAttribute": "dragoman.dev/colour"}, {"distinctAttribute": "dragoman.dev/uuid"}]
        ),
    }
)
PODS = st.lists(CLAIMS, min_size=1, max_size=2)
CARDS = st.lists(
    st.tuples(st.sampled_from(["40Gi", "80Gi"]), st.booleans(), st.booleans(), st.booleans()),
    min_size=1,
    max_size=4,
)


def written(drawn: JSON, name: str) -> JSON:
    requests = []
    for place, one in enumerate(drawn["requests"]):
        ask = {key: one[key] for key in ("memory", "cores") if one[key] is not None}
        more = {"tolerations": one["tolerations"]} if one["tolerations"] else {}
        requests.append(request(f"r{place}", ask=ask, count=one["count"], selectors=one["selectors"], **more))
    more = {"constraints": [drawn["constraint"]]} if drawn["constraint"] else {}
    return claim(*requests, name=name, **more)


def a_card(name: str, drawn: tuple[str, bool, bool, bool]) -> JSON:
    memory, coloured, tainted, shared = drawn
    made = card(name, memory=memory) if shared else exclusive(name, attributes={})
    if coloured:
        made["attributes"]["colour"] = {"string": "red"}
    if tainted:
        made["taints"] = [TAINT]
    return made


def a_cluster(drawn: list[list[tuple[str, bool, bool, bool]]]) -> list[JSON]:
    return [
        pool(*(a_card(f"c{k}", one) for k, one in enumerate(cards)), node=name)
        for name, cards in zip(NODES, drawn, strict=True)
    ]


@settings(max_examples=80, deadline=None)
@given(
    drawn=st.lists(CARDS, min_size=2, max_size=2),
    before=st.lists(PODS, max_size=2),
    pod=PODS,
)
def test_reasons_and_counts_are_those_of_the_allocator(
    drawn: list[Any], before: list[list[JSON]], pod: list[JSON]
) -> None:
    slices = a_cluster(drawn)
    held: list[JSON] = []
    for number, earlier in enumerate(before):
        claims = [written(one, f"h{number}-{place}") for place, one in enumerate(earlier)]
        snapshot = Snapshot.build(slices=slices, classes=[device_class()], claims=held)
        decision = allocate(snapshot, node=NODES[number % 2], claims=claims)
        if decision.allocations is not None:
            held += [allocated(one, decision, place) for place, one in enumerate(claims)]
    snapshot = Snapshot.build(slices=slices, classes=[device_class()], claims=held)
    claims = [written(one, f"c{place}") for place, one in enumerate(pod)]
    total: Counter[str] = Counter()
    ended = False
    for name in NODES:
        decision = allocate(snapshot, node=name, claims=claims)
        answer = why_not(snapshot, claims=claims, nodes=[name])
        assert (answer.fits == 1) == (decision.refusal is None)
        if decision.refusal is None:
            continue
        assert answer.reason == decision.refusal.reason
        counted: Counter[str] = Counter()
        for ground in answer.grounds:
            counted[ground.reason] += ground.cards
        if decision.refusal.reason == "SelectorFailed":
            # The allocator says no more than that; the cards are told for the request that it came to.
            assert counted["SelectorFailed"] or not answer.grounds
            ended = True
        else:
            assert +counted == Counter(one.reason for one in decision.refusal.devices)
        total += counted
    if ended:
        return
    both = why_not(snapshot, claims=claims)
    if not both.fits:
        counted = Counter()
        for ground in both.grounds:
            counted[ground.reason] += ground.cards
        assert +counted == +total


@settings(max_examples=40, deadline=None)
@given(drawn=st.lists(CARDS, min_size=2, max_size=2), pod=PODS)
def test_what_is_said_to_help_names_cards_that_the_node_has(drawn: list[Any], pod: list[JSON]) -> None:
    slices = a_cluster(drawn)
    snapshot = Snapshot.build(slices=slices, classes=[device_class()])
    claims = [written(one, f"c{place}") for place, one in enumerate(pod)]
    before = copy.deepcopy(claims)
    known = {(one["spec"]["nodeName"], device["name"]) for one in slices for device in one["spec"]["devices"]}
    for change in why_not(snapshot, claims=claims).changes:
        assert change.devices
        assert all((change.node, device) in known for device in change.devices)
        assert change.kind != "Release", "nothing is held"
    assert claims == before


@settings(max_examples=20, deadline=None)
@given(memory=st.sampled_from(["81Gi", "100Gi", "1Ti"]), cards=CARDS)
def test_the_amount_that_is_said_to_fit_does(memory: str, cards: list[Any]) -> None:
    snapshot = Snapshot.build(slices=a_cluster([cards, cards]), classes=[device_class()])
    answer = why_not(snapshot, claims=[claim(request(ask={"memory": memory}))])
    for change in answer.changes:
        if change.kind == "Amount":
            amount = change.text.split()[3]
            smaller = claim(request(ask={"memory": amount}))
            assert allocate(snapshot, node=change.node, claims=[smaller]).refusal is None


def test_hostile_claims_get_an_answer() -> None:
    snapshot = Snapshot.build(
        slices=[pool(card("a"), card("b"), node=name) for name in NODES], classes=[device_class()]
    )
    for hostile in HOSTILE:
        answer = why_not(snapshot, claims=[hostile])
        assert answer.fits == 2 or answer.reason
        assert len(answer.to_text(200).encode()) < 2200
