"""DeviceClasses that stand for extended resources: which are served, and what survives old servers."""

from __future__ import annotations

import asyncio
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


def changed(found: Any, *, old: Any = None) -> Any:
    """A class as it goes to the server, which may still drop fields."""
    knowledge = Knowledge(is_ours=lambda _name: False, amounts_kept=lambda: False, class_is_ours=is_ours)
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
