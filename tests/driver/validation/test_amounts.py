from __future__ import annotations

from typing import Any

import pytest

from driver.validation.validate import validate
from tests.driver.validation.cluster import SHARE, claim, config, facts, findings, request, template, told

PATH = "spec.devices.requests[0].exactly.capacity.requests"


def asks(**amounts: Any) -> list[tuple[str, str]]:
    return told(findings(claim(request(asks=amounts))))


def remedy(**amounts: Any) -> str:
    (error,) = findings(claim(request(asks=amounts))).errors
    return error.remedy


@pytest.mark.parametrize(
    "amounts",
    [{"memory": "4Gi"}, {"memory": 4 << 30}, {"cores": 30}, {"cores": "100"}, {"memory": "1500M"}, {}],
)
def test_amounts_that_a_card_can_give_are_admitted_without_a_word(amounts: dict[str, Any]) -> None:
    found = findings(claim(request(asks=amounts)))
    assert (found.errors, found.warnings) == ((), ())


@pytest.mark.parametrize("value", ["-1Gi", "0", "0Gi", "8Ei", "500m", 1 << 70, True, ["4Gi"], None])
def test_memory_that_no_share_can_have_is_refused(value: Any) -> None:
    assert asks(memory=value) == [("InvalidAmount", f"{PATH}.memory")]


@pytest.mark.parametrize("value", ["-1", "12.5", "500m", "101", 150, "1k"])
def test_cores_that_no_card_has_are_refused(value: Any) -> None:
    assert asks(cores=value) == [("InvalidAmount", f"{PATH}.cores")]


@pytest.mark.parametrize(
    ("value", "words"), [(True, "true is"), (["4Gi"], "A list is"), ({}, "An object is")]
)
def test_what_is_no_amount_is_shown_in_the_words_of_yaml(value: Any, words: str) -> None:
    (error,) = findings(claim(request(asks={"cores": value}))).errors
    assert error.message == f"{words} no amount."


def test_a_field_of_another_kind_is_shown_in_the_words_of_yaml() -> None:
    (error,) = findings(claim(request(asks={}), config=False)).errors
    assert error.message == "false is no list."


def test_a_fraction_of_a_byte_suggests_what_was_meant() -> None:
    assert "Did you mean 500Mi?" in remedy(memory="500m")


@pytest.mark.parametrize(
    ("amounts", "meant"),
    [({"memory": "16GB"}, "16Gi"), ({"memory": "16GiB"}, "16Gi"), ({"cores": "30%"}, "30")],
)
def test_what_is_no_quantity_suggests_the_quantity(amounts: dict[str, Any], meant: str) -> None:
    (error,) = findings(claim(request(asks=amounts))).errors
    assert error.reason == "InvalidQuantity"
    assert error.field == f"{PATH}.{next(iter(amounts))}"
    assert error.remedy == f"Did you mean {meant}?"


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("gpumem", "memory"),
        ("memroy", "memory"),
        ("dragoman.dev/memory", "memory"),
        ("gpucores", "cores"),
        ("core", "cores"),
    ],
)
def test_a_capacity_that_no_card_has_suggests_the_nearest(name: str, meant: str) -> None:
    (error,) = findings(claim(request(asks={name: "1"}))).errors
    assert error.reason == "UnknownCapacity"
    assert error.remedy == f"Did you mean {meant}?"


def test_a_capacity_that_is_like_nothing_lists_what_there_is() -> None:
    assert remedy(**{"bandwidth-of-the-link": "1"}) == "Ask for memory and cores."


def test_memory_below_a_mebibyte_is_warned_of_because_mebibytes_were_meant() -> None:
    found = findings(claim(request(asks={"memory": "4000"})))
    assert not found.errors
    assert found.warnings == (f"{PATH}.memory: 4000 bytes are rounded up to 1Mi. Did you mean 4000Mi?",)


def test_no_cores_by_number_are_warned_of() -> None:
    found = findings(claim(request(asks={"cores": "0"})))
    assert not found.errors
    assert found.warnings == (f"{PATH}.cores: 0 percent is no cap on compute, as if cores were left out.",)


def test_amounts_of_a_share_config_are_held_to_the_same_rules() -> None:
    parameters = {**SHARE, "capacity": {"requests": {"memory": "0", "cores": "101"}}}
    found = findings(claim(request(), config=[config(parameters)]), facts(amounts_kept=False))
    path = "spec.devices.config[0].opaque.parameters.capacity.requests"
    assert told(found) == [("InvalidAmount", f"{path}.memory"), ("InvalidAmount", f"{path}.cores")]


def test_requests_of_other_drivers_are_passed_over() -> None:
    other = request(asks={"vram": "-1"}, device_class="gpu.nvidia.com")
    assert findings(claim(other)).errors == ()


def test_a_template_is_held_to_the_same_rules_under_its_own_path() -> None:
    found = validate("ResourceClaimTemplate", template(request(asks={"memory": "0"})), facts=facts())
    assert told(found) == [
        ("InvalidAmount", "spec.spec.devices.requests[0].exactly.capacity.requests.memory")
    ]


def test_sub_requests_are_held_to_the_same_rules() -> None:
    sub = {"name": "a", "deviceClassName": "nvidia.dragoman.dev", "capacity": {"requests": {"memory": "0"}}}
    found = findings(claim({"name": "gpu", "firstAvailable": [sub]}))
    field = "spec.devices.requests[0].firstAvailable[0].capacity.requests.memory"
    assert told(found) == [("InvalidAmount", field)]


def test_an_amount_that_stands_nowhere_but_in_a_share_config_is_refused_where_nobody_reads_it() -> None:
    parameters = {**SHARE, "capacity": {"requests": {"memory": "4Gi"}}}
    found = claim(request(), config=[config(parameters)])
    assert [one.reason for one in findings(found).errors] == ["AmountsNotAsked"]
    assert not findings(found, facts(native=False)).errors, "our allocator reads it"
    assert not findings(found, facts(amounts_kept=False)).errors, "the server drops amounts of requests"
    both = claim(request(asks={"memory": "4Gi"}), config=[config(parameters)])
    assert not findings(both).errors, "as the webhook carries it over"
