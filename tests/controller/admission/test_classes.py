"""DeviceClasses that stand for extended resources: which are served, and what survives old servers."""

from __future__ import annotations

import asyncio
import copy
import json
from typing import Any

import pytest
from jsonpatch import apply_patch

from controller.admission.cluster import Cluster, class_document
from controller.admission.knowledge import Knowledge
from controller.admission.review import Webhook, answer
from controller.extended import CARRIED, IMPLICIT
from tooling.replay.admit_kept import Kept

OURS = {"dragoman.dev/driver": "true"}
GOLD = "example.com/gold"


def is_ours(document: Any) -> bool:
    return bool((document["metadata"].get("labels") or {}) == OURS)


def a_class(
    name: str, *, stands_for: str = "", carried: str = "", ours: bool = True, created: str = "1"
) -> Any:
    metadata: Any = {"name": name, "creationTimestamp": created}
    if ours:
        metadata["labels"] = OURS
    if carried:
        metadata["annotations"] = {CARRIED: carried}
    return {"metadata": metadata, "spec": {"extendedResourceName": stands_for} if stands_for else {}}


def cluster(*classes: Any, native: bool = False, offered: str = "") -> Cluster:
    known: Kept[Any] = Kept()
    found = Cluster(
        inventories=Kept(),
        classes=known,
        policies=Kept(),
        class_is_ours=is_ours,
        standard=lambda name: name.endswith(".dragoman.dev"),
        release=lambda: "1.34",
        amounts_kept=lambda: False,
        native=native,
        offered=lambda resource: resource == offered,
    )
    for one in classes:
        known.put(one["metadata"]["name"], class_document(one))
    return found


def test_a_class_of_ours_is_served_by_its_own_name_and_by_the_one_that_it_claims() -> None:
    found = cluster(a_class("gold", stands_for=GOLD))
    assert [found.served(one) for one in (GOLD, f"{IMPLICIT}gold")] == ["gold", "gold"]
    assert found.served(f"{IMPLICIT}nvidia.dragoman.dev") == "nvidia.dragoman.dev"


def test_classes_of_others_are_left_alone() -> None:
    found = cluster(a_class("nic", stands_for=GOLD, ours=False))
    assert [found.served(one) for one in (GOLD, f"{IMPLICIT}nic", "example.com/unknown")] == [None] * 3


def test_where_kube_scheduler_allocates_nothing_is_served() -> None:
    found = cluster(a_class("gold", stands_for=GOLD), native=True)
    assert found.served(GOLD) is None
    # A pod that was converted before the mode changed gets its template all the same.
    assert found.class_of(GOLD) == "gold"


def test_what_a_device_plugin_offers_is_served_by_it() -> None:
    found = cluster(a_class("gold", stands_for=GOLD), offered=GOLD)
    assert found.served(GOLD) is None
    assert found.served(f"{IMPLICIT}gold") == "gold"


def test_the_newest_class_counts_even_where_it_is_not_ours() -> None:
    one, other = a_class("gold", stands_for=GOLD), a_class("nic", stands_for=GOLD, ours=False, created="2")
    assert cluster(one, other).served(GOLD) is None
    assert cluster(one, {**other, "metadata": {**other["metadata"], "creationTimestamp": "0"}}).served(GOLD)


def test_what_a_server_dropped_is_read_from_the_annotation() -> None:
    assert cluster(a_class("gold", carried=GOLD)).served(GOLD) == "gold"
    assert cluster(a_class("gold", stands_for="example.com/new", carried=GOLD)).served(GOLD) is None


def changed(found: Any, *, old: Any = None, native: bool = False) -> Any:
    """A class as it goes to the server, which may still drop fields."""
    knowledge = Knowledge(
        is_ours=lambda _name: False,
        amounts_kept=lambda: False,
        class_is_ours=is_ours,
        stamps=not native,
    )
    request = {
        "uid": "u",
        "kind": {"kind": "DeviceClass"},
        "operation": "CREATE" if old is None else "UPDATE",
        "object": found,
        "oldObject": old,
    }
    review = {"kind": "AdmissionReview", "request": request}
    response = asyncio.run(answer(review, knowledge, webhook=Webhook.MUTATING))["response"]
    assert response["allowed"]
    return apply_patch(found, response.get("patch", []))


def carried_by(found: Any) -> str | None:
    annotation: str | None = (found["metadata"].get("annotations") or {}).get(CARRIED)
    return annotation


def test_the_name_that_a_class_claims_is_carried_over_once() -> None:
    once = changed(a_class("gold", stands_for=GOLD))
    assert carried_by(once) == GOLD
    assert changed(once) == once
    assert (
        carried_by(changed(a_class("gold", stands_for="example.com/new", carried=GOLD))) == "example.com/new"
    )


def test_a_class_of_others_is_not_touched() -> None:
    found = a_class("nic", stands_for=GOLD, ours=False)
    assert changed(found) == found


def test_who_writes_back_what_an_old_server_dropped_takes_nothing_away() -> None:
    stored = a_class("gold", carried=GOLD)
    assert changed(stored, old=stored) == stored


@pytest.mark.parametrize("carried", [GOLD, ""])
def test_who_takes_the_name_out_takes_the_annotation_with_it(carried: str) -> None:
    old = a_class("gold", stands_for=GOLD, carried=carried)
    assert carried_by(changed(a_class("gold", carried=carried), old=old)) is None


@pytest.mark.parametrize("native", [False, True])
def test_an_annotation_of_another_name_goes_with_the_name_that_the_server_kept(native: bool) -> None:
    old = a_class("gold", stands_for="example.com/new", carried=GOLD)
    assert carried_by(changed(a_class("gold", carried=GOLD), old=old, native=native)) is None


def test_in_mode_native_an_annotation_follows_and_none_is_added() -> None:
    renamed = a_class("gold", stands_for="example.com/new", carried=GOLD)
    assert carried_by(changed(renamed, old=a_class("gold", carried=GOLD), native=True)) == "example.com/new"
    assert carried_by(changed(a_class("gold", stands_for=GOLD), native=True)) is None


def applied(found: Any, *, stands_for: str = "") -> Any:
    """The class as `kubectl apply` sends it, after the server dropped the name if there was one."""
    spec = {"extendedResourceName": stands_for} if stands_for else {}
    sent = {"metadata": {"name": found["metadata"]["name"], "annotations": {}}, "spec": spec}
    made = copy.deepcopy(found)
    made["metadata"].setdefault("annotations", {})[APPLIED] = json.dumps(sent)
    return made


def claimed(found: Any, **appliers: bool) -> Any:
    """The class with appliers on the server's side, by whether they applied the name."""
    made = copy.deepcopy(found)
    made["metadata"]["managedFields"] = [
        {
            "manager": manager,
            "operation": "Apply",
            "fieldsV1": {"f:spec": {"f:selectors": {}, **({"f:extendedResourceName": {}} if names else {})}},
        }
        for manager, names in appliers.items()
    ]
    return made


APPLIED = "kubectl.kubernetes.io/last-applied-configuration"
DROPPED = a_class("gold", carried=GOLD)
"""A class of ours whose name an old server dropped."""


@pytest.mark.parametrize("native", [False, True])
def test_a_class_that_is_applied_again_without_the_name_loses_the_annotation(native: bool) -> None:
    old, found = applied(DROPPED, stands_for=GOLD), applied(DROPPED)
    assert carried_by(changed(found, old=old, native=native)) is None
    assert APPLIED in changed(found, old=old, native=native)["metadata"]["annotations"]


def test_a_class_that_is_applied_again_on_the_servers_side_without_the_name_loses_the_annotation() -> None:
    found = changed(claimed(DROPPED, me=False), old=claimed(DROPPED, me=True))
    assert carried_by(found) is None


def test_what_another_applier_still_says_stands() -> None:
    old = claimed(DROPPED, me=True, argo=True)
    assert carried_by(changed(claimed(DROPPED, me=False, argo=True), old=old)) == GOLD
    both = applied(claimed(DROPPED, argo=True), stands_for=GOLD)
    assert carried_by(changed(applied(claimed(DROPPED, argo=True)), old=both)) == GOLD


@pytest.mark.parametrize(
    ("old", "found"),
    [
        (applied(DROPPED, stands_for=GOLD), applied(DROPPED, stands_for=GOLD)),
        (applied(DROPPED), applied(DROPPED)),
        (DROPPED, applied(DROPPED)),
        (applied(DROPPED, stands_for=GOLD), DROPPED),
        (claimed(DROPPED, me=True), claimed(DROPPED, me=True)),
        (claimed(DROPPED, me=True), claimed(DROPPED, other=False)),
        (claimed(DROPPED, me=True), DROPPED),
        (claimed(DROPPED, me=False), claimed(DROPPED, me=False)),
    ],
    ids=[
        "an unrelated update of an applied class",
        "a name that was never applied",
        "applied for the first time",
        "the note of what was applied is gone",
        "an unrelated update of a class applied on the server's side",
        "the applier is gone",
        "managedFields were cleared",
        "a name that was never applied on the server's side",
    ],
)
def test_an_update_that_says_nothing_of_the_name_takes_nothing_away(old: Any, found: Any) -> None:
    assert changed(found, old=old) == found


@pytest.mark.parametrize("text", ["", "{", "[]", '{"spec": 1}', '"x"', "[" * 100_000])
def test_a_note_of_what_was_applied_that_cannot_be_read_says_nothing(text: str) -> None:
    odd = copy.deepcopy(DROPPED)
    odd["metadata"]["annotations"][APPLIED] = text
    assert carried_by(changed(odd, old=applied(DROPPED, stands_for=GOLD))) == GOLD
    assert carried_by(changed(applied(DROPPED), old=odd)) == GOLD


def test_what_somebody_writes_into_the_annotation_stands() -> None:
    by_hand = a_class("gold", carried="example.com/mine")
    assert changed(by_hand, old=a_class("gold", stands_for=GOLD, carried=GOLD)) == by_hand
