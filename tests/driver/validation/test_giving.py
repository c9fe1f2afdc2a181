from __future__ import annotations

from typing import Any

import pytest

from driver.cards import IsolationLevel
from driver.validation.cards import KnownCards
from driver.validation.limits import MAX_FINDINGS
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

EXACTLY = "spec.devices.requests[0].exactly"
MEMORY = f"{EXACTLY}.capacity.requests.memory"
A = 'device.attributes["dragoman.dev"]'


def small_and_large() -> KnownCards:
    return known(
        a=[card(0, gib=80, node="a"), card(1, gib=80, node="a")], b=[card(0, gib=24, node="b", model="L4")]
    )


def test_more_than_the_largest_card_that_is_picked_is_refused() -> None:
    found = findings(claim(request(asks={"memory": "100Gi"})), facts(small_and_large()))
    assert told(found) == [("AmountTooLarge", MEMORY)]
    (error,) = found.errors
    assert error.message == (
        "100Gi of memory is more than any card can give: the largest of the 3 cards that it picks has 80Gi."
    )
    assert error.remedy == "Ask for at most 80Gi of one card, and for several cards with count."


def test_what_the_selectors_leave_counts_and_not_what_the_cluster_has() -> None:
    found = claim(request("gpu", f'{A}.model == "L4"', asks={"memory": "40Gi"}))
    assert told(findings(found, facts(small_and_large()))) == [("AmountTooLarge", MEMORY)]
    found = claim(request("gpu", f'{A}.model == "A100"', asks={"memory": "40Gi"}))
    assert not findings(found, facts(small_and_large())).errors


def test_a_cluster_without_cards_refuses_no_amount() -> None:
    found = findings(claim(request(asks={"memory": "4Ti"})))
    assert (found.errors, found.warnings) == ((), ())


def test_where_larger_cards_may_come_it_is_a_warning() -> None:
    found = findings(claim(request(asks={"memory": "100Gi"})), facts(small_and_large(), cards_may_come=True))
    assert not found.errors
    assert "more than any card can give" in found.warnings[0]


def test_a_claim_that_kubernetes_made_from_a_template_is_only_warned_of() -> None:
    made = claim(request(asks={"memory": "100Gi"}))
    made["metadata"]["annotations"] = {"resource.kubernetes.io/pod-claim-name": "gpu"}
    found = findings(made, facts(small_and_large()))
    assert not found.errors
    assert found.warnings


def test_cards_that_are_not_offered_now_count_since_they_may_be_back() -> None:
    away = known(a=[card(0, gib=80, unpublished="The card is lost.")])
    assert not findings(claim(request(asks={"memory": "80Gi"})), facts(away)).errors


def test_memory_that_a_policy_reserves_is_not_given() -> None:
    cards = known(a=[card(0, gib=79, physical_memory_bytes=80 << 30)])
    assert told(findings(claim(request(asks={"memory": "80Gi"})), facts(cards))) == [
        ("AmountTooLarge", MEMORY)
    ]


def test_one_sub_request_that_can_be_served_is_enough() -> None:
    def sub(name: str, memory: str) -> dict[str, object]:
        return {
            "name": name,
            "deviceClassName": "nvidia.dragoman.dev",
            "capacity": {"requests": {"memory": memory}},
        }

    served = claim({"name": "gpu", "firstAvailable": [sub("large", "141Gi"), sub("small", "40Gi")]})
    found = findings(served, facts(small_and_large()))
    assert (found.errors, found.warnings) == ((), ())
    none = claim({"name": "gpu", "firstAvailable": [sub("large", "141Gi"), sub("small", "100Gi")]})
    field = "spec.devices.requests[0].firstAvailable[0].capacity.requests.memory"
    assert told(findings(none, facts(small_and_large()))) == [("AmountTooLarge", field)]


def test_amounts_that_were_carried_over_count_too() -> None:
    entry = config({**SHARE, "capacity": {"requests": {"memory": "100Gi"}}}, "gpu")
    found = findings(
        claim(request(), config=[entry]), facts(small_and_large(), release="1.34", amounts_kept=False)
    )
    assert told(found) == [("AmountTooLarge", MEMORY)]


def test_more_cards_than_any_node_has_are_warned_of() -> None:
    found = findings(claim(request(count=3)), facts(small_and_large()))
    assert not found.errors
    assert found.warnings == (
        f"{EXACTLY}.count: No node of this cluster has 3 such cards; the most on a node is 2.",
    )


def test_more_devices_than_a_claim_can_be_given_are_refused() -> None:
    assert told(findings(claim(request(count=33)))) == [("CountTooLarge", f"{EXACTLY}.count")]
    several = claim(*(request(f"r{number}", count=8) for number in range(5)))
    assert told(findings(several)) == [("CountTooLarge", "spec.devices.requests")]


def test_a_class_that_picks_no_card_is_a_warning() -> None:
    found = findings(claim(request(device_class="amd.dragoman.dev")), facts(small_and_large()))
    assert not found.errors
    assert found.warnings == (
        f"{EXACTLY}.deviceClassName: DeviceClass amd.dragoman.dev picks no card of this cluster.",
    )


def test_a_class_that_does_not_exist_is_warned_of_with_the_nearest() -> None:
    found = findings(claim(request(device_class="nvida.dragoman.dev")), facts(small_and_large()))
    assert not found.errors
    assert "Did you mean nvidia.dragoman.dev?" in found.warnings[0]


def test_a_class_of_nobody_that_is_nearly_one_of_ours_is_warned_of() -> None:
    found = findings(claim(request(device_class="nvidia.dragoman.de")), facts(small_and_large()))
    (warning,) = found.warnings
    assert warning.startswith(f"{EXACTLY}.deviceClassName: There is no DeviceClass 'nvidia.dragoman.de'.")
    assert warning.endswith("Did you mean nvidia.dragoman.dev?")
    other = findings(claim(request(device_class="tpu.google.com")), facts(small_and_large()))
    assert not other.warnings


@pytest.mark.parametrize("release", ["1.34", "1.35"])
def test_two_shares_without_distinct_attribute_are_refused_where_they_can_be_of_one_card(
    release: str,
) -> None:
    old = facts(release=release, amounts_kept=False, native=False)
    found = findings(claim(request(asks={"memory": "4Gi"}, count=2)), old)
    assert told(found) == [("SharesOfOneCard", f"{EXACTLY}.count")]
    assert found.errors[0].remedy == (
        "Add to spec.devices.constraints: {requests: [gpu], distinctAttribute: dragoman.dev/uuid}."
    )


def test_two_shares_are_of_different_cards_from_1_36_on() -> None:
    assert not findings(claim(request(asks={"memory": "4Gi"}, count=2))).errors


@pytest.mark.parametrize("names", [[], ["gpu"]])
def test_distinct_attribute_keeps_shares_apart_on_every_release(names: list[str]) -> None:
    constraint = {"requests": names, "distinctAttribute": "dragoman.dev/uuid"}
    found = claim(request(asks={"memory": "4Gi"}, count=2), constraints=[constraint])
    assert not findings(found, facts(release="1.34", amounts_kept=False)).errors


def test_a_constraint_of_another_request_does_not_keep_shares_apart() -> None:
    constraint = {"requests": ["other"], "distinctAttribute": "dragoman.dev/uuid"}
    two = (request(asks={"memory": "4Gi"}, count=2), request("other", asks={"memory": "1Gi"}, count=2))
    found = findings(claim(*two, constraints=[constraint]), facts(release="1.34", amounts_kept=False))
    assert told(found) == [("SharesOfOneCard", f"{EXACTLY}.count")]


def test_match_attribute_does_not_keep_shares_apart() -> None:
    constraint = {"requests": ["gpu"], "matchAttribute": "dragoman.dev/model"}
    found = claim(request(asks={"memory": "4Gi"}, count=2), constraints=[constraint])
    assert told(findings(found, facts(release="1.34", amounts_kept=False))) == [
        ("SharesOfOneCard", f"{EXACTLY}.count")
    ]


def test_whole_cards_need_no_distinct_attribute() -> None:
    assert not findings(claim(request(count=2)), facts(release="1.34", amounts_kept=False)).errors
    every = request(asks={"memory": "4Gi"}, allocationMode="All")
    assert not findings(claim(every), facts(release="1.34", amounts_kept=False)).errors


def test_a_constraint_over_what_no_card_has_is_warned_of_with_the_nearest() -> None:
    constraint = {"distinctAttribute": "dragoman.dev/uid"}
    found = findings(claim(request(count=2), constraints=[constraint]), facts(small_and_large()))
    assert found.warnings == (
        (
            "spec.devices.constraints[0].distinctAttribute: No card of this cluster has the attribute "
            "dragoman.dev/uid. Did you mean uuid?"
        ),
    )


def test_disabling_the_cap_is_refused_where_a_policy_refuses_it_on_every_card() -> None:
    capped = known(a=[card(0, allow_uncapped=False)])
    entry = config({**SHARE, "corePolicy": "disable"})
    found = claim(request(asks={"memory": "4Gi", "cores": "30"}), config=[entry])
    assert told(findings(found, facts(capped))) == [
        ("UncappedShare", "spec.devices.config[0].opaque.parameters.corePolicy")
    ]
    mixed = known(a=[card(0, allow_uncapped=False)], b=[card(0, node="b")])
    assert not findings(found, facts(mixed)).errors


def strict(**minimum: str) -> Any:
    return [config({**SHARE, "minimumIsolation": minimum})]


def test_limits_that_no_card_holds_as_strongly_as_wanted_are_warned_of() -> None:
    cards = facts(known(a=[card(number, memory_isolation=IsolationLevel.PRELOAD) for number in (0, 1)]))
    asks = {"memory": "4Gi", "cores": "30"}
    found = findings(claim(request(asks=asks), config=strict(memory="service")), cards)
    assert not found.errors
    (warning,) = found.warnings
    where, _, sentence = warning.partition(": ")
    assert where == "spec.devices.config[0].opaque.parameters.minimumIsolation.memory"
    assert sentence == "None of the 2 cards that it picks has a limit of memory held by service or stronger."
    (warning,) = findings(claim(request(asks=asks), config=strict(cores="preload")), cards).warnings
    assert "minimumIsolation.cores" in warning
    for enough in (strict(memory="preload"), strict(memory="none", cores="none")):
        assert not findings(claim(request(asks=asks), config=enough), cards).warnings


def test_one_card_that_holds_limits_strongly_enough_will_do() -> None:
    cards = known(a=[card(0)], b=[card(0, node="b", memory_isolation=IsolationLevel.HARDWARE)])
    asked = claim(request(asks={"memory": "4Gi"}), config=strict(memory="kernel"))
    assert not findings(asked, facts(cards)).warnings


@pytest.mark.parametrize(
    ("asks", "more"),
    [
        ({}, {}),
        ({"memory": "80Gi"}, {}),
        ({"memory": "4Gi"}, {"onUnavailable": "FailOpen"}),
        ({"memory": "80Gi", "cores": "0"}, {"minimumIsolation": {"cores": "kernel"}}),
        (
            {"memory": "80Gi", "cores": "9"},
            {"minimumIsolation": {"cores": "kernel"}, "corePolicy": "disable"},
        ),
    ],
)
def test_what_has_no_limit_or_may_go_without_needs_nobody_to_hold_it(asks: Any, more: Any) -> None:
    entry = config({**SHARE, "minimumIsolation": {"memory": "hardware"}, **more})
    found = findings(claim(request(asks=asks), config=[entry]), facts(known(a=[card(0, gib=80)])))
    assert not [one for one in found.warnings if "minimumIsolation" in one]


def test_admin_access_takes_no_amounts() -> None:
    found = claim(request(asks={"memory": "100Gi"}, adminAccess=True))
    assert not findings(found, facts(small_and_large())).errors


def test_cards_that_change_or_go_are_followed() -> None:
    cards = known(a=[card(0, gib=80)])
    asked = claim(request(asks={"memory": "80Gi"}))
    cards.put("a", [card(0, gib=40)])
    assert findings(asked, facts(cards)).errors
    cards.put("b", [card(0, gib=80, node="b")])
    assert not findings(asked, facts(cards)).errors
    cards.remove("b")
    assert findings(asked, facts(cards)).errors
    cards.remove("a")
    cards.remove("never there")
    assert not findings(asked, facts(cards)).errors
    assert cards.every == 0
    assert not cards.uuids


def test_devices_of_slices_count_like_cards_and_what_cannot_be_read_does_not() -> None:
    cards = KnownCards()
    device = {
        "name": "x",
        "attributes": {"vendor": {"string": "nvidia"}},
        "capacity": {"memory": {"value": "24Gi"}, "cores": {"value": "100"}},
    }
    cards.put_devices("slice", [device, {"name": 3}, {"attributes": []}], node="n")
    assert cards.every.bit_count() == 1
    assert told(findings(claim(request(asks={"memory": "40Gi"})), facts(cards))) == [
        ("AmountTooLarge", MEMORY)
    ]


def test_a_claim_with_a_limited_share_and_a_partition_is_warned_of() -> None:
    part = request("b", device_class="partition.dragoman.dev")
    found = findings(claim(request("a", asks={"memory": "4Gi"}), part))
    assert not found.errors
    (warning,) = (one for one in found.warnings if "a partition" in one)
    assert warning.startswith("spec.devices.requests[1].exactly: A container that gets request a")
    assert warning.endswith("give each a container of its own.")
    assert not any("a partition" in one for one in findings(claim(request("a"), part)).warnings)


def test_alternatives_of_one_request_are_never_both_given() -> None:
    share = {"deviceClassName": "nvidia.dragoman.dev", "capacity": {"requests": {"memory": "4Gi"}}}
    part = {"deviceClassName": "partition.dragoman.dev", "capacity": {"requests": {"memory": "4Gi"}}}
    either = {"name": "a", "firstAvailable": [{"name": "share", **share}, {"name": "part", **part}]}
    assert not any("a partition" in one for one in findings(claim(either)).warnings)


def test_of_very_many_classes_that_there_are_not_only_the_first_are_looked_for() -> None:
    asked: list[str] = []

    def is_ours(name: str) -> bool:
        asked.append(name)
        return name.endswith(".dragoman.dev")

    many = [request(f"r{number}", device_class=f"nvidia-{number}.example.com") for number in range(32)]
    cluster = facts(known(a=[card(0)]), is_ours=is_ours)
    findings(claim(*many), cluster)
    # Once for each request, and once for each class of the cluster where a name is looked for.
    assert len(asked) <= 32 + MAX_FINDINGS * len(cluster.classes)
