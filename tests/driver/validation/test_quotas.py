"""What is wrong with an AcceleratorQuota."""

from __future__ import annotations

from typing import Any

import pytest

from driver.validation.facts import ClusterFacts
from driver.validation.findings import Findings
from driver.validation.limits import MAX_FINDINGS
from driver.validation.validate import validate
from tests.driver.validation.cluster import card, facts, known


def quota(cluster: ClusterFacts | None = None, **spec: Any) -> Findings:
    return validate("AcceleratorQuota", {"metadata": {"name": "q"}, "spec": spec}, facts=cluster or facts())


def test_a_quota_is_decoded_strictly() -> None:
    (error,) = quota(hard={"memroy": "64Gi"}).errors
    assert (error.field, error.remedy) == ("spec.hard.memroy", "Did you mean 'memory'?")
    assert quota(hard={"memory": "64Gi"}) == Findings()


def test_a_quota_may_limit_single_claims_alone() -> None:
    assert quota(maxPerClaim={"memory": "8Gi"}) == Findings()
    (error,) = quota().errors
    assert "Nothing is limited" in str(error)


@pytest.mark.parametrize("value", [1.5, True, ["64Gi"]])
def test_an_amount_of_another_type_is_refused_by_its_field(value: Any) -> None:
    (error,) = quota(hard={"memory": value}).errors
    assert str(error) == "spec.hard.memory: Input should be a whole number or a text."


def test_an_amount_that_cannot_be_counted_with_says_so() -> None:
    (error,) = quota(hard={"memory": "8Ei"}).errors
    assert "more than can be counted with" in str(error)


def test_a_quota_whose_cap_for_one_claim_is_above_all_is_warned_of() -> None:
    assert quota(hard={"cores": 100}, maxPerClaim={"cores": 200}).warnings == (
        "spec.maxPerClaim.cores: One claim can never have so much: cores of spec.hard is less.",
    )


def test_a_quota_for_a_class_that_does_not_exist_is_warned_of_with_the_nearest() -> None:
    (warning,) = quota(hard={"cards": 1}, deviceClassNames=["nvida.dragoman.dev"]).warnings
    assert warning.endswith("Did you mean nvidia.dragoman.dev?")


@pytest.mark.parametrize("name", ["nvida", "NVIDIA"])
def test_a_quota_for_a_vendor_that_there_is_not_is_refused_since_it_would_limit_nothing(name: str) -> None:
    (error,) = quota(hard={"cards": 1}, vendors=["amd", name]).errors
    assert (error.reason, error.field) == ("InvalidConfig", "spec.vendors[1]")
    assert error.remedy == "Did you mean nvidia?"


def test_a_vendor_that_nobody_is_like_is_refused_with_all_there_are() -> None:
    (error,) = quota(hard={"cards": 1}, vendors=["zzzzzz"]).errors
    assert "amd, ascend" in error.remedy


def test_a_vendor_of_a_card_of_the_cluster_is_known_whoever_it_is() -> None:
    cards = known(a=[card(0)])
    cards.put_devices("b", [{"name": "x", "attributes": {"vendor": {"string": "acme"}}}])
    assert quota(facts(cards), hard={"cards": 1}, vendors=["acme"]) == Findings()
    cards.remove("b")
    assert quota(facts(cards), hard={"cards": 1}, vendors=["acme"]).errors


def test_a_quota_for_a_model_that_no_card_is_of_is_warned_of_with_the_nearest() -> None:
    cluster = facts(known(a=[card(0, model="NVIDIA L4")]))
    assert quota(cluster, hard={"cards": 1}, models=["nvidia l4"]) == Findings()
    (warning,) = quota(cluster, hard={"cards": 1}, models=["NVIDIA L40"]).warnings
    assert warning.startswith("spec.models[0]: No card of this cluster is of model")
    assert warning.endswith("Did you mean NVIDIA L4?")


def test_a_part_of_a_models_name_suggests_the_whole_and_no_other_model_that_looks_like_it() -> None:
    cluster = facts(known(a=[card(0, model="NVIDIA A100-SXM4-40GB"), card(1, model="Z100")]))
    (warning,) = quota(cluster, hard={"cards": 1}, models=["a100"]).warnings
    assert warning.endswith("Did you mean NVIDIA A100-SXM4-40GB?")


def test_nothing_is_said_of_models_where_there_are_no_cards() -> None:
    assert quota(hard={"cards": 1}, models=["H100"]) == Findings()


def test_of_very_many_names_only_the_first_that_are_strange_are_looked_at() -> None:
    asked: list[str] = []

    def is_ours(name: str) -> bool:
        asked.append(name)
        return True

    cluster = facts(known(a=[card(0)]), is_ours=is_ours)
    many = [f"nvidia-{number}" for number in range(20_000)]
    found = quota(cluster, hard={"cards": 1}, deviceClassNames=many, vendors=["nvidia", *many], models=many)
    assert len(found.errors) == len(found.warnings) == MAX_FINDINGS
    assert found.errors[0].field == "spec.vendors[1]"
    assert len(asked) <= MAX_FINDINGS * len(cluster.classes)
