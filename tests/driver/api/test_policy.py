from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from driver.api.base import decode
from driver.api.policy import AcceleratorPolicySpec, EffectivePolicy, NamedPolicy, effective_policy
from driver.cards import Card, IsolationLevel, TaintEffect
from driver.errors import ConfigError

LABELS = {"zone": "a", "kubernetes.io/hostname": "node-1"}
CARD = Card(name="nvidia-1", vendor="nvidia", model="A30", uuid="GPU-1", memory_bytes=24 << 30)


def policy(name: str, **spec: Any) -> NamedPolicy:
    return NamedPolicy(name=name, spec=decode(AcceleratorPolicySpec, spec))


def effective(*policies: NamedPolicy) -> EffectivePolicy:
    return effective_policy(policies, node_labels=LABELS)


def test_without_policies_cards_are_shared_whole_and_preload_is_tried_alone() -> None:
    result = effective()
    assert result.apply(CARD) == CARD
    assert result.isolation == (IsolationLevel.PRELOAD,)


def test_no_share_goes_before_others_unless_a_policy_says_so() -> None:
    assert not effective().apply(CARD).allow_high_priority
    card = effective(policy("p", allowHighPriority=True, lowPriorityPercent=20)).apply(CARD)
    assert (card.allow_high_priority, card.low_priority_percent) == (True, 20)


def test_shares_of_low_priority_have_a_part_of_the_time_unless_a_policy_takes_it() -> None:
    assert effective().apply(CARD).low_priority_percent == 5
    assert effective(policy("p", lowPriorityPercent=0)).apply(CARD).low_priority_percent == 0


@pytest.mark.parametrize("percent", [-1, 100, "5", 2.5, True])
def test_a_part_of_the_time_is_a_whole_percent_below_100(percent: object) -> None:
    with pytest.raises(ConfigError, match="lowPriorityPercent"):
        policy("p", lowPriorityPercent=percent)


def test_the_highest_priority_wins_field_by_field() -> None:
    result = effective(
        policy("low", priority=1, sharing=False, reservedMemory="1Gi"),
        policy("high", priority=2, sharing=True),
    )
    assert (result.settings["sharing"].value, result.settings["sharing"].source) == (True, "high")
    assert (result.settings["reservedMemory"].value, result.settings["reservedMemory"].source) == (
        "1Gi",
        "low",
    )


def test_equal_priorities_are_decided_by_name() -> None:
    result = effective(policy("b", sharing=True), policy("a", sharing=False))
    assert result.settings["sharing"].source == "a"


def test_a_policy_for_other_nodes_does_not_apply() -> None:
    result = effective(policy("other", sharing=False, nodeSelector={"matchLabels": {"zone": "b"}}))
    assert result.settings["sharing"].source == "default"


@pytest.mark.parametrize(
    ("expression", "holds"),
    [
        ({"key": "zone", "operator": "In", "values": ["a", "c"]}, True),
        ({"key": "zone", "operator": "NotIn", "values": ["a"]}, False),
        ({"key": "missing", "operator": "NotIn", "values": ["a"]}, True),
        ({"key": "zone", "operator": "Exists"}, True),
        ({"key": "zone", "operator": "DoesNotExist"}, False),
    ],
)
def test_label_expressions_mean_what_kubernetes_means(expression: dict[str, Any], holds: bool) -> None:
    result = effective(policy("p", sharing=False, nodeSelector={"matchExpressions": [expression]}))
    assert (result.settings["sharing"].value is False) is holds


def test_an_override_for_a_card_wins_over_its_own_policys_setting() -> None:
    result = effective(policy("p", sharing=True, cards=[{"uuid": "GPU-1", "sharing": False}]))
    assert not result.apply(CARD).shareable


def test_a_setting_of_a_higher_priority_stands_above_an_override_of_a_lower_one() -> None:
    result = effective(
        policy("low", priority=1, cards=[{"uuid": "GPU-1", "sharing": False}]),
        policy("high", priority=2, sharing=True),
    )
    assert result.apply(CARD).shareable


def test_an_override_for_a_field_that_no_higher_policy_sets_holds() -> None:
    result = effective(
        policy("low", priority=1, cards=[{"uuid": "GPU-1", "excluded": True}]),
        policy("high", priority=2, sharing=True),
    )
    assert result.apply(CARD).unpublished


def test_reserved_memory_is_never_given_out() -> None:
    assert effective(policy("p", reservedMemory="512Mi")).apply(CARD).memory_bytes == (24 << 30) - (512 << 20)


def test_a_card_keeps_its_physical_memory_whatever_is_reserved() -> None:
    assert effective(policy("p", reservedMemory="512Mi")).apply(CARD).physical_memory_mib == 24 << 10
    assert effective().apply(CARD).physical_memory_mib == 24 << 10
    known = replace(CARD, physical_memory_bytes=25 << 30)
    assert effective(policy("p", reservedMemory="512Mi")).apply(known).physical_memory_mib == 25 << 10


def test_a_card_whose_memory_is_all_reserved_is_not_offered() -> None:
    assert "reserves all" in effective(policy("p", reservedMemory="24Gi")).apply(CARD).unpublished


def test_an_excluded_card_is_not_offered() -> None:
    assert effective(policy("p", excluded=True)).apply(CARD).unpublished == "Excluded by policy."


@pytest.mark.parametrize("amount", ["1500k", "-1Gi", "1.5", "much"])
def test_reserved_memory_has_to_be_whole_mebibytes(amount: str) -> None:
    with pytest.raises(ConfigError) as refused:
        policy("p", reservedMemory=amount)
    assert refused.value.field == "reservedMemory"


def test_isolation_is_taken_in_the_order_given() -> None:
    result = effective(policy("p", isolation=["kernel", "preload", "none"]))
    assert result.isolation == (IsolationLevel.KERNEL, IsolationLevel.PRELOAD, IsolationLevel.NONE)


def test_a_misspelt_required_field_is_named_rather_than_the_missing_one() -> None:
    with pytest.raises(ConfigError) as refused:
        policy("p", cards=[{"uid": "GPU-1"}])
    assert refused.value.field == "cards[0].uid"
    assert "'uuid'" in refused.value.remedy


def test_a_card_with_a_fault_is_kept_from_new_claims_unless_a_policy_says_otherwise() -> None:
    assert effective().value("unhealthyEffect", uuid="U") is TaintEffect.NO_SCHEDULE
    found = effective(
        policy("p", unhealthyEffect="NoExecute", cards=[{"uuid": "U", "unhealthyEffect": "None"}])
    )
    assert found.value("unhealthyEffect", uuid="U") is TaintEffect.NONE
    assert found.value("unhealthyEffect", uuid="V") is TaintEffect.NO_EXECUTE


def test_no_xid_is_ignored_unless_a_policy_names_it() -> None:
    assert effective().value("ignoredXids", uuid="U") == ()
    assert effective(policy("p", ignoredXids=[74, 92])).value("ignoredXids", uuid="U") == (74, 92)
