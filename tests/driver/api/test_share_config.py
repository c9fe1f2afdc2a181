from __future__ import annotations

from typing import Any

import pytest

from driver.api.share_config import CorePolicy, OnUnavailable, Priority, config_for, decode_share_config
from driver.cards import IsolationLevel
from driver.errors import ConfigError

HEAD = {"apiVersion": "dragoman.dev/v1alpha1", "kind": "ShareConfig"}


def entry(
    parameters: dict[str, Any], *, driver: str = "dragoman.dev", requests: list[str] | None = None
) -> dict[str, Any]:
    return {
        "source": "FromClaim",
        "requests": requests or [],
        "opaque": {"driver": driver, "parameters": parameters},
    }


def refusal(parameters: dict[str, Any]) -> ConfigError:
    with pytest.raises(ConfigError) as refused:
        decode_share_config(parameters, field="spec.devices.config[0].opaque.parameters")
    return refused.value


@pytest.mark.parametrize(("value", "words"), [(None, "null"), (True, "true"), ("v2", "'v2'")])
def test_a_version_that_is_not_known_is_shown_in_the_words_of_yaml(value: Any, words: str) -> None:
    assert refusal({**HEAD, "apiVersion": value}).message == f"{words} is not known here."


def test_without_a_config_limits_are_forced_and_failures_are_closed() -> None:
    config = config_for([], request="r", field="f")
    assert (config.core_policy, config.on_unavailable) == (CorePolicy.FORCE, OnUnavailable.FAIL_CLOSED)


def test_every_field_can_be_set() -> None:
    config = decode_share_config(
        {
            **HEAD,
            "corePolicy": "disable",
            "minimumIsolation": {"memory": "kernel"},
            "onUnavailable": "FailOpen",
        },
        field="f",
    )
    assert config.core_policy is CorePolicy.DISABLE
    assert config.minimum_isolation.memory is IsolationLevel.KERNEL
    assert config.on_unavailable is OnUnavailable.FAIL_OPEN


def test_a_misspelt_field_is_refused_with_its_path_and_the_nearest_name() -> None:
    error = refusal({**HEAD, "corePolcy": "force"})
    assert error.field == "spec.devices.config[0].opaque.parameters.corePolcy"
    assert "corePolicy" in error.remedy


def test_a_misspelt_field_inside_another_is_refused_with_the_nearest_name_of_that_place() -> None:
    error = refusal({**HEAD, "minimumIsolation": {"memry": "kernel"}})
    assert error.field.endswith(".minimumIsolation.memry")
    assert "'memory'" in error.remedy


def test_an_unknown_field_without_a_near_name_lists_the_known_ones() -> None:
    assert "corePolicy" in refusal({**HEAD, "zzz": 1}).remedy


def test_snake_case_is_not_accepted() -> None:
    assert refusal({**HEAD, "core_policy": "force"}).field.endswith("core_policy")


def test_a_value_outside_the_list_is_refused_by_its_field() -> None:
    assert refusal({**HEAD, "corePolicy": "sometimes"}).field.endswith("corePolicy")


@pytest.mark.parametrize(
    "head", [{}, {"apiVersion": "v1", "kind": "ShareConfig"}, {**HEAD, "kind": "ShareAllocation"}]
)
def test_another_kind_is_refused(head: dict[str, Any]) -> None:
    assert refusal(head).field.rpartition(".")[2] in {"apiVersion", "kind"}


@pytest.mark.parametrize("parameters", [None, [], "x"])
def test_parameters_that_are_no_object_are_refused(parameters: Any) -> None:
    with pytest.raises(ConfigError, match="have to be an object"):
        decode_share_config(parameters, field="f")


def test_configs_of_other_drivers_are_passed_over() -> None:
    config = config_for([entry({"anything": 1}, driver="gpu.example.com")], request="r", field="f")
    assert config.core_policy is CorePolicy.FORCE


def test_a_later_entry_wins_as_claims_come_after_classes() -> None:
    config = config_for(
        [entry({**HEAD, "corePolicy": "force"}), entry({**HEAD, "corePolicy": "disable"})],
        request="r",
        field="f",
    )
    assert config.core_policy is CorePolicy.DISABLE


def test_an_entry_for_another_request_does_not_apply() -> None:
    config = config_for(
        [entry({**HEAD, "corePolicy": "disable"}, requests=["other"])], request="r", field="f"
    )
    assert config.core_policy is CorePolicy.FORCE


@pytest.mark.parametrize("names", [["card"], ["card/small"], []])
def test_an_entry_applies_by_request_by_subrequest_or_to_all(names: list[str]) -> None:
    config = config_for(
        [entry({**HEAD, "corePolicy": "disable"}, requests=names)], request="card/small", field="f"
    )
    assert config.core_policy is CorePolicy.DISABLE


def test_a_config_that_only_says_how_much_is_asked_does_not_undo_how_the_share_is_held() -> None:
    held = {"apiVersion": "dragoman.dev/v1alpha1", "kind": "ShareConfig", "corePolicy": "disable"}
    asked = {
        "apiVersion": "dragoman.dev/v1alpha1",
        "kind": "ShareConfig",
        "capacity": {"requests": {"memory": "4Gi"}},
    }
    entries = [{"opaque": {"driver": "dragoman.dev", "parameters": one}} for one in (held, asked)]
    assert config_for(entries, request="gpu", field="config").core_policy is CorePolicy.DISABLE


def test_a_priority_is_high_or_low_or_not_stated() -> None:
    def said(**fields: str) -> Priority | None:
        return decode_share_config({**HEAD, **fields}, field="p").priority

    assert (said(), said(priority="high"), said(priority="low")) == (None, Priority.HIGH, Priority.LOW)
    assert refusal({**HEAD, "priority": "0"}).field.endswith("priority")
