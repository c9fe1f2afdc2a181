from __future__ import annotations

import pytest

from driver.validation.validate import validate
from tests.driver.validation.cluster import (
    OURS,
    SHARE,
    claim,
    config,
    device_class,
    facts,
    findings,
    request,
    template,
    told,
)

PATH = "spec.devices.config[0].opaque.parameters"


def test_a_field_that_is_not_known_suggests_the_nearest() -> None:
    (error,) = findings(claim(request(), config=[config({**SHARE, "corePolicey": "force"})])).errors
    assert (error.reason, error.field) == ("InvalidConfig", f"{PATH}.corePolicey")
    assert error.remedy == "Did you mean 'corePolicy'?"


def test_a_value_that_is_not_known_suggests_the_nearest() -> None:
    (error,) = findings(claim(request(), config=[config({**SHARE, "corePolicy": "forced"})])).errors
    assert (error.reason, error.field) == ("InvalidConfig", f"{PATH}.corePolicy")
    assert error.remedy == "Did you mean 'force'?"


def test_a_kind_that_is_not_known_names_the_one_there_is() -> None:
    (error,) = findings(claim(request(), config=[config({**SHARE, "kind": "ShareConfg"})])).errors
    assert (error.field, error.remedy) == (f"{PATH}.kind", "Write ShareConfig.")


@pytest.mark.parametrize("kind", ["ResourceClaim", "ResourceClaimTemplate", "DeviceClass"])
def test_a_share_allocation_is_nobodys_to_write(kind: str) -> None:
    entry = config({"apiVersion": "dragoman.dev/v1alpha1", "kind": "ShareAllocation", "shares": []})
    entries = [config({}, driver="other.example"), entry]
    found = {
        "ResourceClaim": claim(request(), config=entries),
        "ResourceClaimTemplate": template(request(), config=entries),
        "DeviceClass": device_class("other", config=entries),
    }[kind]
    outer = {"ResourceClaim": "spec.devices", "ResourceClaimTemplate": "spec.spec.devices"}.get(kind, "spec")
    errors = validate(kind, found, facts=facts()).errors
    assert [(one.reason, one.field) for one in errors] == [
        ("InvalidConfig", f"{outer}.config[1].opaque.parameters.kind")
    ]


def test_a_share_allocation_is_refused_in_a_claim_for_other_drivers_too() -> None:
    entry = config({"kind": "ShareAllocation"})
    found = findings(claim(request(device_class="gpu.nvidia.com"), config=[entry]))
    assert [one.reason for one in found.errors] == ["InvalidConfig"]


def test_two_configs_for_one_request_must_not_say_different_things() -> None:
    entries = [config({**SHARE, "corePolicy": "force"}), config({**SHARE, "corePolicy": "disable"}, "gpu")]
    (error,) = findings(claim(request(), config=entries)).errors
    assert (error.reason, error.field) == (
        "ConflictingConfig",
        "spec.devices.config[1].opaque.parameters.corePolicy",
    )
    assert error.message == (
        "For request gpu corePolicy is disable here and force in spec.devices.config[0].opaque.parameters."
    )


def test_what_an_entry_leaves_out_is_told_as_its_default() -> None:
    entries = [config({**SHARE, "corePolicy": "default"}), config({**SHARE, "onUnavailable": "FailOpen"})]
    (error,) = findings(claim(request(), config=entries)).errors
    assert "corePolicy is force by default here and default in" in error.message


def test_two_configs_for_two_requests_may_differ() -> None:
    entries = [config({**SHARE, "corePolicy": "disable"}, "a"), config({**SHARE, "corePolicy": "force"}, "b")]
    assert findings(claim(request("a"), request("b"), config=entries)).errors == ()


def test_two_configs_that_say_the_same_are_no_conflict() -> None:
    entries = [
        config({**SHARE, "onUnavailable": "FailOpen"}),
        config({**SHARE, "onUnavailable": "FailOpen"}, "gpu"),
    ]
    assert findings(claim(request(), config=entries)).errors == ()


def test_a_conflict_about_many_requests_is_told_once() -> None:
    entries = [config({**SHARE, "corePolicy": "force"}), config({**SHARE, "corePolicy": "disable"})]
    assert len(findings(claim(*(request(f"r{n}") for n in range(8)), config=entries)).errors) == 1


def test_a_config_that_only_asks_does_not_contradict_one_that_decides() -> None:
    asking = config({**SHARE, "capacity": {"requests": {"memory": "4Gi"}}}, "gpu")
    deciding = config({**SHARE, "corePolicy": "disable"})
    found = claim(request(asks={"memory": "4Gi"}), config=[deciding, asking])
    assert findings(found).errors == ()


def test_a_config_must_not_ask_for_other_amounts_than_the_request() -> None:
    entry = config({**SHARE, "capacity": {"requests": {"memory": "8Gi"}}})
    (error,) = findings(claim(request(asks={"memory": "4Gi"}), config=[entry])).errors
    assert (error.reason, error.field) == ("ConflictingConfig", f"{PATH}.capacity.requests.memory")
    assert "8Gi for request gpu, and the request itself for memory: 4Gi" in error.message


def test_the_same_amount_in_other_words_is_no_conflict() -> None:
    entry = config({**SHARE, "capacity": {"requests": {"memory": "4096Mi"}}})
    assert findings(claim(request(asks={"memory": "4Gi"}), config=[entry])).errors == ()


def test_a_config_for_a_request_that_does_not_exist_suggests_the_nearest() -> None:
    (error,) = findings(claim(request("trainer"), config=[config(SHARE, "trainr")])).errors
    assert (error.reason, error.field) == ("UnknownRequest", "spec.devices.config[0].requests[0]")
    assert error.remedy == "Did you mean trainer?"


def test_a_config_of_another_driver_is_not_looked_at() -> None:
    entry = config({"kind": "Anything", "nonsense": True}, driver="gpu.nvidia.com")
    assert findings(claim(request(), config=[entry])).errors == ()


def test_a_class_asks_for_nothing() -> None:
    entry = config({**SHARE, "capacity": {"requests": {"memory": "4Gi"}}})
    found = validate("DeviceClass", device_class(OURS, config=[entry]), facts=facts())
    assert told(found) == [("InvalidConfig", "spec.config[0].opaque.parameters.capacity")]


def test_configs_of_a_class_must_not_contradict_each_other() -> None:
    entries = [config({**SHARE, "corePolicy": "force"}), config({**SHARE, "corePolicy": "disable"})]
    found = validate("DeviceClass", device_class(OURS, config=entries), facts=facts())
    assert told(found) == [("ConflictingConfig", "spec.config[1].opaque.parameters.corePolicy")]


def test_parameters_of_ours_for_a_misspelt_driver_are_warned_of_since_nobody_reads_them() -> None:
    entry = {"opaque": {"driver": "dragoman.de", "parameters": {**SHARE, "minimumIsolation": {}}}}
    found = findings(claim(request(), config=[entry]))
    assert not found.errors
    (warning,) = found.warnings
    assert warning.startswith("spec.devices.config[0].opaque.driver: 'dragoman.de' reads no parameters of")
    assert warning.endswith("Did you mean dragoman.dev?")
    for others in ({"apiVersion": "gpu.example.com/v1"}, {}, {"apiVersion": 7}):
        entry = {"opaque": {"driver": "gpu.example.com", "parameters": others}}
        assert not findings(claim(request(), config=[entry])).warnings
