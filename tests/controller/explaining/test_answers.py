"""What a person reads about a pod that waits."""

from typing import Any

import pytest

from controller.explaining.answers import Answer, answer
from driver.allocation import Snapshot
from driver.cards import Card
from driver.slices import publication_of, with_generation

CLASS: dict[str, Any] = {
    "metadata": {"name": "accelerator.dragoman.dev"},
    "spec": {"selectors": [{"cel": {"expression": 'device.driver == "dragoman.dev"'}}]},
}

NAMED = {"name": "claim-2", "namespace": "pod"}


def node_slices(node: str, *memory_gib: int) -> list[dict[str, Any]]:
    cards = [
        Card(
            name=f"{node}-card-{index}",
            vendor="nvidia",
            model="A100",
            memory_bytes=gib << 30,
            uuid=f"{node}-{index}",
        )
        for index, gib in enumerate(memory_gib)
    ]
    return [with_generation(item, 1) for item in publication_of(cards, node=node).slices]


def claim(*, memory: str = "", cls: str = "accelerator.dragoman.dev", **exactly: Any) -> dict[str, Any]:
    if memory:
        exactly["capacity"] = {"requests": {"memory": memory}}
    return {
        "metadata": {"name": "c", "namespace": "ns", "uid": "u"},
        "spec": {"devices": {"requests": [{"name": "r", "exactly": {"deviceClassName": cls, **exactly}}]}},
    }


def holding(node: str, memory: str) -> dict[str, Any]:
    result = {
        "request": "r",
        "driver": "dragoman.dev",
        "pool": f"{node}/dragoman",
        "device": f"{node}-card-0",
        "shareID": "6c1f2b0e-0000-0000-0000-000000000001",
        "consumedCapacity": {"memory": memory, "cores": "0"},
    }
    return {"metadata": {"name": "held"}, "status": {"allocation": {"devices": {"results": [result]}}}}


def ask(claims: Any, *, nodes: dict[str, tuple[int, ...]], held: Any = ()) -> Answer:
    slices = [item for node, cards in nodes.items() for item in node_slices(node, *cards)]
    snapshot = Snapshot.build(slices=slices, classes=[CLASS], claims=held)
    return answer(snapshot, nodes=sorted(nodes), claims=claims)


def test_cards_that_are_too_small_are_counted_over_all_nodes_with_an_example() -> None:
    found = ask([claim(memory="40Gi")], nodes={"n1": (24, 24), "n2": (16,)})
    assert found.note.startswith("0 of 2 nodes can take the pod's claims. 3 cards on 2 nodes: ")
    expected = "memory: asks 40Gi, a request may have 16Gi-24Gi (for example n1-card-0 on n1)."
    assert expected in found.note
    assert "Would help: ask for memory 24Gi instead of 40Gi (n1)." in found.note
    assert found.reason == "NoDevice"
    assert not found.fits


def test_selectors_are_told_apart_as_the_authors_own_is_the_one_that_can_be_changed() -> None:
    wanted: dict[str, Any] = {
        "selectors": [
            {"cel": {"expression": 'device.capacity["dragoman.dev"].memory.isGreaterThan(quantity("20Gi"))'}},
            {"cel": {"expression": 'device.attributes["dragoman.dev"].model == "H100"'}},
        ]
    }
    found = ask([claim(**wanted)], nodes={"n1": (16, 16, 24)})
    assert "2 cards: selector false" in found.note
    expected = (
        'device.attributes["dragoman.dev"].model == "H100" is false (model is "A100") (for example n1-card-2'
    )
    assert expected in found.note
    assert "(memory is 16Gi)" in found.note


def test_different_reasons_are_told_the_most_frequent_first() -> None:
    found = ask([claim(memory="20Gi")], nodes={"n1": (24,), "n2": (16, 16)}, held=[holding("n1", "10Gi")])
    assert found.note.index("2 cards: capacity request too large") < found.note.index(
        "1 card: capacity in use"
    )
    assert "free 14Gi" in found.note


def test_what_is_the_same_on_every_node_is_said_once() -> None:
    found = ask([claim(cls="ghost.dragoman.dev")], nodes={"n1": (24,), "n2": (24,)})
    assert found.reason == "DeviceClassNotFound"
    assert found.note.count("ghost.dragoman.dev") == 1
    assert "Create it" in found.note


def test_the_same_shortage_of_cards_on_many_nodes_is_one_reason() -> None:
    found = ask([claim(memory="1Gi", count=3)], nodes={f"n{index}": (24, 24) for index in range(30)})
    assert found.note.count("3 cards are wanted of one node, and 2 would do") == 1
    assert "count 2 instead of 3" in found.note


def test_where_a_node_would_do_the_cards_are_said_not_to_be_the_reason() -> None:
    found = ask([claim(memory="4Gi")], nodes={"n1": (2,), "n2": (24,)})
    assert found.fits
    assert "1 node of 2 would do (for example n2)" in found.note


def test_where_nothing_is_published_the_reader_is_sent_to_the_condition() -> None:
    found = ask([claim(memory="4Gi")], nodes={})
    assert found.reason == "NoCards"
    assert "condition Published" in found.note


def test_two_claims_of_a_pod_are_looked_at_together() -> None:
    both = [claim(memory="20Gi"), claim(memory="20Gi")]
    assert ask(both[:1], nodes={"n1": (24,)}).fits
    assert not ask(both, nodes={"n1": (24,)}).fits


def hard_claim() -> dict[str, Any]:
    """Nine cards that all differ, where a node has eight."""
    small = {"deviceClassName": CLASS["metadata"]["name"], "capacity": {"requests": {"memory": "1Mi"}}}
    devices = {
        "requests": [{"name": f"r{index}", "exactly": small} for index in range(9)],
        "constraints": [{"requests": [], "distinctAttribute": "dragoman.dev/uuid"}],
    }
    return {"metadata": {"name": "c", "namespace": "ns", "uid": "u"}, "spec": {"devices": devices}}


def test_a_claim_that_is_hard_to_allocate_costs_one_budget_and_not_one_a_node(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("driver.allocation.why_not.survey.MAX_STEPS", 125)
    monkeypatch.setattr("driver.allocation.search.MAX_STEPS", 50)
    found = ask([hard_claim()], nodes={f"n{index}": (24,) * 8 for index in range(20)})
    assert found.note.startswith(
        "0 of 3 nodes can take the pod's claims. These claims are hard to allocate: 17 more nodes were not "
    )
    assert not found.fits


def test_a_note_for_many_reasons_still_fits_into_an_event() -> None:
    long = 'device.attributes["dragoman.dev"].model == "' + "x" * 900 + '"'
    found = ask([claim(selectors=[{"cel": {"expression": long}}])], nodes={"n1": (24,)})
    assert len(found.note.encode()) <= 1024


def test_what_would_help_has_its_place_though_there_are_many_reasons() -> None:
    long = [f'device.attributes["dragoman.dev"].model == "{letter * 150}" && true' for letter in "abcdefgh"]
    options = [
        {
            "name": f"o{place}",
            "deviceClassName": CLASS["metadata"]["name"],
            "selectors": [{"cel": {"expression": text}}],
        }
        for place, text in enumerate(long)
    ]
    wanted = claim()
    wanted["spec"]["devices"]["requests"] = [{"name": "r", "firstAvailable": options}]
    taints = claim(memory="40Gi")
    for asked in (wanted, taints):
        found = ask([asked], nodes={f"n{index}": (24, 16) for index in range(3)})
        assert len(found.note.encode()) <= 1024
        assert "Would help: " in found.note


def test_claims_of_others_are_counted_and_never_named() -> None:
    held = holding("n1", "20Gi")
    held["metadata"] = {"name": "secret-claim", "namespace": "secret-team", "uid": "secret-uid"}
    found = ask([claim(memory="10Gi")], nodes={"n1": (24,)}, held=[held])
    assert "free 4Gi of 24Gi" in found.note
    assert "secret" not in found.note
    assert "Would help: wait until others release what they hold (n1)" in found.note


def test_half_a_surrogate_pair_in_a_selector_does_not_stop_an_answer() -> None:
    found = ask([claim(selectors=[{"cel": {"expression": '"\ud800" == "x"'}}])], nodes={"n1": (24,)})
    found.note.encode()
    assert not found.fits


def test_of_several_requests_the_one_that_cannot_be_met_is_named() -> None:
    found = ask([claim(memory="1Gi"), {**claim(memory="40Gi"), "metadata": NAMED}], nodes={"n1": (24,)})
    assert "claim-2 r: memory: asks 40Gi" in found.note
