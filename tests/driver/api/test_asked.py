"""What claims ask for survives servers that drop it, and what was lost is noticed."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from driver.api.asked import (
    STAMP,
    ClaimNotStampedError,
    asked_of,
    carry_over,
    check_stamp,
    other_constraints,
    restored,
)
from driver.errors import ConfigError

OURS = "accelerator.dragoman.dev"


def is_ours(name: str) -> bool:
    return name == OURS


def option(memory: str = "", cores: str = "", *, of: str = OURS) -> dict[str, Any]:
    amounts = {name: text for name, text in (("memory", memory), ("cores", cores)) if text}
    made: dict[str, Any] = {"deviceClassName": of, "count": 1}
    return {**made, "capacity": {"requests": amounts}} if amounts else made


def exactly(name: str = "gpu", **asked: str) -> dict[str, Any]:
    return {"name": name, "exactly": option(**asked)}


def dropped(devices: Any) -> Any:
    """What a server without the gate stores."""
    stored = copy.deepcopy(devices)
    for one in stored["requests"]:
        for inner in (one.get("exactly"), *one.get("firstAvailable", [])):
            if inner:
                inner.pop("capacity", None)
    return stored


def through(devices: Any, *, seen: bool = False, keeps: bool = False) -> tuple[Any, dict[str, str]]:
    """What is stored of a claim that went through the webhook and a server.

    `seen` is whether one that keeps amounts was seen, `keeps` whether this one does.
    """
    entries, stamp = carry_over(devices, is_ours=is_ours, kept=seen)
    stored = {**devices, "config": [*devices.get("config", []), *entries]}
    if not keeps:
        stored = dropped(stored)
    if "constraints" in stored:
        stored["constraints"] = other_constraints(devices)
    return stored, {STAMP: stamp}


def test_amounts_come_back_after_a_server_dropped_them() -> None:
    stored, annotations = through({"requests": [exactly(memory="4Gi", cores="30")]})
    check_stamp(stored, annotations, is_ours=is_ours)
    (request,) = restored(stored, is_ours=is_ours)["requests"]
    assert request["exactly"]["capacity"] == {"requests": {"memory": "4Gi", "cores": "30"}}


def test_each_sub_request_gets_its_own_amounts_back() -> None:
    subs = [{"name": "big", **option(memory="24Gi")}, {"name": "small", **option(memory="8Gi", cores="50")}]
    stored, annotations = through({"requests": [{"name": "gpu", "firstAvailable": subs}]})
    check_stamp(stored, annotations, is_ours=is_ours)
    (request,) = restored(stored, is_ours=is_ours)["requests"]
    assert [one["capacity"]["requests"] for one in request["firstAvailable"]] == [
        {"memory": "24Gi"},
        {"memory": "8Gi", "cores": "50"},
    ]


def test_requests_that_ask_alike_need_one_entry() -> None:
    entries, _ = carry_over(
        {"requests": [exactly("a", memory="4Gi"), exactly("b", memory="4Gi"), exactly("c")]}, is_ours=is_ours
    )
    assert [one["requests"] for one in entries] == [["a", "b"]]


def test_a_claim_that_asks_for_nothing_is_stamped_without_an_entry() -> None:
    stored, annotations = through({"requests": [exactly()]})
    assert stored["config"] == []
    check_stamp(stored, annotations, is_ours=is_ours)


def test_requests_of_other_drivers_are_left_alone() -> None:
    devices = {"requests": [{"name": "nic", "exactly": option(memory="1Gi", of="nic.example")}]}
    entries, _ = carry_over(devices, is_ours=is_ours)
    assert entries == []
    assert asked_of(devices, is_ours=is_ours) == {}


def test_a_claim_without_a_stamp_is_refused_with_the_remedy() -> None:
    with pytest.raises(ClaimNotStampedError, match="webhook") as refused:
        check_stamp({"requests": [exactly()]}, {}, is_ours=is_ours)
    assert "make the template anew" in refused.value.remedy


def test_a_claim_that_lost_its_entry_is_refused_though_it_has_a_stamp() -> None:
    stored, annotations = through({"requests": [exactly(memory="4Gi")]})
    with pytest.raises(ClaimNotStampedError, match="not what went through"):
        check_stamp({**stored, "config": []}, annotations, is_ours=is_ours)


def test_a_second_time_through_the_webhook_changes_nothing() -> None:
    stored, annotations = through({"requests": [exactly(memory="4Gi", cores="30")]})
    entries, stamp = carry_over(stored, is_ours=is_ours)
    assert entries == []
    assert stamp == annotations[STAMP]


def test_a_config_that_says_how_a_share_is_held_stays_as_it_is() -> None:
    parameters = {"apiVersion": "dragoman.dev/v1alpha1", "kind": "ShareConfig", "corePolicy": "disable"}
    own = {"requests": [], "opaque": {"driver": "dragoman.dev", "parameters": parameters}}
    stored, _ = through({"requests": [exactly(memory="4Gi")], "config": [own]})
    assert stored["config"][0] == own
    assert len(stored["config"]) == 2


def test_more_entries_than_the_api_allows_are_refused_by_name() -> None:
    requests = [exactly(f"r{index}", memory=f"{index + 1}Gi") for index in range(32)]
    other = {"opaque": {"driver": "other.example", "parameters": {}}}
    with pytest.raises(ConfigError) as refused:
        carry_over({"requests": requests, "config": [other]}, is_ours=is_ours)
    assert refused.value.field == "spec.devices.config"


def test_where_the_server_keeps_amounts_too_many_of_them_are_stamped_and_left_to_it() -> None:
    requests = [exactly(f"r{index}", memory=f"{index + 1}Gi") for index in range(32)]
    other = {"opaque": {"driver": "other.example", "parameters": {}}}
    devices = {"requests": requests, "config": [other]}
    entries, stamp = carry_over(devices, is_ours=is_ours, kept=True)
    assert entries == []
    check_stamp(devices, {STAMP: stamp}, is_ours=is_ours, kept=True)
    # Another server, which the webhook could not see, dropped them.
    with pytest.raises(ClaimNotStampedError, match="not what went through"):
        check_stamp(dropped(devices), {STAMP: stamp}, is_ours=is_ours, kept=True)


def test_where_servers_keep_amounts_a_claim_needs_no_stamp() -> None:
    for devices in ({"requests": [exactly()]}, {"requests": [exactly(memory="4Gi")]}):
        check_stamp(devices, {}, is_ours=is_ours, kept=True)


def test_amounts_that_are_there_show_that_no_server_dropped_them() -> None:
    devices = {"requests": [exactly("a", memory="4Gi"), exactly("b")]}
    check_stamp(devices, {STAMP: "sha256:of-something-else"}, is_ours=is_ours, kept=True)
    with pytest.raises(ClaimNotStampedError):
        check_stamp(dropped(devices), {STAMP: "sha256:of-something-else"}, is_ours=is_ours, kept=True)


amounts = st.sampled_from(["", "1Gi", "4Gi", "512Mi"])
cores = st.sampled_from(["", "0", "30"])


@given(
    st.lists(st.tuples(amounts, cores), max_size=6),
    st.lists(st.tuples(amounts, cores), max_size=4),
    st.booleans(),
    st.booleans(),
)
def test_what_is_asked_is_the_same_whichever_server_was_seen_and_whichever_stores_it(
    plain: Any, subs: Any, seen: bool, keeps: bool
) -> None:
    requests = [exactly(f"r{index}", memory=one[0], cores=one[1]) for index, one in enumerate(plain)]
    if subs:
        options = [
            {"name": f"s{index}", **option(memory=one[0], cores=one[1])} for index, one in enumerate(subs)
        ]
        requests.append({"name": "first", "firstAvailable": options})
    devices = {"requests": requests}
    stored, annotations = through(devices, seen=seen, keeps=keeps)
    check_stamp(stored, annotations, is_ours=is_ours)
    check_stamp(stored, annotations, is_ours=is_ours, kept=True)
    assert asked_of(restored(stored, is_ours=is_ours), is_ours=is_ours) == asked_of(devices, is_ours=is_ours)


def test_no_entry_names_more_requests_than_the_api_allows() -> None:
    subs = [{"name": f"s{number}", **option("1Gi")} for number in range(8)]
    devices = {"requests": [{"name": f"r{number}", "firstAvailable": subs} for number in range(32)]}
    entries, _ = carry_over(devices, is_ours=is_ours)
    assert [len(entry["requests"]) for entry in entries] == [32] * 8
    stored, annotations = through(devices)
    check_stamp(stored, annotations, is_ours=is_ours)


APART = {"requests": ["one", "two"], "distinctAttribute": "dragoman.dev/uuid"}
ALIKE = {"requests": ["one", "two"], "matchAttribute": "dragoman.dev/model"}


def two_cards(*constraints: Any) -> dict[str, Any]:
    requests = [exactly("one", memory="4Gi"), exactly("two", memory="4Gi")]
    return {"requests": requests, "constraints": list(constraints)}


def test_constraints_that_a_server_drops_come_back_and_the_others_stay_where_they_are() -> None:
    stored, annotations = through(two_cards(APART, ALIKE))
    assert stored["constraints"] == [ALIKE]
    check_stamp(stored, annotations, is_ours=is_ours)
    assert restored(stored, is_ours=is_ours)["constraints"] == [ALIKE, APART]


def test_a_server_that_keeps_a_constraint_that_was_carried_over_as_well_has_it_once() -> None:
    entries, stamp = carry_over(two_cards(APART), is_ours=is_ours)
    kept = {**dropped(two_cards(APART)), "config": entries}
    check_stamp(kept, {STAMP: stamp}, is_ours=is_ours)
    assert restored(kept, is_ours=is_ours)["constraints"] == [APART]


def test_what_was_carried_over_once_is_not_carried_over_again() -> None:
    stored, annotations = through(two_cards(APART))
    again, stamp = carry_over(stored, is_ours=is_ours)
    assert (again, stamp) == ([], annotations[STAMP])


def test_a_constraint_for_all_requests_names_none() -> None:
    stored, _ = through(two_cards({"distinctAttribute": "dragoman.dev/uuid"}))
    (constraint,) = restored(stored, is_ours=is_ours)["constraints"]
    assert constraint == {"requests": [], "distinctAttribute": "dragoman.dev/uuid"}


@pytest.mark.parametrize("lost", ["the entry", "its constraint"])
def test_a_claim_that_lost_its_constraint_has_no_stamp_that_fits(lost: str) -> None:
    stored, annotations = through(two_cards(APART))
    if lost == "the entry":
        stored["config"] = stored["config"][:-1]
    else:
        stored["config"][-1]["opaque"]["parameters"]["constraints"] = []
    with pytest.raises(ClaimNotStampedError):
        check_stamp(stored, annotations, is_ours=is_ours)


def test_claims_without_such_constraints_have_the_stamp_that_they_always_had() -> None:
    _, stamp = carry_over(two_cards(ALIKE), is_ours=is_ours)
    assert stamp == carry_over({"requests": two_cards()["requests"]}, is_ours=is_ours)[1]
