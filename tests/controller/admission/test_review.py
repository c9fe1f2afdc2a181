"""What admission adds to claims and templates, and what it leaves alone."""

from __future__ import annotations

import asyncio
import copy
from typing import Any

import pytest

from controller.admission.knowledge import Knowledge
from controller.admission.review import Webhook, answer
from driver.api.asked import STAMP, check_stamp, restored
from driver.api.share_allocation import config_entry

OURS = "accelerator.dragoman.dev"


def is_ours(name: str) -> bool:
    return name == OURS


def devices(memory: str = "4Gi", *, of: str = OURS, **more: Any) -> Any:
    exactly: dict[str, Any] = {"deviceClassName": of, "count": 1}
    if memory:
        exactly["capacity"] = {"requests": {"memory": memory}}
    return {"requests": [{"name": "gpu", "exactly": exactly}], **more}


def claim(**metadata: Any) -> Any:
    return {"metadata": {"name": "c", **metadata}, "spec": {"devices": devices()}}


def template(metadata: Any = None) -> Any:
    spec = {"spec": {"devices": devices()}}
    return {
        "metadata": {"name": "t"},
        "spec": spec | ({"metadata": metadata} if metadata is not None else {}),
    }


def review(
    found: Any, *, kind: str = "ResourceClaim", kept: bool | None = False, operation: str = "CREATE"
) -> Any:
    request = {"uid": "u", "kind": {"kind": kind}, "operation": operation, "object": found}
    known = Knowledge(is_ours=is_ours, amounts_kept=lambda: kept)
    sent = {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": request}
    return asyncio.run(answer(sent, known, webhook=Webhook.MUTATING))["response"]


def patched(found: Any, response: Any) -> Any:
    """Applies `add` operations, as the API server does."""
    result = copy.deepcopy(found)
    for one in response.get("patch", []):
        assert one["op"] == "add"
        *path, last = [part.replace("~1", "/").replace("~0", "~") for part in one["path"].split("/")[1:]]
        inner = result
        for part in path:
            inner = inner[part]
        inner[last] = one["value"]
    return result


@pytest.mark.parametrize("annotations", [None, {}, {"other": "x"}])
def test_a_claim_is_stamped_and_its_amounts_are_carried_over(annotations: Any) -> None:
    sent = claim(**({} if annotations is None else {"annotations": annotations}))
    stored = patched(sent, review(sent))
    found = stored["spec"]["devices"]
    found["requests"][0]["exactly"].pop("capacity")
    check_stamp(found, stored["metadata"]["annotations"], is_ours=is_ours)
    (request,) = restored(found, is_ours=is_ours)["requests"]
    assert request["exactly"]["capacity"]["requests"] == {"memory": "4Gi"}
    assert set(annotations or {}) <= set(stored["metadata"]["annotations"])


def test_what_a_claim_says_about_its_devices_stays_beside_what_is_carried_over() -> None:
    own = {"opaque": {"driver": "nic.example", "parameters": {"speed": 1}}}
    sent = claim()
    sent["spec"]["devices"]["config"] = [own]
    kept, carried = patched(sent, review(sent))["spec"]["devices"]["config"]
    assert kept == own
    assert carried["opaque"]["driver"] == "dragoman.dev"


def test_a_wrong_stamp_is_replaced() -> None:
    sent = claim(annotations={STAMP: "of another claim"})
    stored = patched(sent, review(sent))
    check_stamp(stored["spec"]["devices"], stored["metadata"]["annotations"], is_ours=is_ours)


def test_alternatives_of_ours_are_stamped_as_well() -> None:
    asked = {"requests": {"memory": "4Gi"}}
    option = {"name": "small", "deviceClassName": OURS, "count": 1, "capacity": asked}
    sent = {
        "metadata": {"name": "c"},
        "spec": {"devices": {"requests": [{"name": "gpu", "firstAvailable": [option]}]}},
    }
    assert STAMP in patched(sent, review(sent))["metadata"]["annotations"]


@pytest.mark.parametrize("metadata", [None, {}, {"labels": {"a": "b"}}])
def test_a_template_hands_stamp_and_amounts_on_to_its_claims(metadata: Any) -> None:
    sent = template(metadata)
    stored = patched(sent, review(sent, kind="ResourceClaimTemplate"))
    made = {"metadata": stored["spec"]["metadata"], "spec": stored["spec"]["spec"]}
    check_stamp(made["spec"]["devices"], made["metadata"]["annotations"], is_ours=is_ours)


def test_a_claim_made_from_a_template_without_a_stamp_gets_none() -> None:
    sent = claim(annotations={"resource.kubernetes.io/pod-claim-name": "gpu"})
    assert "patch" not in review(sent)


@pytest.mark.parametrize("kind", ["ResourceClaim", "ResourceClaimTemplate"])
def test_amounts_are_carried_over_where_servers_keep_them_since_another_one_may_be_asking(kind: str) -> None:
    sent = claim() if kind == "ResourceClaim" else template()
    stored = patched(sent, review(sent, kind=kind, kept=True))
    made = stored if kind == "ResourceClaim" else stored["spec"]
    annotations = made["metadata"]["annotations"]
    # Stored by a server that keeps amounts it is the same as ever,
    assert restored(made["spec"]["devices"], is_ours=is_ours)["requests"] == devices()["requests"]
    check_stamp(made["spec"]["devices"], annotations, is_ours=is_ours, kept=True)
    # and by one that drops them they come back.
    made["spec"]["devices"]["requests"][0]["exactly"].pop("capacity")
    check_stamp(made["spec"]["devices"], annotations, is_ours=is_ours, kept=True)
    assert restored(made["spec"]["devices"], is_ours=is_ours)["requests"] == devices()["requests"]


def test_nothing_is_added_where_kube_scheduler_allocates() -> None:
    knowledge = Knowledge(is_ours=is_ours, amounts_kept=lambda: True, stamps=False)
    request = {"uid": "u", "kind": {"kind": "ResourceClaim"}, "operation": "CREATE", "object": claim()}
    sent = {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": request}
    assert "patch" not in asyncio.run(answer(sent, knowledge, webhook=Webhook.MUTATING))["response"]


def test_while_that_is_not_known_amounts_are_carried_over() -> None:
    assert review(claim(), kept=None)["patch"]


def test_claims_of_other_drivers_pass_unchanged() -> None:
    sent = {"metadata": {"name": "c"}, "spec": {"devices": devices(of="nic.example")}}
    assert review(sent) == {"uid": "u", "allowed": True}


@pytest.mark.parametrize(("kind", "operation"), [("Pod", "CREATE"), ("ResourceClaim", "UPDATE")])
def test_other_kinds_and_operations_pass_unchanged(kind: str, operation: str) -> None:
    assert review(claim(), kind=kind, operation=operation) == {"uid": "u", "allowed": True}


@pytest.mark.parametrize("then", [True, False, None])
@pytest.mark.parametrize("first", [True, False, None])
def test_a_claim_that_was_seen_already_is_not_changed_again(first: bool | None, then: bool | None) -> None:
    sent = claim()
    stored = patched(sent, review(sent, kept=first))
    assert "patch" not in review(stored, kept=then)


def test_a_claim_with_an_allocation_of_its_own_is_refused_with_path_and_remedy() -> None:
    entry = {key: value for key, value in config_entry([]).items() if key != "source"}
    sent = {"metadata": {"name": "c"}, "spec": {"devices": devices(config=[entry])}}
    response = review(sent)
    assert response["allowed"] is False
    assert response["status"]["code"] == 422
    assert "spec.devices.config[0].opaque.parameters.kind" in response["status"]["message"]


def test_a_misspelt_config_is_refused_with_its_path() -> None:
    parameters = {"apiVersion": "dragoman.dev/v1alpha1", "kind": "ShareConfig", "corePolcy": "force"}
    entry = {"opaque": {"driver": "dragoman.dev", "parameters": parameters}}
    response = review({"metadata": {"name": "c"}, "spec": {"devices": devices(config=[entry])}})
    assert response["allowed"] is False
    assert "corePolicy" in response["status"]["message"]


@pytest.mark.parametrize("sent", [{}, {"kind": "AdmissionReview"}, {"kind": "Pod", "request": {}}])
def test_what_is_no_review_is_refused(sent: Any) -> None:
    with pytest.raises(ValueError, match="no AdmissionReview"):
        asyncio.run(
            answer(
                sent,
                Knowledge(is_ours=is_ours, amounts_kept=lambda: False),
                webhook=Webhook.MUTATING,
            )
        )


@pytest.mark.parametrize(
    "changed",
    [
        {"uid": ""},
        {"uid": None},
        {"uid": 7},
        {"object": [1]},
        {"object": "x"},
        {"object": None},
        {"object": None, "operation": "UPDATE"},
        {"oldObject": 5},
        {"kind": "ResourceClaim"},
        {"dryRun": "true"},
        {"dryRun": 0},
    ],
    ids=str,
)
def test_a_request_that_no_server_sends_is_never_allowed(changed: Any) -> None:
    sent = {"uid": "u", "kind": {"kind": "ResourceClaim"}, "operation": "CREATE", "object": claim()}
    known = Knowledge(is_ours=is_ours, amounts_kept=lambda: False)
    reviewed = {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": sent | changed}
    with pytest.raises(ValueError, match=r"^(Its|This)"):
        asyncio.run(answer(reviewed, known, webhook=Webhook.VALIDATING))


def test_a_review_of_another_version_is_not_answered_as_if_it_were_of_this_one() -> None:
    sent = {"uid": "u", "kind": {"kind": "ResourceClaim"}, "operation": "CREATE", "object": claim()}
    known = Knowledge(is_ours=is_ours, amounts_kept=lambda: False)
    reviewed = {"apiVersion": "admission.k8s.io/v1beta1", "kind": "AdmissionReview", "request": sent}
    with pytest.raises(ValueError, match=r"admission\.k8s\.io/v1"):
        asyncio.run(answer(reviewed, known, webhook=Webhook.VALIDATING))


@pytest.mark.parametrize("odd", [1, "x", [1], True])
@pytest.mark.parametrize("path", ["metadata", "spec", "spec.devices", "spec.devices.requests"])
def test_an_object_of_any_other_shape_is_refused(path: str, odd: Any) -> None:
    found = claim()
    *parents, last = path.split(".")
    holder = found
    for name in parents:
        holder = holder[name]
    holder[last] = odd
    with pytest.raises(ValueError, match="API server would store"):
        review(found)
