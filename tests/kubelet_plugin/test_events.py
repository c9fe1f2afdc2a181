import asyncio
import re
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from driver.errors import DragomanError, OverCommitError, OverCommitReleasingError
from driver.kube.client import JSON, ApiError, NotFoundError, UnreachableError
from kubelet_plugin import events as module
from kubelet_plugin.events import AGAIN_AFTER_S, BURST, REFILL_S, PodEvents
from kubelet_plugin.metrics import Metrics
from kubelet_plugin.prepare.claims import ClaimRef
from kubelet_plugin.prepare.prepared import PreparedClaim
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
            client,
            node_name="worker",
            metrics=self.metrics,
            clock=lambda: self.now,
            now=lambda: NOW,
            pause=self._pause,
        )

    async def _pause(self, seconds: float) -> None:
        self.now += seconds
        await asyncio.sleep(0)

    async def runs(self, *, until: Callable[[], bool]) -> None:
        running = asyncio.create_task(self.events.run())
        async with asyncio.timeout(20):
            while not until():  # noqa: ASYNC110 - requests are a list, no event
                await asyncio.sleep(0.001)
        running.cancel()

    def counted(self, result: str) -> float:
        value = self.metrics.registry.get_sample_value("dragoman_agent_events_total", {"result": result})
        return value or 0.0

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
    while not found.counted("failed"):  # noqa: ASYNC110
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


def lost(found: Teller, uid: str, *, of: str = "") -> None:
    found.events.card_changed(ref(uid), reason="LimitsLost", text=f"Of {uid}, {of}.", warning=True, of=of)


async def test_what_happens_to_many_claims_at_once_is_told_to_each_of_them_at_a_bounded_rate() -> None:
    found = Teller()
    for number in range(200):
        lost(found, f"u{number}")
    await found.runs(until=lambda: len(found.written) >= 200)
    assert len({event["related"]["uid"] for event in found.written}) == 200
    assert found.now == pytest.approx((200 - BURST) * REFILL_S)
    assert found.counted("suppressed") == 0


async def test_a_refusal_that_is_left_out_is_told_when_the_kubelet_tries_again() -> None:
    found = Teller()
    for number in range(BURST + 1):
        await found.events.tell(ref(f"u{number}"), FULL)
    found.now += REFILL_S
    await found.events.tell(ref(f"u{BURST}"), FULL)
    assert found.written[-1]["related"]["uid"] == f"u{BURST}"
    assert len(found.written) == BURST + 1


async def test_pods_that_were_told_are_not_told_twice_because_others_were_not() -> None:
    found = Teller("a", "b", "c", "d")
    for number in range(3):
        await found.events.tell(ref(f"u{number}"), FULL)
    found.now += 10 * REFILL_S
    await found.events.tell(ref("u2"), FULL)
    told = [event["regarding"]["name"] for event in found.written if event["related"]["uid"] == "u2"]
    assert told == ["a", "b", "c", "d"]


async def test_each_share_of_a_claim_is_told_of_and_each_once() -> None:
    found = Teller()
    for of in ("first", "second", "first"):
        lost(found, "u", of=of)
    await found.runs(until=lambda: len(found.written) >= 2)
    lost(found, "u", of="first")
    await asyncio.sleep(0.01)
    assert [event["note"] for event in found.written] == ["Of u, first.", "Of u, second."]


async def test_what_could_not_be_told_while_the_api_server_was_away_is_told_when_it_is_back() -> None:
    found = Teller(answer=UnreachableError("away", status=0))
    lost(found, "u")
    await found.runs(until=lambda: found.counted("failed") >= 5)
    found.answer = None
    lost(found, "u")
    await found.runs(until=lambda: bool(found.written))
    assert len(found.written) == 1


async def test_after_ten_minutes_without_an_api_server_it_is_given_up() -> None:
    found = Teller(answer=UnreachableError("away", status=0))
    lost(found, "u")
    await found.runs(until=lambda: found.now >= AGAIN_AFTER_S)
    await found.runs(until=lambda: not found.events._waiting)
    failed = found.counted("failed")
    assert failed == pytest.approx(AGAIN_AFTER_S / REFILL_S, abs=2)


@pytest.mark.parametrize("status", [403, 404, 422])
async def test_what_the_api_server_refuses_for_good_is_not_tried_again(status: int) -> None:
    found = Teller(answer=ApiError("no", status=status))
    lost(found, "u")
    await found.runs(until=lambda: found.counted("failed") >= 1)
    assert found.now == 0
    assert not found.events._waiting


async def test_no_more_than_so_many_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_MOST", 3)
    found = Teller()
    for number in range(5):
        lost(found, f"u{number}")
    assert found.counted("suppressed") == 2
