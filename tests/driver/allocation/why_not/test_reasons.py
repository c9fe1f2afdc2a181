"""Each reason against a card or a node: what is said, word for word."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import driver.allocation
from driver.allocation import Snapshot
from driver.allocation.profile import Features
from driver.allocation.why_not import CARD_REASONS, WhyNot, why_not
from tests.driver.allocation.builders import card, claim, device_class, exclusive, pool, request

JSON = dict[str, Any]
_GIVEN = re.compile(r'(?:DeviceRefusal\.of|refuse|Shortage)\(\s*(?:\w+\.id,\s*)?"([A-Z]\w+)"')


def ask(claim_: JSON, *slices: JSON, held: Any = (), nodes: Any = ("n1",), **more: Any) -> WhyNot:
    known = more.pop("known", ())
    snapshot = Snapshot.build(slices=slices, classes=[device_class()], claims=held, nodes=known)
    return why_not(snapshot, claims=[claim_], nodes=nodes, **more)


def n1(*cards: JSON, **more: Any) -> JSON:
    return pool(*cards, node="n1", **more)


def whole(device: str) -> JSON:
    result = {"request": "r", "driver": "dragoman.dev", "pool": "n1", "device": device}
    return {"metadata": {"name": "w"}, "status": {"allocation": {"devices": {"results": [result]}}}}


def share(device: str, memory: str) -> JSON:
    held = whole(device)
    result = held["status"]["allocation"]["devices"]["results"][0]
    result.update(shareID="s", consumedCapacity={"memory": memory, "cores": "0"})
    return held


def pools(count: int, generation: int = 1, name: str = "n1") -> JSON:
    return {"pool": {"name": name, "generation": generation, "resourceSliceCount": count}}


def counting() -> WhyNot:
    drawing = [{"counterSet": "set", "counters": {"slots": {"value": "1"}}}]
    counters = [{"name": "set", "counters": {"slots": {"value": "1"}}}]
    parts = [exclusive(name, consumesCounters=drawing) for name in ("p0", "p1")]
    sets = n1(slice_name="s0", sharedCounters=counters, **pools(2))
    return ask(claim(request()), n1(*parts, slice_name="s1", **pools(2)), sets, held=[whole("p0")])


def limited() -> WhyNot:
    policy = {"default": "8Gi", "validRange": {"min": "1Mi", "max": "16Gi", "step": "1Mi"}}
    made = card("a")
    made["capacity"] = {**made["capacity"], "memory": {"value": "80Gi", "requestPolicy": policy}}
    return ask(claim(request(ask={"memory": "40Gi"})), n1(made))


def for_nodes(name: str) -> JSON:
    term = {"matchExpressions": [{"key": "zone", "operator": "In", "values": [name]}]}
    return {"nodeName": "", "nodeSelector": {"nodeSelectorTerms": [term]}}


def two_for_one() -> WhyNot:
    return ask(claim(request("x"), request("y")), n1(exclusive("a")))


def coloured(name: str, colour: str) -> JSON:
    return exclusive(name, attributes={"colour": {"string": colour}})


def with_binding_conditions_off() -> WhyNot:
    bound = exclusive("a", bindingConditions=["ready"], bindingFailureConditions=["failed"])
    off = Features(device_binding_and_status=False)
    return ask(claim(request()), n1(bound), features=off)


SMALL = request(ask={"memory": "1Gi"})
GOLDEN: dict[str, tuple[Callable[[], WhyNot], str]] = {
    "CapacityInUse": (
        lambda: ask(claim(request(ask={"memory": "40Gi"})), n1(card("a")), held=[share("a", "50Gi")]),
        "1 card on 1 node: CapacityInUse: memory: asks 40Gi, free 30Gi of 80Gi (e.g. n1 a)",
    ),
    "CapacityRequestTooLarge": (
        limited,
        "1 card on 1 node: CapacityRequestTooLarge: memory: asks 40Gi, a request may have 16Gi (e.g. n1 a)",
    ),
    "CapacityTooSmall": (
        lambda: ask(claim(request(ask={"memory": "90Gi"})), n1(card("a"))),
        "1 card on 1 node: CapacityTooSmall: memory: asks 90Gi, the card has 80Gi (e.g. n1 a)",
    ),
    "CapacityUnknown": (
        lambda: ask(claim(request(ask={"dragoman.dev/memory": "1Gi"})), n1(card("a"))),
        "1 card on 1 node: CapacityUnknown: it has no capacity 'dragoman.dev/memory' (e.g. n1 a)",
    ),
    "ConstraintUnmet": (
        lambda: ask(
            claim(request(count=2), constraints=[{"matchAttribute": "dragoman.dev/colour"}]),
            n1(coloured("a", "red"), coloured("b", "blue")),
        ),
        "1 card on 1 node: ConstraintUnmet: dragoman.dev/colour is 'blue', but must match 'red' (e.g. n1 b)",
    ),
    "CountersExhausted": (
        counting,
        "1 card on 1 node: CountersExhausted: the shared counters of its card are used up (e.g. n1 p1)",
    ),
    "FeatureDisabled": (
        with_binding_conditions_off,
        (
            "1 card on 1 node: FeatureDisabled: it has binding conditions, and DRADeviceBindingConditions is "
            "off in this cluster (e.g. n1 a)"
        ),
    ),
    "InUse": (
        lambda: ask(claim(request()), n1(exclusive("a")), held=[whole("a")]),
        "1 card on 1 node: InUse: held as a whole (e.g. n1 a)",
    ),
    "NoSlice": (
        lambda: ask(
            claim(SMALL),
            pool(card("a"), **for_nodes("z")),
            known=[{"metadata": {"name": "n1", "labels": {"zone": "y"}}}],
        ),
        "1 node: NoSlice: no ResourceSlice is for the node (e.g. n1)",
    ),
    "NotSupported": (
        lambda: ask(claim(SMALL), n1(card("a", brandNew=1))),
        "1 card on 1 node: NotSupported: the field brandNew is not supported yet (e.g. n1 a)",
    ),
    "OtherNode": (
        lambda: ask(
            claim(request(ask={"memory": "2Gi"})),
            pool(
                card("a", nodeName="n2"),
                card("b", memory="1Gi", nodeName="n1"),
                nodeName="",
                perDeviceNodeSelection=True,
            ),
        ),
        "1 card on 1 node: OtherNode: it is not for node n1 (e.g. n1 a)",
    ),
    "PoolIncomplete": (
        lambda: ask(claim(SMALL), n1(card("a"), **pools(2))),
        "1 card on 1 node: PoolIncomplete: slices of their pool are missing, driver dragoman.dev (e.g. n1 a)",
    ),
    "PoolInvalid": (
        lambda: ask(claim(SMALL), n1(card("a"), card("a"))),
        "2 cards on 1 node: PoolInvalid: two devices are called 'a' (e.g. n1 a)",
    ),
    "PoolObsolete": (
        lambda: ask(
            claim(SMALL),
            n1(card("a"), slice_name="s1", **pools(2, name="p")),
            pool(card("b"), node="n2", slice_name="s2", **pools(2, 2, name="p")),
        ),
        (
            "1 node: PoolObsolete: newer slices of the pool are for other nodes only, driver dragoman.dev "
            "(e.g. n1)"
        ),
    ),
    "SelectorFalse": (
        lambda: ask(
            claim(request(selectors=['device.attributes["dragoman.dev"].vendor == "amd" && true'])),
            n1(card("a")),
        ),
        (
            '1 card on 1 node: SelectorFalse: device.attributes["dragoman.dev"].vendor == "amd" is false '
            '(vendor is "nvidia") (e.g. n1 a)'
        ),
    ),
    "TakenByPod": (
        two_for_one,
        "1 card on 1 node: TakenByPod: another request of the pod has it (e.g. n1 a)",
    ),
    "Tainted": (
        lambda: ask(claim(SMALL), n1(card("a", taints=[{"key": "k", "value": "v", "effect": "NoExecute"}]))),
        "1 card on 1 node: Tainted: taint k=v:NoExecute is not tolerated (e.g. n1 a)",
    ),
}


@pytest.mark.parametrize("reason", sorted(GOLDEN))
def test_each_reason_is_told_in_these_words(reason: str) -> None:
    question, expected = GOLDEN[reason]
    answer = question()
    assert answer.fits == 0
    (ground,) = [one for one in answer.grounds if one.reason == reason]
    assert ground.line() == expected
    assert ground.passing == CARD_REASONS[reason].passing


def test_every_reason_that_has_a_meaning_is_tried_above() -> None:
    assert set(CARD_REASONS) == set(GOLDEN)


def test_every_reason_that_the_allocator_gives_against_a_card_has_a_meaning() -> None:
    folder = Path(driver.allocation.__path__[0])
    given = {word for file in folder.glob("*.py") for word in _GIVEN.findall(file.read_text())}
    assert {"InUse", "CapacityInUse", "SelectorFalse"} <= given
    assert given <= set(CARD_REASONS)


def test_sentences_that_differ_from_card_to_card_are_one_reason_with_an_example() -> None:
    answer = ask(
        claim(request(count=2), constraints=[{"matchAttribute": "dragoman.dev/colour"}]),
        n1(coloured("a", "red"), coloured("b", "blue"), coloured("c", "green")),
    )
    (ground,) = answer.grounds
    assert ground.cards == 2
    assert ground.text == "for example, dragoman.dev/colour is 'blue', but must match 'red'"
