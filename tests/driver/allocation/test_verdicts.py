"""What an index says of selectors is believed as far as that cannot do harm."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from driver.allocation import (
    Decision,
    Profile,
    Snapshot,
    Verdicts,
    decide,
    error_kind,
    foregone,
    gather,
    prepare,
)
from driver.allocation.models import Device
from driver.allocation.requests import Option
from tests.driver.allocation.builders import (
    DRIVER,
    NODE,
    claim,
    device_class,
    exclusive,
    given,
    pool,
    reasons,
    request,
)

MODEL = f'device.attributes["{DRIVER}"].model'
IS_X, IS_FAST = f'{MODEL} == "x"', f'device.attributes["{DRIVER}"].speed > 3'


def gpu(name: str, model: str, **more: Any) -> dict[str, Any]:
    return exclusive(name, attributes={"model": {"string": model}, **more})


class Said:
    """Answers by device name, and keeps whom it was asked about."""

    def __init__(self, known: Mapping[str, bool | None]) -> None:
        self._known = known
        self.asked: list[str] = []

    def selected(self, device: Device, option: Option) -> bool | None:
        assert option.selectors
        self.asked.append(device.id.device)
        return self._known.get(device.id.device)


def ask(
    verdicts: Verdicts | None, *devices: dict[str, Any], selectors: tuple[str, ...] = (IS_X,), held: Any = ()
) -> Decision:
    snapshot = Snapshot.build(slices=[pool(*devices)], classes=[device_class()], claims=held)
    profile = Profile.of()
    node = snapshot.node(NODE)
    return decide(
        prepare([claim(request(selectors=selectors))], classes=snapshot.classes, profile=profile),
        node=node,
        pools=gather(snapshot, node, profile),
        in_use=snapshot.in_use,
        verdicts=verdicts,
    )


def test_verdicts_spare_the_evaluation_of_devices_that_are_passed_over() -> None:
    # On "a" the selector would raise, so nobody can have evaluated it.
    raising = exclusive("a")
    assert given(ask(Said({"a": False, "b": True}), raising, gpu("b", "x"))) == ["b"]


def test_what_verdicts_do_not_know_is_evaluated() -> None:
    assert given(ask(Said({"a": None}), gpu("a", "y"), gpu("b", "x"))) == ["b"]


def test_a_raise_is_told_where_the_search_comes_to_it_and_only_there() -> None:
    said = Said({"a": None, "b": True})
    decision = ask(said, exclusive("a"), gpu("b", "x"))
    assert decision.refusal is not None
    assert error_kind(decision.refusal) == "cel-runtime"
    assert given(ask(Said({"a": None, "b": True}), gpu("b", "x"), exclusive("a"))) == ["b"]


def test_a_device_that_verdicts_praise_wrongly_is_not_given() -> None:
    assert given(ask(Said({"a": True, "b": True}), gpu("a", "y"), gpu("b", "x"))) == ["b"]
    decision = ask(Said({"a": True}), gpu("a", "y"))
    assert reasons(decision) == {"a": "SelectorFalse"}


def test_a_refusal_names_the_selector_that_is_false_in_spite_of_verdicts() -> None:
    decision = ask(Said({"a": False}), gpu("a", "x", speed={"int": 1}), selectors=(IS_X, IS_FAST))
    assert decision.refusal is not None
    assert [one.message for one in decision.refusal.devices] == [f"false: {IS_FAST}"]


def test_a_device_in_use_is_not_asked_about() -> None:
    result = {"request": "r", "driver": DRIVER, "pool": NODE, "device": "a"}
    held = [{"status": {"allocation": {"devices": {"results": [result]}}}}]
    said = Said({"b": True})
    assert given(ask(said, gpu("a", "x"), gpu("b", "x"), held=held)) == ["b"]
    assert said.asked == ["b"]


@pytest.mark.parametrize(
    ("wanted", "kind"),
    [
        (claim(request(deviceClassName="nope")), "class-not-found"),
        (claim(request(count=33)), "too-many-devices"),
        (claim(request(), constraints=[{"newKind": "x"}]), "unknown-constraint"),
        (claim(request(newField=1)), "not-supported"),
        (claim(request("a", allocationMode="All"), request("b", deviceClassName="nope")), ""),
        (claim(request()), ""),
    ],
)
def test_what_ends_an_attempt_on_every_node_is_known_without_one(wanted: dict[str, Any], kind: str) -> None:
    snapshot = Snapshot.build(slices=[], classes=[device_class()])
    prepared = prepare([wanted], classes=snapshot.classes, profile=Profile.of())
    error = foregone(prepared)
    node = snapshot.node(NODE)
    decision = decide(prepared, node=node, pools=[], in_use=snapshot.in_use)
    assert decision.refusal is not None
    if kind:
        assert error is not None
        assert error.reason == decision.refusal.reason
        assert error_kind(decision.refusal) == kind
    else:
        assert error is None


def test_prepared_claims_can_be_asked_of_many_nodes() -> None:
    slices = [pool(gpu(f"gpu-{node}", "x"), node=node) for node in ("n1", "n2")]
    snapshot = Snapshot.build(slices=slices, classes=[device_class()])
    profile = Profile.of()
    prepared = prepare([claim(request(selectors=[IS_X]))], classes=snapshot.classes, profile=profile)
    for name in ("n1", "n2", "n1"):
        node = snapshot.node(name)
        pools = gather(snapshot, node, profile)
        assert given(decide(prepared, node=node, pools=pools, in_use=snapshot.in_use)) == [f"gpu-{name}"]
