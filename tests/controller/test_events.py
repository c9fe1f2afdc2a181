"""Events as the API server takes them."""

import asyncio
import itertools
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.events import Events, Subject, cut
from controller.metrics import Metrics
from driver.kube.client import ForbiddenError, KubeClient, error_for
from driver.kube.resources import ACCELERATOR_POLICIES, PODS
from tests.support.scripted_api import Request, ScriptedTransport, scripted_client

pytestmark = pytest.mark.asyncio

POD = Subject(resource=PODS, name="p", namespace="ns", uid="u-1")
EVENTS = "/apis/events.k8s.io/v1/namespaces/ns/events"


class World:
    def __init__(self, *answers: Any) -> None:
        script = itertools.chain(answers, itertools.repeat({}))
        client, self.transport = scripted_client(lambda _: next(script))
        self.metrics = Metrics()
        self.events = Events(
            client,
            instance="replica",
            metrics=self.metrics,
            wall_clock=lambda: datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=UTC),
        )

    async def tell(self, *, times: int = 1, subject: Subject = POD) -> list[Request]:
        await self.events.tell(subject, reason="NoDevice", note="Because.", times=times)
        return self.transport.requests

    @property
    def counted(self) -> float | None:
        return self.metrics.registry.get_sample_value(
            "dragoman_controller_events_total", {"reason": "NoDevice"}
        )


async def test_an_event_names_its_subject_its_source_and_its_time() -> None:
    (request,) = await World().tell()
    assert (request.method, request.path) == ("POST", EVENTS)
    assert request.body["regarding"] == {
        "apiVersion": "v1",
        "kind": "Pod",
        "name": "p",
        "namespace": "ns",
        "uid": "u-1",
    }
    assert request.body["eventTime"] == "2026-01-02T03:04:05.000006Z"
    for field in ("reportingController", "reportingInstance", "action", "reason", "note", "type"):
        assert request.body[field]


async def test_an_event_on_a_cluster_scoped_object_is_kept_in_the_default_namespace() -> None:
    policy = Subject(resource=ACCELERATOR_POLICIES, name="all", uid="u-2")
    (request,) = await World().tell(subject=policy)
    assert request.path == "/apis/events.k8s.io/v1/namespaces/default/events"


async def test_what_is_said_again_counts_the_event_up() -> None:
    (request,) = await World().tell(times=3)
    assert request.method == "PATCH"
    assert request.body == {"series": {"count": 3, "lastObservedTime": "2026-01-02T03:04:05.000006Z"}}


async def test_an_event_that_exists_from_before_a_restart_is_counted_up() -> None:
    first, second = await World(error_for(409, message="exists")).tell()
    assert (first.method, second.method) == ("POST", "PATCH")
    assert second.path == f"{EVENTS}/{first.body['metadata']['name']}"


async def test_an_event_that_expired_is_made_again() -> None:
    first, second = await World(error_for(404, message="gone")).tell(times=2)
    assert (first.method, second.method) == ("PATCH", "POST")


async def test_a_refusal_is_not_the_callers_problem() -> None:
    world = World(ForbiddenError("no", status=403))
    await world.tell()
    assert world.counted is None


@pytest.mark.parametrize(
    ("answers", "over"),
    [
        pytest.param([{}], True, id="written"),
        pytest.param([error_for(403, message="no")], True, id="missing rights"),
        pytest.param([error_for(429, message="slowly")], False, id="too many requests"),
        pytest.param([error_for(0, message="no answer")], False, id="no answer"),
        # A proxy may say 409 of what was never stored: then there is nothing to count up.
        pytest.param(
            [error_for(409, message="exists"), error_for(404, message="not there")], False, id="neither nor"
        ),
    ],
)
async def test_the_caller_learns_whether_to_try_again(answers: list[Any], over: bool) -> None:
    world = World(*answers)
    assert await world.events.tell(POD, reason="NoDevice", note="Because.") is over


@pytest.mark.looptime
async def test_an_event_without_an_answer_keeps_nobody_waiting_for_long() -> None:
    class Silent(ScriptedTransport):
        async def request(self, *_: Any, **__: Any) -> Any:
            await asyncio.sleep(1e6)

    events = Events(KubeClient(Silent(lambda _: {})), instance="replica", metrics=Metrics())
    began = asyncio.get_running_loop().time()
    assert not await events.tell(POD, reason="NoDevice", note="Because.")
    assert asyncio.get_running_loop().time() - began <= 5


async def test_events_that_were_written_are_counted() -> None:
    world = World()
    await world.tell()
    assert world.counted == 1


async def test_the_name_is_one_for_each_subject_reason_and_note() -> None:
    world = World()
    await world.tell()
    await world.tell()
    await world.tell(subject=Subject(resource=PODS, name="p" * 253, namespace="ns", uid="u-3"))
    first, again, long = (request.body["metadata"]["name"] for request in world.transport.requests)
    assert first == again
    assert len(long) <= 253


@given(st.text(max_size=3000))
async def test_a_cut_note_never_exceeds_the_limit_in_bytes(text: str) -> None:
    assert len(cut(text).encode()) <= 1024


@pytest.mark.parametrize("text", ["short", "é" * 512])
async def test_a_note_that_fits_is_left_alone(text: str) -> None:
    assert cut(text) == text


async def test_half_a_surrogate_pair_in_what_a_user_wrote_does_not_stop_the_note() -> None:
    assert cut("selector '\ud800'") == "selector '?'"
