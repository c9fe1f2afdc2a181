from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from driver.cards import IsolationLevel
from driver.kube.client import JSON_PATCH, ApiError, ConflictError, KubeClient, error_for
from driver.shares import Share
from kubelet_plugin.claim_status import ClaimStatusWriter
from kubelet_plugin.metrics import Metrics
from kubelet_plugin.prepare.claims import ClaimRef
from kubelet_plugin.prepare.records import ClaimRecord, ShareRecord

JSON = dict[str, Any]
REF = ClaimRef(namespace="team", name="share", uid="uid-1")
SHARE = "11111111-1111-4111-8111-111111111111"
RECORD = ClaimRecord(
    uid="uid-1",
    namespace="team",
    name="share",
    allocation="",
    shares=(
        ShareRecord(
            share=Share(claim_uid="uid-1", request="card", device="nvidia-1", share_id=SHARE, memory_mib=64),
            pool="node-1/dragoman",
            cdi_device="uid-1-card",
            memory_level=IsolationLevel.PRELOAD,
        ),
    ),
)
FOREIGN = {"driver": "gpu.example.com", "pool": "node-1", "device": "gpu-0", "conditions": []}


class OneClaim:
    """A transport that knows one claim, and answers its patches by JSON patch's rules for `add`."""

    def __init__(self, *, devices: list[JSON] | None = None, refuses: ApiError | None = None) -> None:
        self.claim: JSON = {
            "metadata": {"name": "share", "namespace": "team", "uid": "uid-1", "resourceVersion": "7"},
            "status": {"allocation": {}, **({"devices": devices} if devices else {})},
        }
        self.patches: list[tuple[str, list[JSON]]] = []
        self._refuses = refuses

    async def request(self, method: str, path: str, **given: Any) -> JSON:
        if method == "GET":
            return self.claim
        self.patches.append((given["content_type"], given["body"]))
        if self._refuses is not None:
            raise self._refuses
        assert path.endswith("/namespaces/team/resourceclaims/share/status")
        for change in given["body"]:
            if change["path"] == "/status/devices":
                self.claim["status"]["devices"] = change["value"]
        return self.claim

    def stream(self, path: str, **given: Any) -> AsyncIterator[JSON]:
        raise AssertionError(path)

    async def close(self) -> None:
        raise AssertionError


def write(server: OneClaim) -> bool:
    writer = ClaimStatusWriter(KubeClient(server), record_of=lambda _: RECORD, metrics=Metrics())
    return asyncio.run(writer.write(REF))


def test_what_was_given_is_written_by_json_patch_because_others_reorder_opaque_parameters() -> None:
    server = OneClaim()
    assert write(server)
    ((content_type, changes),) = server.patches
    assert content_type == JSON_PATCH
    assert [change["path"] for change in changes] == ["/metadata/resourceVersion", "/status/devices"]


def test_a_claim_that_changed_since_it_was_read_is_not_written_over() -> None:
    server = OneClaim()
    write(server)
    ((_, (version, _)),) = server.patches
    assert version == {"op": "replace", "path": "/metadata/resourceVersion", "value": "7"}


def test_entries_of_other_drivers_stay() -> None:
    server = OneClaim(devices=[FOREIGN])
    write(server)
    assert [entry["driver"] for entry in server.claim["status"]["devices"]] == [
        "gpu.example.com",
        "dragoman.dev",
    ]


def test_an_entry_that_says_so_already_is_not_written_again() -> None:
    server = OneClaim()
    assert write(server)
    assert not write(server)
    assert len(server.patches) == 1


def test_a_status_that_can_never_be_written_is_given_up() -> None:
    server = OneClaim(refuses=error_for(422, message="status.allocation: field is immutable"))
    assert write(server) is False


def test_a_conflict_is_tried_again_later() -> None:
    with pytest.raises(ConflictError):
        write(OneClaim(refuses=error_for(409, message="the object has been modified")))
