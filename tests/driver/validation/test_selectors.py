from __future__ import annotations

import pytest

from driver.validation.cards import KnownCards
from driver.validation.validate import validate
from tests.driver.validation.cluster import (
    OURS,
    card,
    claim,
    device_class,
    facts,
    findings,
    known,
    request,
    told,
)

A = 'device.attributes["dragoman.dev"]'
FIELD = "spec.devices.requests[0].exactly.selectors[0].cel.expression"


def two_models() -> KnownCards:
    return known(a=[card(0), card(1, model="H100", numa_node=1)])


def test_a_selector_that_does_not_compile_is_refused_with_its_column() -> None:
    (error,) = findings(claim(request("gpu", f'{A}.model = "A100"'))).errors
    assert (error.reason, error.field) == ("InvalidSelector", FIELD)
    assert error.message.endswith("column 41).")
    assert error.remedy


def test_a_misspelt_function_suggests_the_nearest() -> None:
    (error,) = findings(claim(request("gpu", f'{A}.model.startswith("A")'))).errors
    assert error.remedy == "Did you mean 'startsWith'?"


@pytest.mark.parametrize(("release", "kept"), [("1.34", False), ("1.35", None), ("1.36", False)])
def test_allow_multiple_allocations_is_refused_where_the_server_does_not_know_it(
    release: str, *, kept: bool | None
) -> None:
    expression = 'device.driver == "dragoman.dev" && device.allowMultipleAllocations'
    (error,) = findings(claim(request("gpu", expression)), facts(release=release, amounts_kept=kept)).errors
    assert (error.reason, error.field) == ("InvalidSelector", FIELD)
    assert f"Kubernetes {release} with DRAConsumableCapacity off" in error.message
    assert "column 42" in error.message


def test_allow_multiple_allocations_is_admitted_from_1_36_on() -> None:
    assert not findings(claim(request("gpu", "device.allowMultipleAllocations"))).errors
    text = '"allowMultipleAllocations" == device.driver'
    assert not findings(claim(request("gpu", text)), facts(release="1.34", amounts_kept=False)).errors


def test_a_function_of_a_later_release_is_refused() -> None:
    expression = f'`device`.driver == "{A}"'.replace(A, "dragoman.dev")
    assert told(findings(claim(request("gpu", expression)), facts(release="1.36"))) == [
        ("InvalidSelector", FIELD)
    ]


def test_a_selector_that_holds_for_no_card_is_a_warning_with_what_cards_have() -> None:
    found = findings(claim(request("gpu", f'{A}.model == "B200"')), facts(known(a=[card(0)])))
    assert not found.errors
    (warning,) = found.warnings
    assert warning.startswith(f"{FIELD}: Is false for the one card that it is asked about.")
    assert 'model is "A100"' in warning


def test_a_selector_that_reads_what_no_card_has_suggests_the_nearest() -> None:
    found = findings(claim(request("gpu", f'{A}.modell == "A100"')), facts(two_models()))
    assert found.warnings == (
        f"{FIELD}: No card of this cluster has the attribute dragoman.dev/modell. Did you mean model?",
    )


def test_a_selector_that_fails_on_some_cards_is_a_warning() -> None:
    expression = 'device.attributes["resource.kubernetes.io"].numaNode == 1'
    found = findings(claim(request("gpu", expression)), facts(two_models()))
    assert not found.errors
    (warning,) = found.warnings
    assert warning.startswith(f"{FIELD}: This fails on 1 of the 2 cards that it is asked about, which ends")


def test_a_selector_that_fails_only_where_an_earlier_one_is_false_is_fine() -> None:
    expressions = (f'{A}.model == "H100"', 'device.attributes["resource.kubernetes.io"].numaNode == 1')
    found = findings(claim(request("gpu", *expressions)), facts(two_models()))
    assert (found.errors, found.warnings) == ((), ())


def test_selectors_that_hold_one_by_one_but_not_together_are_a_warning_at_the_last() -> None:
    expressions = (f'{A}.model == "A100"', f'{A}.uuid == "GPU-n-1"')
    found = findings(claim(request("gpu", *expressions)), facts(two_models()))
    (warning,) = found.warnings
    assert warning.startswith(f"{FIELD.replace('[0].cel', '[1].cel')}: Is false for the one card")


def test_nothing_is_said_where_there_are_no_cards() -> None:
    found = findings(claim(request("gpu", f'{A}.modell == "A100"')))
    assert (found.errors, found.warnings) == ((), ())


def test_selectors_of_our_classes_have_to_compile() -> None:
    found = validate("DeviceClass", device_class(OURS, "device.driver =="), facts=facts())
    assert told(found) == [("InvalidSelector", "spec.selectors[0].cel.expression")]


def test_selectors_of_other_drivers_classes_are_not_looked_at() -> None:
    found = validate("DeviceClass", device_class("gpu.nvidia.com", "device.driver =="), facts=facts())
    assert not found.errors


def test_a_class_of_ours_that_picks_no_card_is_warned_of() -> None:
    ours = device_class(OURS, f'{A}.vendor == "nvidai"')
    found = validate("DeviceClass", ours, facts=facts(two_models()))
    assert not found.errors
    assert found.warnings[0].startswith("spec.selectors[0].cel.expression: Is false for all 2 cards")


def test_a_class_that_cannot_be_read_says_nothing_about_claims() -> None:
    broken = {OURS: device_class(OURS, "device.driver ==")}
    found = findings(claim(request(asks={"memory": "4Ti"})), facts(two_models(), classes=broken))
    assert (found.errors, found.warnings) == ((), ())


@pytest.mark.parametrize("release", ["", "1.99", "2.0"])
def test_a_release_that_nobody_knows_is_taken_for_the_newest(release: str) -> None:
    text = 'device.attributes[?"dragoman.dev"].hasValue() && device.allowMultipleAllocations'
    assert not findings(claim(request("gpu", text)), facts(release=release)).errors


def test_a_release_before_those_that_are_known_is_taken_for_the_oldest() -> None:
    text = "device.allowMultipleAllocations"
    assert told(findings(claim(request("gpu", text)), facts(release="1.30"))) == [("InvalidSelector", FIELD)]


def test_a_name_that_cards_have_in_another_domain_is_suggested_with_it() -> None:
    cards = facts(known(a=[card(0, numa_node=0)]))
    wrong = 'device.attributes["dragoman.dev"].numaNode == 0'
    (warning,) = findings(claim(request("gpu", wrong)), cards).warnings
    assert warning.endswith("Did you mean resource.kubernetes.io/numaNode?")
    same = [{"requests": [], "matchAttribute": "dragoman.dev/numaNode"}]
    (warning,) = findings(claim(request(), constraints=same), cards).warnings
    assert warning.endswith("Did you mean resource.kubernetes.io/numaNode?")


def test_a_regular_expression_that_is_none_is_told_in_words() -> None:
    (error,) = findings(claim(request("gpu", 'device.attributes["a"].b.matches("(")'))).errors
    assert "not a regular expression: missing ): (" in error.message
