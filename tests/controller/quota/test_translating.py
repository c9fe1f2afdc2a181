"""ResourceQuotas about resources that converted pods do not carry any more."""

from __future__ import annotations

from typing import Any

import pytest

from controller.quota.translating import FROM, Group, Translation, groups_of, is_as_wanted
from driver.conversion import ConversionSettings
from driver.quota.ledger import read_ledger
from driver.vendors.catalogue import VENDORS

EVERY = Translation(Group(vendor=one.name, names=names) for one in VENDORS for names in one.legacy)


def resource_quota(hard: dict[str, Any], **metadata: Any) -> dict[str, Any]:
    return {
        "metadata": {"name": "team", "namespace": "ns", "uid": "u", **metadata},
        "spec": {"hard": hard},
    }


def wanted(hard: dict[str, Any]) -> list[dict[str, Any]]:
    found = EVERY.hard_of(resource_quota(hard))
    assert found is not None
    return EVERY.wanted(found)


def test_hamis_limits_become_a_quota_of_nvidias_cards() -> None:
    (made,) = wanted({"limits.nvidia.com/gpumem": "8000", "limits.nvidia.com/gpucores": "200"})
    assert made["metadata"]["name"] == "team.nvidia.com.gpu"
    assert made["metadata"]["annotations"] == {FROM: "team"}
    assert made["metadata"]["ownerReferences"][0]["uid"] == "u"
    assert made["spec"] == {"hard": {"memory": "8000Mi", "cores": "200"}, "vendors": ["nvidia"]}


def test_a_number_of_cards_of_a_device_plugin_is_translated_too() -> None:
    (made,) = wanted({"requests.nvidia.com/gpu": 4, "pods": 10})
    assert made["spec"]["hard"] == {"cards": "4"}


def test_units_of_a_vendor_are_those_of_its_table() -> None:
    (made,) = wanted({"requests.cambricon.com/mlu.smlu.vmemory": "4", "limits.cambricon.com/vmlu": "2"})
    assert made["spec"]["hard"] == {"memory": "1Gi", "cards": "2"}
    (made,) = wanted({"limits.mthreads.com/sgpu-core": "8"})
    assert made["spec"]["hard"] == {"cores": "50"}


def test_names_of_a_model_limit_that_model_alone() -> None:
    (made,) = wanted({"requests.huawei.com/Ascend910B4": "8"})
    assert made["spec"] == {"hard": {"cards": "8"}, "vendors": ["ascend"], "models": made["spec"]["models"]}
    assert "Ascend 910B4" in made["spec"]["models"]


def test_names_and_units_are_those_that_the_cluster_gives_them() -> None:
    settings = ConversionSettings(
        renamed={"nvidia.com/gpumem": "example.com/mem"},
        memory_factors={"nvidia.com/gpumem": 10},
        left_alone=frozenset({"amd.com/gpu"}),
    )
    ours = Translation(groups_of(settings))
    found = ours.hard_of(resource_quota({"limits.example.com/mem": "100", "limits.amd.com/gpu": "1"}))
    assert found is not None
    (made,) = ours.wanted(found)
    assert made["spec"]["hard"] == {"memory": "1000Mi"}


def test_the_smaller_of_two_limits_for_one_name_counts() -> None:
    (made,) = wanted({"limits.nvidia.com/gpumem": "8000", "requests.nvidia.com/gpumem": "4000"})
    assert made["spec"]["hard"] == {"memory": "4000Mi"}


def test_vendors_have_a_quota_each() -> None:
    made = wanted({"limits.nvidia.com/gpumem": "1", "requests.amd.com/gpu": "1"})
    assert [one["metadata"]["name"] for one in made] == ["team.nvidia.com.gpu", "team.amd.com.gpu"]


@pytest.mark.parametrize(
    "hard", [{}, {"pods": "3"}, {"limits.cpu": "2"}, {"nvidia.com/gpu": "1"}, {"limits.example.com/x": "1"}]
)
def test_a_resource_quota_about_other_things_is_left_alone(hard: dict[str, Any]) -> None:
    assert EVERY.hard_of(resource_quota(hard)) is None


def test_an_administrator_can_have_a_resource_quota_left_alone() -> None:
    metadata = {"annotations": {"dragoman.dev/quota": "ignored"}}
    assert EVERY.hard_of(resource_quota({"limits.nvidia.com/gpumem": "1"}, **metadata)) is None


def test_every_translation_can_be_read_as_a_quota_and_has_a_name_of_its_own() -> None:
    hard = {f"limits.{name}": "3" for one in VENDORS for entry in one.legacy for name in entry.names}
    made = wanted(hard)
    for one in made:
        read_ledger(one)
    names = [one["metadata"]["name"] for one in made]
    assert len(set(names)) == len(names) == sum(len(one.legacy) for one in VENDORS)


def test_what_is_stored_is_compared_by_its_limits_and_its_owner() -> None:
    (made,) = wanted({"limits.nvidia.com/gpumem": "8000"})
    assert is_as_wanted(made, made)
    (other,) = wanted({"limits.nvidia.com/gpumem": "9000"})
    assert not is_as_wanted(other, made)
    again = EVERY.hard_of(resource_quota({"limits.nvidia.com/gpumem": "8000"}, uid="again"))
    assert again is not None
    assert not is_as_wanted(made, EVERY.wanted(again)[0])
