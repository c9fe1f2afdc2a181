from __future__ import annotations

from typing import Any

import pytest

from driver.api.base import decode
from driver.api.policy import AcceleratorPolicySpec, NamedPolicy
from driver.cards import Card, IsolationLevel
from tests.driver.validation.cluster import (
    SHARE,
    card,
    claim,
    config,
    facts,
    findings,
    known,
    request,
    told,
)

FIELD = "spec.devices.config[0].opaque.parameters.priority"
NOT_ALLOWED = f"{FIELD}: Priority high counts as low: no AcceleratorPolicy sets allowHighPriority."
CAPPED = {"memory": "4Gi", "cores": "30"}


def policy(**spec: Any) -> NamedPolicy:
    return NamedPolicy(name="p", spec=decode(AcceleratorPolicySpec, spec))


ALLOWED = policy(allowHighPriority=True)


def held(level: IsolationLevel = IsolationLevel.PRELOAD) -> Card:
    return card(0, memory_isolation=level, cores_isolation=level)


def warned(
    asks: dict[str, str] | None,
    *,
    policies: tuple[NamedPolicy, ...] = (ALLOWED,),
    on: Card | None = None,
    **said: str,
) -> tuple[str, ...]:
    entry = config({**SHARE, **said})
    cards = known(a=[held() if on is None else on])
    found = findings(claim(request(asks=asks), config=[entry]), facts(cards, policies=policies))
    assert not found.errors
    return found.warnings


def test_high_priority_that_no_policy_allows_is_told_to_count_as_low() -> None:
    assert warned(CAPPED, priority="high", policies=()) == (NOT_ALLOWED,)
    assert warned(CAPPED, priority="high", policies=(policy(allowHighPriority=False),)) == (NOT_ALLOWED,)


@pytest.mark.parametrize(
    "allows", [ALLOWED, policy(cards=[{"uuid": "GPU-1", "allowHighPriority": True}])], ids=["node", "card"]
)
def test_where_a_policy_allows_it_somewhere_nothing_is_said(allows: NamedPolicy) -> None:
    assert warned(CAPPED, priority="high", policies=(policy(sharing=True), allows)) == ()


def test_low_priority_needs_no_policy() -> None:
    assert warned(CAPPED, priority="low", policies=()) == ()


def test_a_share_with_memory_alone_can_go_first_and_cannot_wait() -> None:
    assert warned({"memory": "4Gi"}, priority="high") == ()
    (said,) = warned({"memory": "4Gi"}, priority="low")
    assert said.startswith(f"{FIELD}: No effect on request gpu: a share waits only where it has a cap")


def test_a_share_that_disables_its_cap_cannot_wait() -> None:
    (said,) = warned(CAPPED, priority="low", corePolicy="disable")
    assert said.endswith("which corePolicy: disable prevents.")


@pytest.mark.parametrize("asks", [None, {"cores": "100"}])
@pytest.mark.parametrize("priority", ["high", "low"])
def test_a_whole_card_has_nobody_to_go_before_or_to_wait_for(
    priority: str, asks: dict[str, str] | None
) -> None:
    (said,) = warned(asks, priority=priority)
    assert said.endswith("it asks for whole cards, which nobody shares.")


def test_administrative_access_is_no_share_and_is_told_nothing() -> None:
    entry = config({**SHARE, "priority": "low"})
    asked = claim(request(adminAccess=True), config=[entry])
    assert findings(asked, facts(known(a=[held()]))).warnings == ()


@pytest.mark.parametrize("level", [IsolationLevel.KERNEL, IsolationLevel.SERVICE, IsolationLevel.NONE])
def test_where_another_method_holds_limits_on_all_cards_it_is_told_to_have_no_effect(
    level: IsolationLevel,
) -> None:
    (said,) = warned(CAPPED, priority="low", on=held(level))
    assert said.startswith(f"{FIELD}: No effect: on none of the cards that request gpu picks")
    assert warned(CAPPED, on=held(level)) == ()


def test_two_entries_that_give_one_request_different_priorities_contradict_each_other() -> None:
    entries = [config({**SHARE, "priority": "high"}), config({**SHARE, "priority": "low"})]
    (error,) = findings(claim(request(asks=CAPPED), config=entries), facts()).errors
    assert (error.reason, error.field) == (
        "ConflictingConfig",
        "spec.devices.config[1].opaque.parameters.priority",
    )
    assert told(findings(claim(request(asks=CAPPED), config=entries[:1]), facts())) == []
