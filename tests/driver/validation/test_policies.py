from __future__ import annotations

from typing import Any

import pytest

from driver.api.base import decode
from driver.api.policy import AcceleratorPolicySpec, NamedPolicy
from driver.validation.facts import ClusterFacts
from driver.validation.findings import Findings
from driver.validation.limits import MAX_FINDINGS
from driver.validation.validate import validate
from tests.driver.validation.cluster import card, facts, known, told


def policy(known_facts: ClusterFacts | None = None, **spec: Any) -> Findings:
    found = {"metadata": {"name": "p"}, "spec": spec}
    return validate("AcceleratorPolicy", found, facts=known_facts or facts())


def test_a_policy_that_makes_sense_passes_without_a_word() -> None:
    found = policy(
        nodeSelector={
            "matchLabels": {"pool": "a"},
            "matchExpressions": [{"key": "zone", "operator": "In", "values": ["x", "y"]}],
        },
        priority=3,
        sharing=True,
        reservedMemory="512Mi",
        isolation=["preload", "none"],
        cards=[{"uuid": "GPU-n-0", "excluded": True}],
    )
    assert (found.errors, found.warnings) == ((), ())


def test_a_field_that_is_not_known_suggests_the_nearest() -> None:
    (error,) = policy(shareing=True).errors
    assert (error.reason, error.field) == ("InvalidConfig", "spec.shareing")
    assert error.remedy == "Did you mean 'sharing'?"


def test_a_method_that_is_not_known_suggests_the_nearest() -> None:
    (error,) = policy(isolation=["prelod"]).errors
    assert (error.field, error.remedy) == ("spec.isolation[0]", "Did you mean 'preload'?")


@pytest.mark.parametrize(
    "selector",
    [
        {"matchLabels": {"a": "1"}, "matchExpressions": [{"key": "a", "operator": "NotIn", "values": ["1"]}]},
        {"matchLabels": {"a": "1"}, "matchExpressions": [{"key": "a", "operator": "DoesNotExist"}]},
        {"matchExpressions": [{"key": "a", "operator": "Exists"}, {"key": "a", "operator": "DoesNotExist"}]},
        {
            "matchExpressions": [
                {"key": "a", "operator": "In", "values": ["1"]},
                {"key": "a", "operator": "In", "values": ["2"]},
            ]
        },
    ],
)
def test_a_node_selector_that_holds_for_no_labels_is_refused(selector: dict[str, Any]) -> None:
    assert told(policy(nodeSelector=selector)) == [("ContradictingPolicy", "spec.nodeSelector")]


@pytest.mark.parametrize(
    "expression", [{"key": "a", "operator": "In"}, {"key": "a", "operator": "Exists", "values": ["1"]}]
)
def test_operators_need_values_or_take_none(expression: dict[str, Any]) -> None:
    found = policy(nodeSelector={"matchExpressions": [expression]})
    assert told(found) == [("ContradictingPolicy", "spec.nodeSelector.matchExpressions[0].values")]


def test_no_method_at_all_is_refused_but_for_whole_cards() -> None:
    assert told(policy(isolation=[])) == [("ContradictingPolicy", "spec.isolation")]
    assert not policy(isolation=[], sharing=False).errors


def test_methods_that_are_never_tried_are_refused() -> None:
    assert told(policy(isolation=["none", "preload"])) == [("ContradictingPolicy", "spec.isolation[1]")]
    assert told(policy(isolation=["preload", "preload"])) == [("ContradictingPolicy", "spec.isolation[1]")]


def test_two_overrides_for_one_card_are_refused() -> None:
    cards = [{"uuid": "GPU-1", "sharing": True}, {"uuid": "GPU-1", "sharing": False}]
    assert told(policy(cards=cards)) == [("ContradictingPolicy", "spec.cards[1].uuid")]


def test_settings_of_excluded_cards_are_warned_of() -> None:
    assert policy(excluded=True, reservedMemory="1Gi").warnings == (
        "spec: No effect on cards that are excluded: reservedMemory.",
    )
    again = policy(excluded=True, reservedMemory="1Gi", cards=[{"uuid": "GPU-1", "excluded": False}])
    assert not again.warnings, "one card is offered all the same"
    assert policy(cards=[{"uuid": "GPU-1", "excluded": True, "sharing": False}]).warnings


def test_a_cap_on_cards_that_are_given_out_whole_is_warned_of() -> None:
    assert policy(sharing=False, allowHighPriority=True).warnings == (
        (
            "spec.allowHighPriority: No effect with sharing: false, since whole cards have nobody to go "
            "before."
        ),
    )
    assert not policy(sharing=True, allowHighPriority=True, lowPriorityPercent=10).warnings
    assert policy(sharing=False, allowUncapped=False).warnings == (
        "spec.allowUncapped: No effect with sharing: false, since whole cards are never capped.",
    )


def test_an_override_for_a_card_that_is_not_there_is_warned_of_with_the_nearest() -> None:
    cards = facts(known(a=[card(0, node="abcdef")]))
    found = policy(cards, cards=[{"uuid": "GPU-abcdeg-0", "sharing": False}])
    assert found.warnings == (
        "spec.cards[0].uuid: No card of this cluster has this UUID. Did you mean GPU-abcdef-0?",
    )


def test_of_very_many_cards_that_are_not_there_only_the_first_are_looked_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    looked: list[str] = []

    def nearest(name: str, *_: object, **__: object) -> str:
        looked.append(name)
        return ""

    monkeypatch.setattr("driver.validation.policies.nearest", nearest)
    gone = [{"uuid": f"GPU-gone-{number}", "excluded": True} for number in range(500)]
    found = policy(facts(known(a=[card(0)])), cards=gone)
    # Each costs a comparison with every card of the cluster.
    assert len(looked) == len(found.warnings) == MAX_FINDINGS


def test_reserving_all_memory_of_a_card_is_refused() -> None:
    cards = facts(known(a=[card(0, gib=1, physical_memory_bytes=80 << 30)]))
    found = policy(cards, cards=[{"uuid": "GPU-n-0", "reservedMemory": "80Gi"}])
    assert told(found) == [("ContradictingPolicy", "spec.cards[0].reservedMemory")]
    assert not policy(cards, cards=[{"uuid": "GPU-n-0", "reservedMemory": "79Gi"}]).errors


def test_a_reserve_that_leaves_nothing_of_any_card_is_warned_of() -> None:
    sized = [card(number, gib=1, physical_memory_bytes=gib << 30) for number, gib in enumerate((40, 80))]
    cards = facts(known(a=sized))
    assert policy(cards, reservedMemory="80Gi").warnings == (
        "spec.reservedMemory: Nothing is left of any card of this cluster: the largest has 80Gi.",
    )
    assert not policy(cards, reservedMemory="79Gi").warnings
    assert not policy(facts(), reservedMemory="80Gi").warnings


def test_two_policies_of_one_priority_that_disagree_are_warned_of() -> None:
    other = NamedPolicy(name="a", spec=decode(AcceleratorPolicySpec, {"sharing": False}))
    found = policy(facts(policies=[other]), sharing=True)
    assert found.warnings == (
        (
            "spec.sharing: AcceleratorPolicy a says something else for the same nodes with the same "
            "priority; a wins by its name."
        ),
    )
    assert not policy(facts(policies=[other]), sharing=False).warnings
    assert not policy(facts(policies=[other]), sharing=True, priority=1).warnings
