"""Allocations become shares, or are refused by the path of what is wrong."""

from __future__ import annotations

from typing import Any

import pytest

from driver.api.asked import AmountsLostError
from driver.api.share_allocation import GivenShare, config_entry
from driver.cards import Card
from driver.errors import ConfigError, DeviceGoneError, DragomanError
from driver.validation.facts import ClusterFacts
from driver.validation.validate import validate
from kubelet_plugin.prepare.claims import ClaimRef
from kubelet_plugin.prepare.shares_of import (
    AllocationUnusableError,
    ClaimReplacedError,
    Given,
    NotAllocatedError,
    check_claim,
    fingerprint,
    results_of,
)
from tests.support.node_world import POOL, card, claim, ref, result, share_config, uid_of

_CONSUMED = "status.allocation.devices.results[0].consumedCapacity"


def given(
    *results: dict[str, Any], on: Card | None = None, config: tuple[Any, ...] = ()
) -> tuple[Given, ...]:
    found = claim("c", *results, config=config)
    the_card = on or card(mib=1000)
    return results_of(found, pool=POOL, cards={the_card.name: the_card})


def refusal(*results: dict[str, Any], on: Card | None = None) -> DragomanError:
    with pytest.raises(DragomanError) as refused:
        given(*results, on=on)
    return refused.value


def test_a_share_holds_what_was_consumed() -> None:
    (found,) = given(result(request="gpu/small", memory="512Mi", cores="30"))
    share = found.share
    assert (share.memory_mib, share.cores_percent, share.whole, share.base_request) == (512, 30, False, "gpu")
    assert share.share_id == uid_of("share-a")


def test_all_memory_of_a_card_makes_the_share_whole() -> None:
    (found,) = given(result(memory="1000Mi"))
    assert found.share.whole
    assert not found.share.limits_memory


@pytest.mark.parametrize("share", ["a", ""])
def test_all_that_a_card_gives_out_is_limited_where_a_policy_reserves_the_rest(share: str) -> None:
    on = card(mib=900, physical_memory_bytes=1000 << 20, shareable=bool(share))
    (found,) = given(result(memory="900Mi", share=share), on=on)
    assert (found.share.whole, found.share.memory_mib) == (True, 900)
    assert found.share.limits_memory


@pytest.mark.parametrize(
    "changes", [{"driver": "other.example"}, {"pool": "worker"}, {"pool": "other/dragoman"}]
)
def test_results_of_other_drivers_and_pools_are_passed_over(changes: dict[str, str]) -> None:
    assert given(result(**changes)) == ()


@pytest.mark.parametrize(
    ("memory", "words"),
    [
        ("0", "no share"),
        ("-1Mi", "no share"),
        ("1500Ki", "not a whole number of MiB"),
        ("1Ki", "not a whole number of MiB"),
        ("100m", "not a whole number of MiB"),
        ("1001Mi", "more than the 1000Mi"),
        ("8Ei", "more than the 1000Mi"),
        ("a lot", "not a quantity"),
    ],
)
def test_memory_that_is_no_share_is_refused_with_its_path(memory: str, words: str) -> None:
    refused = refusal(result(memory=memory))
    assert refused.field == f"{_CONSUMED}.memory"
    assert words in refused.message


@pytest.mark.parametrize("cores", ["-1", "101", "500m", "8Ei"])
def test_cores_that_are_no_percentage_are_refused_with_their_path(cores: str) -> None:
    refused = refusal(result(cores=cores))
    assert refused.field == f"{_CONSUMED}.cores"
    assert refused.reason == "AllocationUnusable"


@pytest.mark.parametrize("missing", ["memory", "cores"])
def test_an_amount_lost_on_the_way_is_refused_and_never_taken_for_no_limit(missing: str) -> None:
    amounts: dict[str, Any] = {missing: None}
    assert refusal(result(**amounts)).field == f"{_CONSUMED}.{missing}"


def test_a_result_without_a_share_id_is_not_given_a_shareable_card() -> None:
    assert refusal(result(share="")).field == "status.allocation.devices.results[0].shareID"


def test_a_card_that_is_given_out_whole_only_is_given_whole() -> None:
    (found,) = given(result(share=""), on=card(mib=1000, shareable=False))
    assert (found.share.whole, found.share.memory_mib) == (True, 1000)


def entry(source: str = "FromClaim", **changes: str) -> dict[str, Any]:
    share = {
        "request": "gpu",
        "pool": POOL,
        "device": card().name,
        "memory": "512Mi",
        "cores": "30",
        **changes,
    }
    return {**config_entry([GivenShare(**share)]), "source": source}


def test_what_the_allocator_wrote_counts_where_the_server_dropped_the_share_id() -> None:
    (found,) = given(result(share=""), config=(entry(),))
    share = found.share
    assert (share.memory_mib, share.cores_percent, share.whole, share.share_id) == (512, 30, False, "")


def test_what_was_consumed_counts_more_than_what_the_allocator_wrote() -> None:
    (found,) = given(result(memory="256Mi", cores="20"), config=(entry(),))
    assert (found.share.memory_mib, found.share.cores_percent) == (256, 20)


@pytest.mark.parametrize(
    "changes", [{"request": "other"}, {"pool": "other/dragoman"}, {"device": "other"}], ids=str
)
def test_what_was_given_to_another_result_gives_nothing_here(changes: dict[str, str]) -> None:
    with pytest.raises(AllocationUnusableError):
        given(result(share=""), config=(entry(**changes),))


@pytest.mark.parametrize(("name", "amount"), [("memory", "0"), ("memory", "1001Mi"), ("cores", "101")])
def test_a_given_amount_that_is_no_share_is_refused(name: str, amount: str) -> None:
    with pytest.raises(AllocationUnusableError, match=name if name == "cores" else amount) as refused:
        given(result(share=""), config=(entry(**{name: amount}),))
    assert name in refused.value.field


def test_a_claim_whose_author_wrote_an_allocation_is_refused() -> None:
    found = claim("c", result(share=""), config=(entry(),))
    found["spec"] = {"devices": {"config": [entry()]}}
    with pytest.raises(ConfigError) as refused:
        results_of(found, pool=POOL, cards={card().name: card()})
    assert refused.value.field == "spec.devices.config[0].opaque.parameters.kind"


def test_a_class_that_brings_an_allocation_is_refused() -> None:
    with pytest.raises(ConfigError, match="only the allocator writes it"):
        given(result(share=""), config=(entry(source="FromClass"),))


def test_a_share_that_is_given_twice_is_refused() -> None:
    with pytest.raises(ConfigError, match="twice"):
        given(result(share=""), config=(entry(), entry()))


def test_admin_access_has_no_amounts_and_no_limits() -> None:
    (found,) = given(result(share="", adminAccess=True))
    assert found.share.admin
    assert not any((found.share.limits_memory, found.share.limits_cores))


def test_an_uncapped_share_is_refused_where_the_policy_says_so() -> None:
    refused = refusal(result(cores="0"), on=card(allow_uncapped=False))
    assert refused.remedy == "Ask for cores in the claim."


def test_a_cap_that_is_disabled_is_refused_where_the_policy_refuses_uncapped_shares() -> None:
    config = (share_config(corePolicy="disable"),)
    with pytest.raises(AllocationUnusableError) as refused:
        given(result(cores="30"), on=card(allow_uncapped=False), config=config)
    assert refused.value.field == "corePolicy"
    assert given(result(cores="30"), on=card(), config=config)
    assert given(result(memory="1000Mi"), on=card(mib=1000, allow_uncapped=False), config=config)


def test_a_whole_card_needs_no_cap_where_uncapped_shares_are_refused() -> None:
    (found,) = given(result(memory="1000Mi", cores="0"), on=card(allow_uncapped=False))
    assert found.share.whole


def test_a_card_that_is_gone_is_named() -> None:
    refused = refusal(result(device="card-9"))
    assert isinstance(refused, DeviceGoneError)
    assert "card-9" in refused.message


def test_a_card_that_is_not_offered_any_more_is_refused_with_the_reason() -> None:
    refused = refusal(result(), on=card(unpublished="MIG mode is on."))
    assert "MIG mode is on." in refused.message


def test_the_same_share_twice_in_one_request_is_refused() -> None:
    assert isinstance(refusal(result(), result()), AllocationUnusableError)


def test_two_shares_of_one_card_have_different_cdi_devices() -> None:
    first, second = given(result(share="a"), result(share="b"))
    assert first.cdi_device != second.cdi_device


def test_a_config_of_another_driver_is_passed_over() -> None:
    foreign = {"opaque": {"driver": "other.example", "parameters": {"what": "ever"}}}
    (found,) = given(result(), config=(foreign, share_config(corePolicy="disable")))
    assert found.config.core_policy == "disable"


def test_a_misspelt_config_is_refused_with_its_path() -> None:
    with pytest.raises(ConfigError) as refused:
        given(result(), config=(share_config(corePolcy="disable"),))
    assert refused.value.field == "status.allocation.devices.config[0].opaque.parameters.corePolcy"


def test_a_claim_made_anew_under_its_name_is_refused() -> None:
    found = claim("c", result())
    with pytest.raises(ClaimReplacedError):
        check_claim(found, ClaimRef(namespace="default", name="c", uid="another"))


def test_a_claim_without_an_allocation_is_refused() -> None:
    found = claim("c")
    with pytest.raises(NotAllocatedError):
        check_claim(found, ref(found))


def test_the_fingerprint_changes_with_our_part_of_the_allocation_only() -> None:
    def of(*results: dict[str, Any]) -> str:
        return fingerprint(claim("c", *results), pool=POOL)

    base = of(result())
    assert of(result(), result(driver="other.example")) == base
    assert of(result(memory="101Mi")) != base
    assert of(result(share="b")) != base


def asked(request: str = "", **amounts: str) -> dict[str, Any]:
    """Amounts that were carried over into configuration."""
    return share_config(request, capacity={"requests": amounts})


@pytest.mark.parametrize(
    ("amounts", "got"),
    [
        ({"memory": "400Mi"}, {"memory": "1000Mi"}),
        ({"memory": "400Mi"}, {"memory": "401Mi"}),
        ({"memory": "400Mi", "cores": "30"}, {"memory": "400Mi", "cores": "0"}),
        ({"cores": "30"}, {"memory": "400Mi", "cores": "31"}),
    ],
)
def test_more_than_was_asked_for_before_the_server_dropped_it_is_refused(
    amounts: dict[str, str], got: dict[str, str]
) -> None:
    with pytest.raises(AmountsLostError, match="were lost when the claim, or the template") as refused:
        given(result(**got), config=(asked(**amounts),))
    assert refused.value.field == "status.allocation.devices.results[0]"


@pytest.mark.parametrize(
    ("amounts", "got"),
    [
        ({"memory": "400Mi", "cores": "30"}, {"memory": "400Mi", "cores": "30"}),
        ({"memory": "409599Ki", "cores": "29.5"}, {"memory": "400Mi", "cores": "30"}),
        ({"memory": "1"}, {"memory": "1Mi"}),
        ({"memory": "400Mi", "cores": "0"}, {"memory": "400Mi", "cores": "1"}),
    ],
)
def test_what_was_asked_for_is_given_as_the_slices_round_it(
    amounts: dict[str, str], got: dict[str, str]
) -> None:
    assert given(result(**got), config=(asked(**amounts),))


def test_amounts_of_another_request_lose_nothing_for_this_one() -> None:
    assert given(result(memory="1000Mi"), config=(asked("other", memory="1Mi"),))
    with pytest.raises(AmountsLostError):
        given(result(request="gpu/small", memory="1000Mi"), config=(asked("gpu", memory="1Mi"),))


def test_an_amount_in_the_request_itself_counts_more_than_one_in_configuration() -> None:
    found = claim("c", result(memory="800Mi"), config=(asked(memory="400Mi"),))
    exactly = {"deviceClassName": "any", "capacity": {"requests": {"memory": "800Mi"}}}
    found["spec"] = {"devices": {"requests": [{"name": "gpu", "exactly": exactly}]}}
    assert results_of(found, pool=POOL, cards={"card-0": card()})


def test_a_card_that_is_given_out_whole_only_is_given_whoever_asks_for_a_part() -> None:
    assert given(result(share=""), on=card(mib=1000, shareable=False), config=(asked(memory="400Mi"),))


def _spec_refusal(devices: dict[str, Any]) -> DragomanError:
    found = claim("c", result(memory="512Mi"))
    found["spec"] = {"devices": devices}
    the_card = card(mib=1000)
    with pytest.raises(DragomanError) as refused:
        results_of(found, pool=POOL, cards={the_card.name: the_card})
    return refused.value


@pytest.mark.parametrize(
    ("exactly", "config", "reason"),
    [
        ({"capacity": {"requests": {"memory": "-1Gi"}}}, [], "InvalidAmount"),
        ({"capacity": {"requests": {"gpumem": "1Gi"}}}, [], "UnknownCapacity"),
        ({}, [{"corePolicy": "force"}, {"corePolicy": "disable"}], "ConflictingConfig"),
        ({}, [{"corePolicey": "force"}], "InvalidConfig"),
        ({}, [{"kind": "ShareAllocation"}], "InvalidConfig"),
    ],
)
def test_what_admission_refuses_of_a_claim_itself_is_refused_in_the_same_words(
    exactly: dict[str, Any], config: list[dict[str, Any]], reason: str
) -> None:
    head = {"apiVersion": "dragoman.dev/v1alpha1", "kind": "ShareConfig"}
    devices = {
        "requests": [{"name": "gpu", "exactly": {"deviceClassName": "nvidia.dragoman.dev", **exactly}}],
        "config": [{"opaque": {"driver": "dragoman.dev", "parameters": {**head, **one}}} for one in config],
    }
    facts = ClusterFacts(release="1.36", is_ours=bool, class_is_ours=bool, classes={})
    at_admission = validate("ResourceClaim", {"spec": {"devices": devices}}, facts=facts).errors[0]
    at_prepare = _spec_refusal(devices)
    assert at_prepare.reason == reason
    assert (at_prepare.reason, str(at_prepare)) == (at_admission.reason, str(at_admission))


def test_requests_for_cards_of_other_drivers_are_not_judged() -> None:
    the_card = card(mib=1000)
    found = claim("c", result(memory="512Mi"))
    other = {"name": "nic", "exactly": {"capacity": {"requests": {"bandwidth": "-1"}}}}
    found["spec"] = {"devices": {"requests": [{"name": "gpu", "exactly": {"count": 1}}, other]}}
    assert results_of(found, pool=POOL, cards={the_card.name: the_card})
