from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from driver.api.base import decode
from driver.api.policy import AcceleratorPolicySpec
from driver.api.policy_reading import MAX_MISFITS, read_policy
from driver.errors import ConfigError

KNOWN: dict[str, Any] = {
    "nodeSelector": {"matchLabels": {"pool": "a"}},
    "priority": 7,
    "sharing": False,
    "excluded": True,
    "isolation": ["kernel", "preload"],
    "cards": [{"uuid": "GPU-1", "excluded": False}, {"uuid": "GPU-2", "reservedMemory": "512Mi"}],
}


def told(document: dict[str, Any]) -> list[str]:
    return [error.field for error in read_policy(document)[1]]


def test_a_policy_that_fits_is_read_as_it_is() -> None:
    assert read_policy(KNOWN) == (decode(AcceleratorPolicySpec, KNOWN), ())


def test_a_field_of_a_later_version_is_named_and_all_others_hold() -> None:
    spec, misfits = read_policy({**KNOWN, "thermalLimit": 80})
    assert spec == decode(AcceleratorPolicySpec, KNOWN)
    (misfit,) = misfits
    assert (misfit.field, misfit.message) == ("spec.thermalLimit", "This field is not known.")


def test_a_field_of_a_later_version_in_an_override_leaves_the_override() -> None:
    document = {**KNOWN, "cards": [{**KNOWN["cards"][0], "thermalLimit": 80}, KNOWN["cards"][1]]}
    assert read_policy(document)[0] == decode(AcceleratorPolicySpec, KNOWN)
    assert told(document) == ["spec.cards[0].thermalLimit"]


def test_a_value_of_a_later_version_leaves_out_its_field_alone() -> None:
    document = {**KNOWN, "isolation": ["quantum", "preload"], "unhealthyEffect": "Melt"}
    spec, _ = read_policy(document)
    assert (spec.isolation, spec.unhealthy_effect, spec.excluded) == (None, None, True)
    assert sorted(told(document)) == ["spec.isolation[0]", "spec.unhealthyEffect"]


def test_an_override_of_nobody_is_left_out() -> None:
    document = {**KNOWN, "cards": [{"excluded": True}, {"uuid": 7, "sharing": True}, KNOWN["cards"][1]]}
    assert [card.uuid for card in read_policy(document)[0].cards] == ["GPU-2"]


@pytest.mark.parametrize(
    "change",
    [
        {"nodeSelector": {"matchLabels": {}, "matchFields": []}},
        {"nodeSelector": {"matchExpressions": [{"key": "a", "operator": "Gt", "values": ["1"]}]}},
        {"nodeSelector": "all"},
        {"priority": "high"},
    ],
)
def test_a_policy_whose_nodes_or_rank_cannot_be_read_holds_nowhere(change: dict[str, Any]) -> None:
    with pytest.raises(ConfigError) as refused:
        read_policy({**KNOWN, **change})
    assert refused.value.field.startswith(f"spec.{next(iter(change))}")


@pytest.mark.parametrize("document", [[], "x", None, 7])
def test_what_is_no_object_is_no_policy(document: Any) -> None:
    with pytest.raises(ConfigError):
        read_policy(document)


def test_a_bounded_number_is_named() -> None:
    assert len(told({**KNOWN, **{f"field{number}": 1 for number in range(99)}})) == MAX_MISFITS


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@given(
    changes=st.dictionaries(st.sampled_from(["sharing", "isolation", "cards", "ignoredXids", "later"]), _JSON)
)
def test_whatever_stands_in_settings_the_others_hold(changes: dict[str, Any]) -> None:
    spec, misfits = read_policy({**KNOWN, **changes})
    assert (spec.node_selector.match_labels, spec.priority, spec.excluded) == ({"pool": "a"}, 7, True)
    assert all(misfit.field.startswith("spec.") for misfit in misfits)
