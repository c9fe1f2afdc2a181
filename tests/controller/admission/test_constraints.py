"""Constraints that a server would drop, and then refuse for being empty, are carried over and taken out."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from controller.admission.knowledge import Knowledge
from controller.admission.stamping import CLAIM, TEMPLATE, additions
from driver.api.asked import STAMP, check_stamp, restored

OURS = "accelerator.dragoman.dev"
APART = {"requests": ["one", "two"], "distinctAttribute": "dragoman.dev/uuid"}
ALIKE = {"requests": ["one", "two"], "matchAttribute": "dragoman.dev/model"}


def is_ours(name: str) -> bool:
    return name == OURS


def sent(*constraints: Any, kind: str = CLAIM) -> Any:
    exactly = {"deviceClassName": OURS, "capacity": {"requests": {"memory": "4Gi"}}}
    requests = [{"name": name, "exactly": exactly} for name in ("one", "two")]
    claim = {"metadata": {}, "spec": {"devices": {"requests": requests, "constraints": list(constraints)}}}
    return claim if kind == CLAIM else {"metadata": {"name": "t"}, "spec": claim}


def applied(found: Any, patch: Any) -> Any:
    """Applies operations, as the API server does."""
    result = copy.deepcopy(found)
    for one in patch:
        *path, last = [part.replace("~1", "/").replace("~0", "~") for part in one["path"].split("/")[1:]]
        inner = result
        for part in path:
            inner = inner[part]
        if one["op"] == "remove":
            del inner[last]
        else:
            inner[last] = one["value"]
    return result


def stored(found: Any, *, kind: str = CLAIM, kept: bool = False) -> Any:
    """What the server is given to store: the claim, or what the template holds of one."""
    known = Knowledge(is_ours=is_ours, amounts_kept=lambda: kept)
    result = applied(found, additions(kind, found, known))
    return result if kind == CLAIM else result["spec"]


@pytest.mark.parametrize("kind", [CLAIM, TEMPLATE])
def test_such_a_constraint_is_taken_out_and_can_be_restored(kind: str) -> None:
    found = stored(sent(APART, kind=kind), kind=kind)
    devices = found["spec"]["devices"]
    assert "constraints" not in devices
    check_stamp(devices, found["metadata"]["annotations"], is_ours=is_ours)
    assert restored(devices, is_ours=is_ours)["constraints"] == [APART]


def test_the_others_stay() -> None:
    assert stored(sent(ALIKE, APART))["spec"]["devices"]["constraints"] == [ALIKE]
    assert stored(sent(ALIKE))["spec"]["devices"]["constraints"] == [ALIKE]


def test_where_the_server_keeps_amounts_constraints_are_left_to_it() -> None:
    devices = stored(sent(APART, ALIKE), kept=True)["spec"]["devices"]
    assert devices["constraints"] == [APART, ALIKE]
    assert "constraints" not in str(devices["config"])
    assert restored(devices, is_ours=is_ours)["constraints"] == [ALIKE, APART]


def test_a_claim_from_before_keeps_the_constraints_that_were_carried_over() -> None:
    before = stored(sent(APART))
    assert stored(before, kept=True) == before


def test_what_went_through_once_is_left_alone() -> None:
    once = stored(sent(APART, ALIKE))
    assert stored(once) == once
    assert STAMP in once["metadata"]["annotations"]
