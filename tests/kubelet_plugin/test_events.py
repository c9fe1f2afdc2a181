import asyncio
import re
from datetime import UTC, datetime
from typing import Any

import pytest

from driver.errors import DragomanError, OverCommitError, OverCommitReleasingError
from driver.kube.client import JSON, ApiError, NotFoundError, UnreachableError
from kubelet_plugin.events import AGAIN_AFTER_S, BURST, REFILL_S, PodEvents
from kubelet_plugin.metrics import Metrics
from kubelet_plugin.prepare.claims import ClaimRef
from kubelet_plugin.prepare.engine import PreparedClaim
from tests.support.scripted_api import Request, scripted_client

pytestmark = pytest.mark.asyncio

FULL = OverCommitError("The card is full.", remedy="Delete the pod.")
NOW = datetime(2026, 11, 21, 12, 0, 0, 123456, tzinfo=UTC)


def ref(uid: str = "u") -> ClaimRef:
    return ClaimRef(namespace="ns", name=f"claim-{uid}", uid=uid)


class Teller:
    """Events with a clock, on an API server whose claims are reserved by `pods`."""

    def __init__(self, *pods: str, answer: ApiError | None = None) -> None:
        self.now = 0.0
        self.pods = pods or ("pod",)
        self.answer = answer
        self.metrics = Metrics()
        client, self.transport = scripted_client(self._serve)
        self.events = PodEvents(
            client, node_name="worker", metrics=self.metrics, clock=lambda: self.now, now=lambda: NOW
        )

    def _serve(self, request: Request) -> JSON | ApiError:
        if self.answer is not None:
            return self.answer
        consumers: list[JSON] = [{"resource": "pods", "name": pod, "uid": f"uid-{pod}"} for pod in self.pods]
        consumers.append({"apiGroup": "x", "resource": "others", "name": "o", "uid": "o"})
        return {"status": {"reservedFor": consumers}}

    @property
    def written(self) -> list[Any]:
        return [request.body for request in self.transport.writes()]


async def test_an_event_tells_reason_sentence_pod_and_claim() -> None:
    found = Teller()
    await found.events.tell(ref(), FULL)
    [event] = found.written
    assert (event["type"], event["reason"], event["action"]) == ("Warning", "OverCommit", "Preparing")
    assert event["note"] == (
        "Claim claim-u cannot be prepared on node worker: The card is full. Delete the pod."
    )
    assert event["regarding"] == {
        "apiVersion": "v1",
        "kind": "Pod",
        "namespace": "ns",
        "name": "pod",
        "uid": "uid-pod",
    }
    assert (event["related"]["kind"], event["related"]["uid"]) == ("ResourceClaim", "u")
    assert event["eventTime"] == "2026-11-21T12:00:00.123456Z"
    assert event["reportingInstance"] == "worker"


@pytest.mark.parametrize("pod", ["a", "a.b", "a" * 253, "a" * 199 + ".b", "a" * 199 + "-b"])
async def test_an_events_name_is_one_that_the_api_server_takes(pod: str) -> None:
    found = Teller(pod)
    await found.events.tell(ref(), FULL)
    name = found.written[0]["metadata"]["generateName"] + "abcde"
    assert re.fullmatch(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*", name)
    assert len(name) <= 253


async def test_each_pod_of_the_claim_gets_an_event_and_nothing_but_pods() -> None:
    found = Teller("a", "b")
    await found.events.tell(ref(), FULL)
    assert [event["regarding"]["name"] for event in found.written] == ["a", "b"]


async def test_a_long_sentence_is_cut_where_the_api_server_would_refuse_it() -> None:
    found = Teller()
    await found.events.tell(ref(), OverCommitError("ü" * 2000))
    assert len(found.written[0]["note"].encode()) in (1023, 1024)


async def test_the_same_refusal_is_told_once_in_ten_minutes() -> None:
    found = Teller()
    for _ in range(3):
        await found.events.tell(ref(), FULL)
    assert len(found.written) == 1
    found.now += AGAIN_AFTER_S
    await found.events.tell(ref(), FULL)
    assert len(found.written) == 2


async def test_another_reason_and_another_claim_are_told_too() -> None:
    found = Teller()
    await found.events.tell(ref(), FULL)
    await found.events.tell(ref(), DragomanError("other"))
    await found.events.tell(ref("v"), FULL)
    assert len(found.written) == 3


async def test_a_flood_of_refusals_is_limited_and_what_is_left_out_is_counted() -> None:
    found = Teller()
    for number in range(BURST + 5):
        await found.events.tell(ref(f"u{number}"), FULL)
    assert len(found.written) == BURST
    assert 'events_total{result="suppressed"} 5.0' in found.metrics.render().decode()
    found.now += REFILL_S
    await found.events.tell(ref("late"), FULL)
    assert len(found.written) == BURST + 1


async def test_a_final_refusal_is_written_by_the_task() -> None:
    found = Teller()
    running = asyncio.create_task(found.events.run())
    found.events.refused(ref(), FULL)
    while not found.written:  # noqa: ASYNC110 - requests are a list, no event
        await asyncio.sleep(0.001)
    running.cancel()


async def test_a_refusal_that_passes_by_itself_is_not_told() -> None:
    found = Teller()
    running = asyncio.create_task(found.events.run())
    found.events.refused(ref(), OverCommitReleasingError("being released"))
    found.events.prepared(ref(), PreparedClaim())
    await asyncio.sleep(0.01)
    running.cancel()
    assert found.transport.requests == []


@pytest.mark.parametrize(
    "answer", [UnreachableError("away", status=0), NotFoundError("no claim", status=404)]
)
async def test_an_event_that_cannot_be_written_is_counted_and_the_next_one_is_tried(answer: ApiError) -> None:
    found = Teller(answer=answer)
    running = asyncio.create_task(found.events.run())
    found.events.refused(ref(), FULL)
    while 'events_total{result="failed"} 1.0' not in found.metrics.render().decode():  # noqa: ASYNC110
        await asyncio.sleep(0.001)
    found.answer = None
    found.events.refused(ref(), FULL)
    while not found.written:  # noqa: ASYNC110
        await asyncio.sleep(0.001)
    running.cancel()


async def test_more_refusals_than_can_wait_do_not_block_the_service() -> None:
    found = Teller()
    for number in range(100):
        found.events.refused(ref(f"u{number}"), FULL)
    assert 'events_total{result="suppressed"} 36.0' in found.metrics.render().decode()


async def test_a_card_that_changed_is_told_on_the_pods_as_a_warning_or_not() -> None:
    found = Teller()
    running = asyncio.create_task(found.events.run())
    found.events.card_changed(ref(), reason="CardUnhealthy", text="Lost.", warning=True)
    found.events.card_changed(ref(), reason="CardRecovered", text="Back.", warning=False)
    while len(found.written) < 2:  # noqa: ASYNC110 - requests are a list, no event
        await asyncio.sleep(0.001)
    running.cancel()
    assert [(one["type"], one["reason"], one["action"], one["note"]) for one in found.written] == [
        ("Warning", "CardUnhealthy", "Running", "Lost."),
        ("Normal", "CardRecovered", "Running", "Back."),
    ]
