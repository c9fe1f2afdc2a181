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
    assert found.note.startswith("0 of 2 nodes can take the pod's claims. 3 cards: ")
    assert "n1-card-0 on n1: memory: asked 40Gi" in found.note
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
    assert 'n1-card-2 on n1: false: device.attributes["dragoman.dev"].model == "H100"' in found.note


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
    assert found.note.count("fewer than 3 devices fit") == 1


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
    monkeypatch.setattr("controller.explaining.answers.MAX_STEPS", 125)
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
