import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from driver.api.node import AgentStatus
from driver.api.policy import effective_policy
from driver.kube.client import (
    APPLY,
    JSON,
    ApiError,
    ConflictError,
    ForbiddenError,
    NotFoundError,
    UnreachableError,
)
from kubelet_plugin.inventory import Snapshot
from kubelet_plugin.metrics import Metrics
from kubelet_plugin.node_status import NodeStatusWriter, StatusMaker
from tests.support.node_world import card
from tests.support.scripted_api import Request, ScriptedTransport, scripted_client

pytestmark = pytest.mark.asyncio

OBJECT = "/apis/dragoman.dev/v1alpha1/acceleratornodes/worker"
COLLECTION = "/apis/dragoman.dev/v1alpha1/acceleratornodes"


class ApiServer:
    """One AcceleratorNode and one Node, as an API server keeps them."""

    def __init__(self, *, exists: bool = True) -> None:
        self.stored: JSON | None = {"metadata": {"name": "worker"}} if exists else None
        self.fail: ApiError | None = None
        self.keep: Callable[[JSON], JSON] = lambda status: status

    def __call__(self, request: Request) -> JSON | ApiError:
        if self.fail is not None:
            return self.fail
        if request.path == "/api/v1/nodes/worker":
            return {"metadata": {"name": "worker", "uid": "node-uid"}}
        if request.method == "POST" and request.path == COLLECTION:
            self.stored = request.body
            return self.stored
        if self.stored is None:
            return NotFoundError("not found", status=404)
        if request.method == "PATCH" and request.path == f"{OBJECT}/status":
            self.stored = {**self.stored, "status": self.keep(request.body["status"])}
        return self.stored


def snapshot(*, mib: int = 1000, complete: bool = True) -> Snapshot:
    return Snapshot(
        cards={"a": card("a", mib=mib)},
        policy=effective_policy([], node_labels={}),
        problems=(),
        complete=complete,
    )


class Writer:
    def __init__(self, server: ApiServer) -> None:
        client, self.transport = scripted_client(server)
        self.superseded = False
        self.problems: list[str] = []
        self.metrics = Metrics()
        maker = StatusMaker(
            node_name="worker",
            agent=AgentStatus(version="1"),
            simulated=False,
            problems=lambda: self.problems,
        )
        self.writer = NodeStatusWriter(
            client, maker=maker, superseded=lambda: self.superseded, metrics=self.metrics
        )

    async def take(self, found: Snapshot | None = None) -> bool:
        self.writer.update(found)
        return await self.writer.write_if_changed()


def applied(transport: ScriptedTransport) -> list[Request]:
    return [request for request in transport.requests if request.method == "PATCH"]


async def test_the_inventory_is_applied_to_the_status_by_its_own_manager() -> None:
    found = Writer(ApiServer())
    assert await found.take(snapshot())
    [request] = applied(found.transport)
    assert (request.path, request.content_type) == (f"{OBJECT}/status", APPLY)
    assert request.query == {"fieldManager": "dragoman-kubelet-plugin", "force": "true"}
    assert request.body["status"]["cards"][0]["memoryMiB"] == 1000
    assert request.body["status"]["agent"]["version"] == "1"


async def test_what_did_not_change_is_not_written_again() -> None:
    found = Writer(ApiServer())
    await found.take(snapshot())
    assert not await found.take(snapshot())
    assert await found.take(snapshot(mib=900))
    assert len(found.transport.writes()) == 2


async def test_a_missing_object_is_made_first_and_belongs_to_the_node() -> None:
    server = ApiServer(exists=False)
    found = Writer(server)
    assert await found.take(snapshot())
    created = next(request for request in found.transport.requests if request.method == "POST")
    assert created.body["metadata"]["ownerReferences"] == [
        {"apiVersion": "v1", "kind": "Node", "name": "worker", "uid": "node-uid"}
    ]
    assert server.stored is not None
    assert server.stored["status"]["cards"][0]["name"] == "a"


async def test_an_object_that_another_agent_made_meanwhile_is_used() -> None:
    server = ApiServer(exists=False)

    def answer(request: Request) -> JSON | ApiError:
        if request.method == "POST":
            server.stored = {"metadata": {"name": "worker"}}
            return ConflictError("exists", status=409)
        return server(request)

    client, _ = scripted_client(answer)
    found = Writer(server)
    found.writer._client = client
    assert await found.take(snapshot())


async def test_nothing_is_written_before_the_policies_are_known() -> None:
    found = Writer(ApiServer())
    assert not await found.take(snapshot(complete=False))
    assert found.transport.requests == []


async def test_an_agent_that_is_superseded_writes_nothing_and_writes_all_again_afterwards() -> None:
    found = Writer(ApiServer())
    await found.take(snapshot())
    found.superseded = True
    assert not await found.take(snapshot(mib=900))
    found.superseded = False
    assert await found.take(snapshot())


async def test_a_new_problem_is_written_without_a_new_look_for_cards() -> None:
    found = Writer(ApiServer())
    await found.take(snapshot())
    found.problems.append("Claim x cannot be restored.")
    assert await found.take()
    assert applied(found.transport)[-1].body["status"]["problems"] == ["Claim x cannot be restored."]


async def test_fields_that_the_server_dropped_are_counted_and_not_written_in_a_loop() -> None:
    server = ApiServer()
    server.keep = lambda status: {key: value for key, value in status.items() if key != "cards"}
    found = Writer(server)
    await found.take(snapshot())
    await found.writer._forget_if_foreign()
    assert not await found.take()
    assert 'dropped_fields_total{gate="",object="AcceleratorNode"} 1.0' in found.metrics.render().decode()


async def test_somebody_elses_change_is_noticed_and_written_over() -> None:
    server = ApiServer()
    found = Writer(server)
    await found.take(snapshot())
    assert server.stored is not None
    server.stored["status"] = {"cards": []}
    await found.writer._forget_if_foreign()
    assert await found.take()
    assert server.stored["status"]["cards"][0]["name"] == "a"


async def test_an_object_that_was_deleted_is_made_again() -> None:
    server = ApiServer()
    found = Writer(server)
    await found.take(snapshot())
    server.stored = None
    await found.writer._forget_if_foreign()
    assert await found.take()


@pytest.mark.parametrize(
    "failure",
    [UnreachableError("away", status=0), ForbiddenError("no", status=403), ApiError("x", status=500)],
)
async def test_a_write_that_fails_is_tried_again_until_it_succeeds(
    failure: ApiError, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("driver.kube.backoff.Backoff.next_delay", lambda _self: 0.001)
    server = ApiServer()
    server.fail = failure
    found = Writer(server)
    found.writer.update(snapshot())
    running = asyncio.create_task(found.writer.run())
    while len(found.transport.requests) < 3:  # noqa: ASYNC110 - requests are a list, no event
        await asyncio.sleep(0.001)
    server.fail = None
    while not (server.stored or {}).get("status"):  # noqa: ASYNC110
        await asyncio.sleep(0.001)
    running.cancel()
    text = found.metrics.render().decode()
    assert 'status_writes_total{object="node",result="ok"} 1.0' in text
    assert 'status_writes_total{object="node",result="failed"}' in text


async def test_a_running_writer_writes_what_it_is_given() -> None:
    server = ApiServer()
    found = Writer(server)
    running = asyncio.create_task(found.writer.run())
    found.writer.update(snapshot())
    while not (server.stored or {}).get("status"):  # noqa: ASYNC110 - the server is a dict, no event
        await asyncio.sleep(0.001)
    running.cancel()
    assert _names(server.stored) == ["a"]


async def test_a_look_that_shows_nothing_new_does_not_disturb_the_pause_of_a_failing_writer() -> None:
    found = Writer(ApiServer())
    await found.take(snapshot())
    found.writer._wake.clear()
    found.writer.update()
    assert not found.writer._wake.is_set()
    found.problems.append("new")
    found.writer.update()
    assert found.writer._wake.is_set()


async def test_an_agent_whose_successor_died_writes_again() -> None:
    server = ApiServer()
    found = Writer(server)
    found.superseded = True
    running = asyncio.create_task(found.writer.run())
    found.writer.update(snapshot())
    await asyncio.sleep(0.01)
    assert not (server.stored or {}).get("status")
    found.superseded = False
    found.writer.update()
    while not (server.stored or {}).get("status"):  # noqa: ASYNC110 - the server is a dict, no event
        await asyncio.sleep(0.001)
    running.cancel()


async def test_a_quiet_writer_looks_now_and_then_whether_its_words_still_stand() -> None:
    server = ApiServer()
    found = Writer(server)
    running = asyncio.create_task(found.writer.run(verify_every_s=0.01))
    found.writer.update(snapshot())
    while not (server.stored or {}).get("status"):  # noqa: ASYNC110
        await asyncio.sleep(0.001)
    assert server.stored is not None
    server.stored["status"] = {"cards": []}
    while _names(server.stored) != ["a"]:
        found.writer.update()
        await asyncio.sleep(0.001)
    running.cancel()


def _names(stored: Any) -> list[str]:
    return [found["name"] for found in stored["status"]["cards"]]
