"""The DRA service over real gRPC; behind it an engine that answers from a table."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest

from driver.errors import DragomanError, OverCommitError
from kubelet_plugin.api import dra_v1_pb2, dra_v1_pb2_grpc, dra_v1beta1_pb2, dra_v1beta1_pb2_grpc
from kubelet_plugin.endpoint import Endpoint
from kubelet_plugin.metrics import Metrics
from kubelet_plugin.prepare.claims import ClaimRef
from kubelet_plugin.prepare.prepared import PreparedClaim, PreparedDevice
from kubelet_plugin.server import ClaimService, add_claim_services

pytestmark = pytest.mark.asyncio

LOCALHOST = (("grpc.default_authority", "localhost"), ("grpc.use_local_subchannel_pool", 1))
Table = Mapping[str, PreparedClaim | DragomanError]
FULL = OverCommitError("The card is full.", remedy="Delete the pod.")


def device(*, share_id: str = "", cdi_id: str = "dragoman.dev/share=a") -> PreparedDevice:
    return PreparedDevice(
        request="gpu", pool="worker/dragoman", device="card-0", cdi_id=cdi_id, share_id=share_id
    )


class TableEngine:
    def __init__(self, table: Mapping[str, PreparedClaim | DragomanError]) -> None:
        self.table = table
        self.unprepared: list[ClaimRef] = []

    async def prepare(self, refs: Sequence[ClaimRef]) -> Mapping[str, PreparedClaim | DragomanError]:
        return {ref.uid: self.table[ref.uid] for ref in refs}

    async def unprepare(self, refs: Sequence[ClaimRef]) -> Mapping[str, DragomanError | None]:
        self.unprepared += refs
        return {ref.uid: FULL if ref.uid == "stuck" else None for ref in refs}


class Ear:
    def __init__(self) -> None:
        self.heard: list[tuple[str, str]] = []

    def prepared(self, ref: ClaimRef, answer: PreparedClaim) -> None:
        self.heard.append(("prepared", ref.uid))

    def refused(self, ref: ClaimRef, error: DragomanError) -> None:
        self.heard.append((error.reason, ref.uid))


@asynccontextmanager
async def serving(folder: Path, service: ClaimService) -> AsyncIterator[grpc.aio.Channel]:
    endpoint = Endpoint(folder / "dra.sock", add_services=lambda server: add_claim_services(server, service))
    await endpoint.start()
    endpoint.publish()
    async with grpc.aio.insecure_channel(f"unix:{folder / 'dra.sock'}", options=LOCALHOST) as channel:
        yield channel
    await endpoint.stop(grace_s=0)


def service(
    table: Mapping[str, PreparedClaim | DragomanError], *, cards_known: bool = True, **options: Any
) -> ClaimService:
    ready = asyncio.Event()
    if cards_known:
        ready.set()
    return ClaimService(TableEngine(table), cards_ready=ready, metrics=Metrics(), **options)


def request(*uids: str) -> dra_v1_pb2.NodePrepareResourcesRequest:
    return dra_v1_pb2.NodePrepareResourcesRequest(
        claims=[dra_v1_pb2.Claim(namespace="ns", uid=uid, name=f"claim-{uid}") for uid in uids]
    )


async def test_v1_answers_devices_with_their_share(short_dir: Path) -> None:
    table = {"u": PreparedClaim(devices=(device(share_id="s"),))}
    async with serving(short_dir, service(table)) as channel:
        answer = await dra_v1_pb2_grpc.DRAPluginStub(channel).NodePrepareResources(request("u"))
    [found] = answer.claims["u"].devices
    assert list(found.request_names) == ["gpu"]
    assert (found.pool_name, found.device_name) == ("worker/dragoman", "card-0")
    assert list(found.cdi_device_ids) == ["dragoman.dev/share=a"]
    assert found.share_id == "s"
    assert answer.claims["u"].error == ""


async def test_a_device_without_a_share_has_no_share_id_at_all(short_dir: Path) -> None:
    async with serving(short_dir, service({"u": PreparedClaim(devices=(device(),))})) as channel:
        answer = await dra_v1_pb2_grpc.DRAPluginStub(channel).NodePrepareResources(request("u"))
    assert not answer.claims["u"].devices[0].HasField("share_id")


async def test_v1beta1_answers_the_same_without_the_share(short_dir: Path) -> None:
    table: Table = {"u": PreparedClaim(devices=(device(share_id="s"),)), "full": FULL}
    asked = dra_v1beta1_pb2.NodePrepareResourcesRequest(
        claims=[dra_v1beta1_pb2.Claim(namespace="ns", uid=uid, name="claim") for uid in table]
    )
    async with serving(short_dir, service(table)) as channel:
        answer = await dra_v1beta1_pb2_grpc.DRAPluginStub(channel).NodePrepareResources(asked)
    assert list(answer.claims["u"].devices[0].cdi_device_ids) == ["dragoman.dev/share=a"]
    assert answer.claims["full"].error == "The card is full. Delete the pod."


async def test_one_refused_claim_does_not_harm_the_others_of_the_call(short_dir: Path) -> None:
    table: Table = {"good": PreparedClaim(devices=(device(),)), "full": FULL}
    async with serving(short_dir, service(table)) as channel:
        answer = await dra_v1_pb2_grpc.DRAPluginStub(channel).NodePrepareResources(request("good", "full"))
    assert set(answer.claims) == {"good", "full"}
    assert len(answer.claims["good"].devices) == 1
    assert answer.claims["full"].error == "The card is full. Delete the pod."
    assert not answer.claims["full"].devices


async def test_unprepare_answers_each_claim(short_dir: Path) -> None:
    claims = [dra_v1_pb2.Claim(namespace="ns", uid=uid, name="claim") for uid in ("gone", "stuck")]
    asked = dra_v1_pb2.NodeUnprepareResourcesRequest(claims=claims)
    async with serving(short_dir, service({})) as channel:
        answer = await dra_v1_pb2_grpc.DRAPluginStub(channel).NodeUnprepareResources(asked)
    assert {uid: entry.error for uid, entry in answer.claims.items()} == {
        "gone": "",
        "stuck": "The card is full. Delete the pod.",
    }


async def test_v1beta1_unprepares_the_same_claims(short_dir: Path) -> None:
    asked = dra_v1beta1_pb2.NodeUnprepareResourcesRequest(
        claims=[dra_v1beta1_pb2.Claim(namespace="ns", uid="u", name="claim")]
    )
    engine = TableEngine({})
    ready = asyncio.Event()
    found = ClaimService(engine, cards_ready=ready, metrics=Metrics())
    async with serving(short_dir, found) as channel:
        answer = await dra_v1beta1_pb2_grpc.DRAPluginStub(channel).NodeUnprepareResources(asked)
    assert answer.claims["u"].error == ""
    assert engine.unprepared == [ClaimRef(namespace="ns", name="claim", uid="u")]


async def test_an_empty_call_is_answered_empty(short_dir: Path) -> None:
    async with serving(short_dir, service({})) as channel:
        answer = await dra_v1_pb2_grpc.DRAPluginStub(channel).NodePrepareResources(request())
    assert not answer.claims


async def test_a_prepare_waits_for_the_first_look_for_cards() -> None:
    ready = asyncio.Event()
    found = ClaimService(TableEngine({"u": PreparedClaim()}), cards_ready=ready, metrics=Metrics())
    call = asyncio.create_task(found.prepare(request("u").claims, version="v1"))
    await asyncio.sleep(0)
    assert not call.done()
    ready.set()
    assert await call == {"u": PreparedClaim()}


async def test_a_prepare_that_waited_too_long_for_cards_says_so_and_that_waiting_helps() -> None:
    found = service({"u": PreparedClaim()}, cards_known=False, patience_s=0.01)
    answers = await found.prepare(request("u").claims, version="v1")
    error = answers["u"]
    assert isinstance(error, DragomanError)
    assert (error.reason, error.retriable) == ("CardsNotKnownYet", True)


async def test_an_unprepare_does_not_wait_for_cards() -> None:
    found = service({}, cards_known=False)
    answers = await asyncio.wait_for(found.unprepare(request("u").claims, version="v1"), 60)
    assert answers == {"u": None}


async def test_listeners_hear_of_each_outcome_after_the_answer() -> None:
    ear = Ear()
    found = service({"good": PreparedClaim(), "full": FULL}, listeners=[ear])
    await found.prepare(request("good", "full").claims, version="v1")
    assert ear.heard == []
    await asyncio.sleep(0)
    assert ear.heard == [("prepared", "good"), ("OverCommit", "full")]


async def test_outcomes_are_counted_by_reason_and_failures_have_a_latency_too() -> None:
    metrics = Metrics()
    ready = asyncio.Event()
    ready.set()
    found = ClaimService(
        TableEngine({"good": PreparedClaim(), "full": FULL}), cards_ready=ready, metrics=metrics
    )
    await found.prepare(request("good", "full").claims, version="v1")
    await found.prepare(request("full").claims, version="v1beta1")
    text = metrics.render().decode()
    assert 'claims_total{operation="prepare",reason="OverCommit",result="refused"} 2.0' in text
    assert 'claims_total{operation="prepare",reason="",result="ok"} 1.0' in text
    assert 'duration_seconds_count{operation="prepare",result="partial",version="v1"} 1.0' in text
    assert 'duration_seconds_count{operation="prepare",result="failed",version="v1beta1"} 1.0' in text
