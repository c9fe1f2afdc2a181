"""What a claim's ShareConfig means for a pod that waits."""

from typing import Any

import pytest

from controller.explaining.answers import Answer, Configs, answer
from driver.allocation import Snapshot
from driver.cards import Card, IsolationLevel
from driver.slices import publication_of, with_generation

CLASS: dict[str, Any] = {"metadata": {"name": "any"}, "spec": {}}


def config(*, requests: Any = (), **parameters: Any) -> dict[str, Any]:
    named = {"apiVersion": "dragoman.dev/v1alpha1", "kind": "ShareConfig", **parameters}
    return {"requests": list(requests), "opaque": {"driver": "dragoman.dev", "parameters": named}}


def minimum(level: str, **more: Any) -> dict[str, Any]:
    return config(minimumIsolation={"memory": level}, **more)


def claim(memory: str) -> dict[str, Any]:
    exactly = {"deviceClassName": "any", "capacity": {"requests": {"memory": memory}}}
    return {
        "metadata": {"name": "claim-1", "namespace": "pod"},
        "spec": {"devices": {"requests": [{"name": "r", "exactly": exactly}]}},
    }


def ask(
    *entries: dict[str, Any],
    memory: str = "1Gi",
    levels: tuple[IsolationLevel, ...] = (IsolationLevel.PRELOAD,),
    classes: dict[str, Any] | None = None,
) -> Answer:
    cards = [
        Card(name=f"c-{place}", vendor="v", model="M", memory_bytes=24 << 30, memory_isolation=level)
        for place, level in enumerate(levels)
    ]
    slices = [with_generation(item, 1) for item in publication_of(cards, node="n1").slices]
    snapshot = Snapshot.build(slices=slices, classes=[CLASS])
    configs = Configs(claims=[list(entries)], classes=classes or {})
    return answer(snapshot, nodes=["n1"], claims=[claim(memory)], configs=configs)


def test_isolation_that_no_card_has_is_the_answer_though_the_scheduler_would_take_one() -> None:
    found = ask(minimum("hardware"))
    assert not found.fits
    assert found.reason == "MinimumIsolationUnmet"
    assert "wants memory by hardware or stronger, which no card can give" in found.note


def test_isolation_that_some_cards_have_is_a_remark() -> None:
    found = ask(minimum("kernel"), levels=(IsolationLevel.PRELOAD, IsolationLevel.HARDWARE))
    assert found.fits
    assert "1 of 2 cards can give; on the others the node refuses the pod" in found.note


def test_isolation_that_all_cards_have_needs_no_word() -> None:
    assert "minimumIsolation" not in ask(minimum("preload")).note


def test_the_remark_comes_after_why_no_card_fits() -> None:
    found = ask(minimum("hardware"), memory="40Gi")
    assert found.reason == "NoDevice"
    assert found.note.index("asks 40Gi") < found.note.index("minimumIsolation")


def test_a_share_config_that_does_not_decode_is_told_with_its_field() -> None:
    found = ask(config(corePolicy="sometimes"))
    assert not found.fits
    assert found.reason == "InvalidConfig"
    assert "The node will refuse the pod: spec.devices.config[0].opaque.parameters.corePolicy" in found.note


def test_a_classs_share_config_counts_and_a_claims_own_counts_more() -> None:
    classes = {"any": [minimum("hardware")]}
    assert ask(classes=classes).reason == "MinimumIsolationUnmet"
    assert ask(minimum("none"), classes=classes).fits


@pytest.mark.parametrize(("requests", "fits"), [(["r"], False), (["other"], True)])
def test_only_the_config_of_a_request_counts_for_it(requests: list[str], fits: bool) -> None:
    assert ask(minimum("hardware", requests=requests)).fits == fits


def test_amounts_that_were_lost_are_told_before_the_node_refuses_them() -> None:
    found = ask(config(capacity={"requests": {"memory": "1Gi", "cores": "30"}}))
    assert (found.fits, found.reason) == (False, "AmountsLost")
    assert "request r asks for cores: 30 in a ShareConfig only" in found.note
    assert "Make the ResourceClaimTemplate anew" in found.note


def test_amounts_in_a_share_config_that_the_request_has_as_well_are_not_lost() -> None:
    assert ask(config(capacity={"requests": {"memory": "2Gi"}})).fits
