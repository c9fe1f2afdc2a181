"""Pods come from the API server's memory where that can do no harm, and are read again where it could."""

from typing import Any

import pytest

from kubelet_plugin.prepare.planning import ClaimReader
from tests.support.node_world import JSON

pytestmark = pytest.mark.asyncio


def pod(*, uid: str = "u1", node: str | None = "worker", named: bool = True, marker: str = "") -> JSON:
    spec: JSON = {"resourceClaims": [{"name": "card", "resourceClaimTemplateName": "template"}]}
    if node:
        spec["nodeName"] = node
    status = {"resourceClaimStatuses": [{"name": "card", "resourceClaimName": "claim"}]} if named else {}
    return {
        "metadata": {"name": "pod", "uid": uid, "labels": {"from": marker}},
        "spec": spec,
        "status": status,
    }


class Source:
    def __init__(self, *, cached: JSON | None, now: JSON | None) -> None:
        self._found = {True: cached, False: now}
        self.asked: list[bool] = []

    async def get_claim(self, *, namespace: str, name: str) -> JSON:
        raise AssertionError

    async def get_pod(self, *, namespace: str, name: str, cached: bool = False) -> JSON | None:
        self.asked.append(cached)
        return self._found[cached]


async def read(source: Source, **changes: Any) -> JSON | None:
    wanted: dict[str, Any] = {"namespace": "default", "name": "pod", "uid": "u1", "node": "worker", **changes}
    return await ClaimReader(source).pod(**wanted)


async def test_a_bound_pod_whose_claims_have_names_is_taken_from_memory() -> None:
    source = Source(cached=pod(), now=None)
    assert await read(source) == pod()
    assert source.asked == [True]


@pytest.mark.parametrize(
    "older",
    [None, pod(uid="u0"), pod(node=None), pod(node="other"), pod(named=False)],
    ids=["not there", "an earlier pod of that name", "not bound", "elsewhere", "claims without names"],
)
async def test_any_other_state_is_read_again_as_it_is_now(older: JSON | None) -> None:
    source = Source(cached=older, now=pod(marker="now"))
    assert await read(source) == pod(marker="now")
    assert source.asked == [True, False]


async def test_a_claim_that_a_pod_turned_out_not_to_need_has_no_name_and_needs_none() -> None:
    settled = pod()
    settled["status"]["resourceClaimStatuses"] = [{"name": "card"}]
    source = Source(cached=settled, now=None)
    assert await read(source) == settled
    assert source.asked == [True]


@pytest.mark.parametrize("now", [None, pod(uid="u2"), pod(node="other")])
async def test_a_pod_that_is_not_the_one_or_not_here_counts_as_none(now: JSON | None) -> None:
    assert await read(Source(cached=None, now=now)) is None


async def test_a_pod_is_read_once_for_all_claims_of_a_call() -> None:
    source = Source(cached=pod(), now=None)
    reader = ClaimReader(source)
    for _ in range(3):
        await reader.pod(namespace="default", name="pod", uid="u1", node="worker")
    assert source.asked == [True]
