"""The order of what happens to an object before it is stored."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest

from controller.admission.knowledge import Knowledge
from controller.admission.request import encoded
from controller.admission.review import Webhook, answer
from controller.by_turns import AtOnce, NamespaceBusyError
from driver.errors import ConfigError, DragomanError

CLAIM = {
    "metadata": {"name": "c", "uid": "claim-uid"},
    "spec": {"devices": {"requests": [{"name": "r", "exactly": {"deviceClassName": "ours"}}]}},
}


@dataclass(frozen=True)
class Converted:
    patch: tuple[Any, ...] = ({"op": "add", "path": "/spec/resourceClaims", "value": []},)
    templates: tuple[Any, ...] = ()
    warnings: tuple[str, ...] = ("Converted.",)

    def in_the_pod(self, field: str) -> str:
        return f"pod of {field}"

    def told_of_the_pod(self, sentence: str) -> str:
        return f"pod: {sentence}"


@dataclass(frozen=True)
class Found:
    errors: tuple[DragomanError, ...] = ()
    warnings: tuple[str, ...] = ()


@dataclass
class Quotas:
    refusal: DragomanError | None = None
    asked: list[Any] = field(default_factory=list)

    async def reserve(self, **asked: Any) -> None:
        self.asked.append(asked)
        if self.refusal:
            raise self.refusal


def known(**more: Any) -> Knowledge:
    return Knowledge(is_ours=lambda name: name == "ours", amounts_kept=lambda: True, **more)


def ask(
    knowledge: Knowledge,
    webhook: Webhook,
    *,
    kind: str = "ResourceClaim",
    found: Any = CLAIM,
    operation: str = "CREATE",
    dry_run: bool = False,
    old: Any = None,
    subresource: str = "",
) -> Any:
    request = {
        "uid": "request-uid",
        "kind": {"kind": kind},
        "operation": operation,
        "namespace": "team",
        "object": found,
        "oldObject": old,
        "dryRun": dry_run,
        **({"subResource": subresource} if subresource else {}),
    }
    review = {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": request}
    return asyncio.run(answer(review, knowledge, webhook=webhook))["response"]


def test_a_pod_is_converted_by_the_request_that_created_it() -> None:
    seen: list[Any] = []

    def convert(pod: Mapping[str, Any], *, identity: str) -> Converted:
        seen.append((pod, identity))
        return Converted()

    response = ask(known(convert=convert), Webhook.POD, kind="Pod", found={"spec": {}})
    assert seen == [({"spec": {}}, "request-uid")]
    assert response["patch"] == list(Converted.patch)
    assert response["warnings"] == ["Converted."]


def test_a_pod_that_asks_for_nothing_of_ours_passes_unchanged() -> None:
    response = ask(known(convert=lambda pod, identity: None), Webhook.POD, kind="Pod", found={"spec": {}})
    assert response == {"uid": "request-uid", "allowed": True}


def test_a_pod_that_cannot_be_converted_is_refused_with_the_field() -> None:
    def convert(pod: Mapping[str, Any], *, identity: str) -> Converted:
        raise ConfigError("16Gi is no number of MiB.", field="spec.containers[0]", remedy="Write 16384.")

    response = ask(known(convert=convert), Webhook.POD, kind="Pod", found={"spec": {}})
    assert response["allowed"] is False
    assert "patch" not in response
    status = response["status"]
    assert status["message"] == "InvalidConfig: spec.containers[0]: 16Gi is no number of MiB. Write 16384."
    assert status["details"]["causes"][0]["field"] == "spec.containers[0]"


def test_a_pod_whose_template_cannot_work_is_refused_by_its_place_in_the_pod() -> None:
    wrong = ConfigError("Too much.", field="spec.spec.devices", remedy="Ask for less.")

    def validate(kind: str, found: Mapping[str, Any], *, old: Any = None) -> Found:
        assert (kind, found) == ("ResourceClaimTemplate", {"spec": {}})
        return Found(errors=(wrong,), warnings=("It is odd.",))

    knowledge = known(convert=lambda pod, identity: Converted(templates=({"spec": {}},)), validate=validate)
    response = ask(knowledge, Webhook.POD, kind="Pod", found={"spec": {}})
    assert response["allowed"] is False
    assert response["status"]["message"] == "InvalidConfig: pod of spec.spec.devices: Too much. Ask for less."
    assert response["warnings"] == ["Converted.", "pod: It is odd."]
    assert wrong.field == "spec.spec.devices"


@pytest.mark.parametrize("operation", ["UPDATE", "DELETE", "CONNECT"])
def test_pods_are_converted_when_they_are_created_and_never_later(operation: str) -> None:
    def convert(pod: Mapping[str, Any], *, identity: str) -> Converted:
        raise AssertionError

    assert ask(known(convert=convert), Webhook.POD, kind="Pod", found={}, operation=operation)["allowed"]


def test_pods_of_a_namespace_that_opted_out_stay_as_they_are() -> None:
    knowledge = known(
        convert=lambda pod, identity: Converted(), opted_out=lambda namespace: namespace == "team"
    )
    assert "patch" not in ask(knowledge, Webhook.POD, kind="Pod", found={"spec": {}})


def test_the_validating_webhook_changes_nothing() -> None:
    knowledge = Knowledge(is_ours=lambda name: True, amounts_kept=lambda: False)
    assert "patch" not in ask(knowledge, Webhook.VALIDATING)


def test_all_that_is_wrong_is_said_at_once() -> None:
    errors = (ConfigError("one", field="a"), ConfigError("two", field="b"))
    response = ask(known(validate=lambda *_, **__: Found(errors=errors)), Webhook.VALIDATING)
    assert response["status"]["message"] == "InvalidConfig: a: one; InvalidConfig: b: two"
    assert [one["field"] for one in response["status"]["details"]["causes"]] == ["a", "b"]


def test_warnings_are_told_once_each_and_cut_to_what_is_kept() -> None:
    many = ("x" * 300, "x" * 300, "short", *(f"{number:0250d}" for number in range(30)))
    told = ask(known(validate=lambda *_, **__: Found(warnings=many)), Webhook.VALIDATING)["warnings"]
    assert [len(one) for one in told[:2]] == [256, 5]
    assert sum(map(len, told)) <= 4096


def test_a_claim_is_held_against_quotas_by_its_own_uid() -> None:
    quotas = Quotas()
    assert ask(known(quotas=quotas), Webhook.VALIDATING)["allowed"]
    (asked,) = quotas.asked
    assert (asked["namespace"], asked["uid"], asked["name"], asked["dry_run"]) == (
        "team",
        "claim-uid",
        "c",
        False,
    )


def test_what_a_request_does_not_say_of_a_claim_its_metadata_say_and_the_other_way_round() -> None:
    quotas = Quotas()
    request = {
        "uid": "request-uid",
        "kind": {"kind": "ResourceClaim"},
        "operation": "CREATE",
        "name": "named",
        "object": {"metadata": {"namespace": "team"}, "spec": CLAIM["spec"]},
    }
    review = {"kind": "AdmissionReview", "request": request}
    asyncio.run(answer(review, known(quotas=quotas), webhook=Webhook.VALIDATING))
    (asked,) = quotas.asked
    assert (asked["namespace"], asked["uid"], asked["name"]) == ("team", "request-uid", "named")


def test_a_dry_run_says_so_to_quotas() -> None:
    quotas = Quotas()
    ask(known(quotas=quotas), Webhook.VALIDATING, dry_run=True)
    assert quotas.asked[0]["dry_run"] is True


def test_a_claim_over_quota_is_forbidden() -> None:
    response = ask(known(quotas=Quotas(refusal=ConfigError("No more."))), Webhook.VALIDATING)
    assert response["status"]["code"] == 403
    assert response["status"]["reason"] == "Forbidden"


def test_what_is_invalid_takes_nothing_from_quotas() -> None:
    quotas = Quotas()
    errors = (ConfigError("wrong"),)
    ask(known(validate=lambda *_, **__: Found(errors=errors), quotas=quotas), Webhook.VALIDATING)
    assert not quotas.asked


@pytest.mark.parametrize("kind", ["DeviceClass", "AcceleratorPolicy", "AcceleratorQuota"])
def test_what_can_be_changed_is_checked_when_it_is_changed_beside_what_is_stored(kind: str) -> None:
    stored, changed = {"spec": {"a": 1}}, {"spec": {"a": 2}}
    asked: list[Any] = []

    def validate(*seen: Any, old: Any) -> Found:
        asked.append((*seen, old))
        return Found(errors=(ConfigError("wrong", field="spec.a"),))

    response = ask(
        known(validate=validate),
        Webhook.VALIDATING,
        kind=kind,
        operation="UPDATE",
        found=changed,
        old=stored,
    )
    assert asked == [(kind, changed, stored)]
    assert response["allowed"] is False


@pytest.mark.parametrize("webhook", [Webhook.VALIDATING, Webhook.MUTATING, Webhook.POD])
def test_a_part_of_an_object_is_stored_as_it_is(webhook: Webhook) -> None:
    quotas = Quotas()
    knowledge = known(validate=lambda *_, **__: Found(errors=(ConfigError("wrong"),)), quotas=quotas)
    for operation in ("CREATE", "UPDATE"):
        response = ask(knowledge, webhook, operation=operation, subresource="status")
        assert response == {"uid": "request-uid", "allowed": True}
    assert not quotas.asked


@pytest.mark.parametrize(
    ("kind", "operation"), [("ResourceClaimTemplate", "CREATE"), ("ResourceClaim", "UPDATE")]
)
def test_quotas_are_asked_about_new_claims_only(kind: str, operation: str) -> None:
    quotas = Quotas()
    ask(known(quotas=quotas), Webhook.VALIDATING, kind=kind, operation=operation)
    assert not quotas.asked


def test_quotas_are_asked_about_all_classes_since_another_one_may_give_a_card_of_ours() -> None:
    quotas = Quotas()
    claim = {"spec": {"devices": {"requests": [{"name": "r", "exactly": {"deviceClassName": "any"}}]}}}
    ask(known(quotas=quotas), Webhook.VALIDATING, found=claim)
    assert quotas.asked


def test_a_template_is_told_early_what_quotas_will_say_to_its_claims() -> None:
    async def advise(namespace: str, specs: Any) -> list[str]:
        return [f"{namespace}: {len(specs)} of {specs[0]['devices']}"]

    found = {"spec": {"spec": {"devices": "these"}}}
    response = ask(known(advise=advise), Webhook.VALIDATING, kind="ResourceClaimTemplate", found=found)
    assert response["warnings"] == ["team: 1 of these"]


def test_a_converted_pod_is_told_early_what_quotas_will_say_to_its_claims() -> None:
    async def advise(_namespace: str, specs: Any) -> list[str]:
        return [str(one["devices"]) for one in specs]

    templates = ({"spec": {"spec": {"devices": "these"}}},)
    response = ask(
        known(
            convert=lambda *_, **__: Converted(templates=templates),
            advise=advise,
        ),
        Webhook.POD,
        kind="Pod",
        found={},
    )
    assert response["warnings"] == ["Converted.", "these"]


def test_an_answer_without_a_patch_is_sent_as_it_is() -> None:
    review = {"response": {"uid": "u", "allowed": True}}
    assert encoded(review) is review


@pytest.mark.parametrize("kept", [False, None], ids=["dropped", "not known"])
def test_where_the_server_may_drop_amounts_a_claim_is_refused_before_they_are_carried_over(
    kept: bool | None,
) -> None:
    refusal = ConfigError("No.", field="spec.devices.requests[0].exactly.capacity.requests.memory")
    knowledge = Knowledge(
        is_ours=lambda _name: True,
        amounts_kept=lambda: kept,
        validate=lambda _kind, _found, *, old=None: Found(errors=() if old else (refusal,)),
    )
    answered = ask(knowledge, Webhook.MUTATING)
    assert not answered["allowed"]
    assert "patch" not in answered
    assert answered["status"]["details"]["causes"][0]["field"] == refusal.field


def test_where_the_server_keeps_amounts_claims_are_validated_once() -> None:
    knowledge = known(validate=lambda *_, **__: Found(errors=(ConfigError("No."),)))
    assert ask(knowledge, Webhook.MUTATING)["allowed"]


class Busy(AtOnce):
    async def run(self, namespace: str, work: Any) -> Any:
        raise NamespaceBusyError(f"{namespace} is busy.")


def test_a_claim_of_a_namespace_that_is_busy_is_to_be_sent_again_and_takes_nothing() -> None:
    quotas = Quotas()
    busy = known(validate=lambda *_, **__: Found(), quotas=quotas, beside=Busy())
    response = ask(busy, Webhook.VALIDATING)
    assert not response["allowed"]
    assert (response["status"]["code"], response["status"]["reason"]) == (429, "TooManyRequests")
    assert "NamespaceBusy: team is busy." in response["status"]["message"]
    assert quotas.asked == []


def test_a_claim_whose_charge_cannot_be_worked_out_now_is_to_be_sent_again() -> None:
    response = ask(known(quotas=Quotas(refusal=NamespaceBusyError("Busy."))), Webhook.VALIDATING)
    assert response["status"]["code"] == 429


def test_what_is_stored_unlooked_at_while_nobody_answers_is_so_too_while_its_namespace_is_busy() -> None:
    busy = known(validate=lambda *_, **__: Found(errors=(ConfigError("No."),)), beside=Busy())
    response = ask(busy, Webhook.VALIDATING, kind="ResourceClaimTemplate", found={})
    assert response["allowed"]
    assert "not looked at" in response["warnings"][0]


def test_a_pod_that_stays_as_it_is_waits_for_nobody() -> None:
    busy = known(convert=lambda *_, **__: None, validate=lambda *_, **__: Found(), beside=Busy())
    assert ask(busy, Webhook.POD, kind="Pod", found={})["allowed"]
