"""The whole controller over a scripted API server, on a virtual clock."""

import asyncio
import copy
import itertools
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from controller.app import Parts, assemble
from controller.checks import not_ready, not_working
from controller.health import Health
from controller.running import work
from controller.settings import Settings
from driver.api.node import AgentStatus, status_of
from driver.api.policy import effective_policy
from driver.cards import Card
from driver.kube.client import ApiError, KubeClient, UnreachableError, error_for
from tests.support.scripted_api import Request, ScriptedTransport

pytestmark = [pytest.mark.asyncio, pytest.mark.looptime]

LEASE = "/apis/coordination.k8s.io/v1/namespaces/dragoman/leases"
SLICES = "/apis/resource.k8s.io/v1/resourceslices"


def inventory(name: str) -> dict[str, Any]:
    cards = [Card(name=f"{name}-c", vendor="v", model="M", memory_bytes=24 << 30)]
    status = status_of(cards, agent=AgentStatus(version="1"), policy=effective_policy([], node_labels={}))
    return {
        "metadata": {"name": name, "uid": f"an-{name}", "resourceVersion": "1"},
        "status": json.loads(status.model_dump_json(by_alias=True)),
    }


def agent(node: str) -> dict[str, Any]:
    return {
        "metadata": {
            "name": f"agent-{node}",
            "namespace": "dragoman",
            "uid": f"a-{node}",
            "resourceVersion": "1",
        },
        "spec": {"nodeName": node},
        "status": {"conditions": [{"type": "Ready", "status": "True"}]},
    }


class Cluster:
    """Lists as they are at the start; one Lease; writes are answered as a server would."""

    def __init__(self) -> None:
        self.transport = ScriptedTransport(self._answer)
        self.lists: dict[str, list[Any]] = {
            "/apis/dragoman.dev/v1alpha1/acceleratornodes": [inventory("n1"), inventory("n2")],
            "/apis/dragoman.dev/v1alpha1/acceleratorpolicies": [],
            "/api/v1/nodes": [
                {"metadata": {"name": n, "uid": n, "resourceVersion": "1"}} for n in ("n1", "n2")
            ],
            "/api/v1/namespaces/dragoman/pods": [agent("n1"), agent("n2")],
            SLICES: [],
            "/apis/resource.k8s.io/v1/resourceclaims": [],
            "/apis/resource.k8s.io/v1/deviceclasses": [],
            "/api/v1/pods": [],
        }
        self.lease: dict[str, Any] | None = None
        self.away = False
        self._versions = itertools.count(10)

    def _answer(self, request: Request) -> dict[str, Any] | ApiError:
        if self.away:
            return UnreachableError("no route", status=0)
        if request.path.startswith(LEASE):
            return self._lease(request)
        if request.path == "/version":
            return {"major": "1", "minor": "36"}
        if request.method == "GET":
            return {"metadata": {"resourceVersion": "5"}, "items": self.lists[request.path]}
        stored: dict[str, Any] = copy.deepcopy(request.body)
        if request.method == "PATCH":
            # Server-side apply answers with the whole object.
            name = request.body["metadata"]["name"]
            stored["status"] = {**inventory(name)["status"], **request.body["status"]}
        stored["metadata"].update(resourceVersion=str(next(self._versions)), uid="made")
        return stored

    def _lease(self, request: Request) -> dict[str, Any] | ApiError:
        if request.method == "GET":
            return self.lease or error_for(404, message="none")
        lease: dict[str, Any] = {**request.body, "metadata": dict(request.body["metadata"])}
        lease["metadata"]["resourceVersion"] = str(next(self._versions))
        self.lease = lease
        return lease

    def parts(self, settings: Settings | None = None) -> Parts:
        client = KubeClient(self.transport)
        return assemble(client, settings or Settings(), namespace="dragoman", identity="me")

    def written(self, part: str) -> list[Request]:
        return [request for request in self.transport.writes() if part in request.path]


class Running:
    def __init__(self, cluster: Cluster, settings: Settings | None = None) -> None:
        settings = settings or Settings()
        self.health = Health(clock=asyncio.get_running_loop().time)
        self.stop = asyncio.Event()
        self.shell: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.parts = cluster.parts(settings)
        self.task = asyncio.create_task(
            work(self.parts, settings, health=self.health, stop=self.stop, ended=self.shell)
        )

    def dead(self) -> list[str]:
        parts = self.parts
        return not_working(
            parts.publishing, others=parts.informers, queue=parts.publish_queue, settings=Settings()
        )

    def unready(self) -> list[str]:
        return not_ready(self.parts.informers, queues=self.parts.queues, settings=Settings())

    async def end(self) -> None:
        self.stop.set()
        await self.task


async def test_all_ready_nodes_are_published_and_the_controller_becomes_healthy() -> None:
    cluster = Cluster()
    running = Running(cluster)
    await asyncio.sleep(20)
    names = [request.body["metadata"]["name"] for request in cluster.written(SLICES)]
    assert sorted(names) == ["dragoman.dev-n1-00000", "dragoman.dev-n2-00000"]
    assert running.health.not_ready() == ()
    await running.end()


async def test_claims_pods_and_slices_are_never_patched() -> None:
    cluster = Cluster()
    running = Running(cluster)
    await asyncio.sleep(600)
    patched = {request.path for request in cluster.transport.writes() if request.method == "PATCH"}
    assert patched == {f"/apis/dragoman.dev/v1alpha1/acceleratornodes/{node}/status" for node in ("n1", "n2")}
    assert cluster.written("resourceclaims") == []
    assert cluster.written("pods") == []
    await running.end()


async def test_an_idle_cluster_is_left_in_peace() -> None:
    cluster = Cluster()
    running = Running(cluster)
    await asyncio.sleep(60)
    before = len([request for request in cluster.transport.writes() if not request.path.startswith(LEASE)])
    await asyncio.sleep(3600)
    after = len([request for request in cluster.transport.writes() if not request.path.startswith(LEASE)])
    assert after == before
    await running.end()


async def test_nothing_is_published_by_a_replica_that_does_not_lead() -> None:
    cluster = Cluster()
    spec = {"holderIdentity": "another", "leaseDurationSeconds": 1_000_000}
    cluster.lease = {"metadata": {"name": "l", "uid": "u", "resourceVersion": "1"}, "spec": spec}
    running = Running(cluster)
    await asyncio.sleep(600)
    assert cluster.transport.writes() == []
    assert running.health.not_ready() == (), "a replica that waits is healthy"
    await running.end()


async def test_nothing_is_written_before_every_list_is_complete() -> None:
    cluster = Cluster()
    missing = cluster.lists.pop("/api/v1/namespaces/dragoman/pods")
    cluster.lists["/api/v1/namespaces/dragoman/pods"] = missing
    original = cluster._answer

    def without_agents(request: Request) -> Any:
        if request.path == "/api/v1/namespaces/dragoman/pods":
            return error_for(500, message="etcd is busy")
        return original(request)

    cluster.transport._answer = without_agents
    running = Running(cluster)
    await asyncio.sleep(60)
    assert cluster.written(SLICES) == []
    assert running.health.not_ready() == ("The list of agents is not complete yet.",)
    cluster.transport._answer = original
    await asyncio.sleep(60)
    assert len(cluster.written(SLICES)) == 2
    await running.end()


@pytest.mark.parametrize(
    ("age_s", "reason"), [(5, "KubeSchedulerMayBind"), (3600, "ToController")], ids=["young", "old"]
)
async def test_in_mode_controller_cards_rest_as_long_as_their_slices_are_young(
    age_s: float, reason: str
) -> None:
    cluster = Cluster()
    original = cluster._answer
    made = (datetime.now(UTC) - timedelta(seconds=age_s)).strftime("%Y-%m-%dT%H:%M:%SZ")

    def with_times(request: Request) -> Any:
        answer = original(request)
        if request.method == "POST" and request.path == SLICES and isinstance(answer, dict):
            answer["metadata"]["creationTimestamp"] = made
        return answer

    cluster.transport._answer = with_times
    running = Running(cluster, Settings(mode="controller"))
    await asyncio.sleep(5)
    told = [
        each["reason"]
        for request in cluster.written("/status")
        for each in request.body["status"]["conditions"]
        if each["type"] == "HandedOver"
    ]
    assert told == [reason, reason]
    await running.end()


async def test_a_change_of_leaders_tells_each_node_no_more_than_one_condition() -> None:
    cluster = Cluster()
    running = Running(cluster)
    await asyncio.sleep(20)
    reasons = [request.body["status"]["conditions"][0]["reason"] for request in cluster.written("/status")]
    assert reasons == ["Published", "Published"]
    await running.end()


async def test_at_the_end_the_lease_is_given_back() -> None:
    cluster = Cluster()
    running = Running(cluster)
    await asyncio.sleep(5)
    assert cluster.lease is not None
    assert cluster.lease["spec"]["holderIdentity"] == "me"
    await running.end()
    assert cluster.lease["spec"]["holderIdentity"] == ""


async def test_a_shell_that_ends_by_itself_ends_the_process() -> None:
    running = Running(Cluster())
    await asyncio.sleep(5)
    running.shell.set_result(None)
    with pytest.raises(RuntimeError, match="A part of the controller ended"):
        await running.task


async def test_an_api_server_that_is_away_is_no_reason_for_a_restart() -> None:
    cluster = Cluster()
    running = Running(cluster)
    await asyncio.sleep(20)
    cluster.away = True
    for informer in running.parts.informers:
        informer._last_contact -= 4000
    assert running.dead() == []
    await running.end()


async def test_an_informer_that_alone_hears_nothing_is_a_reason() -> None:
    running = Running(Cluster())
    await asyncio.sleep(20)
    running.parts.informers[0]._last_contact -= 400
    assert running.dead() == ["Nothing was heard about acceleratornodes for 420 s."]
    await running.end()


async def test_a_stuck_queue_is_a_reason() -> None:
    running = Running(Cluster())
    await asyncio.sleep(20)
    running.parts.publish_queue._active["n1"] = asyncio.get_running_loop().time() - 400
    running.parts.publish_queue._progress -= 400
    (sentence,) = running.dead()
    assert sentence.startswith("The queue 'publish' is stuck")
    running.parts.publish_queue._active.clear()
    await running.end()


async def test_whatever_explaining_does_is_no_reason_for_a_restart() -> None:
    running = Running(Cluster())
    await asyncio.sleep(20)
    queue = running.parts.explain_queue
    queue._active["ns/p"] = asyncio.get_running_loop().time() - 4000
    queue._progress -= 4000
    pods = next(one for one in running.parts.informers if one.name == "waiting pods")
    pods._last_contact -= 4000
    assert running.dead() == []
    assert len(running.unready()) == 2
    queue._active.clear()
    await running.end()


async def test_nothing_is_published_while_it_is_not_known_what_is_held_without_a_share_id() -> None:
    cluster = Cluster()
    original = cluster._answer

    def without_claims(request: Request) -> Any:
        if request.method == "GET" and request.path.endswith("/resourceclaims"):
            return error_for(500, message="etcd is busy")
        return original(request)

    cluster.transport._answer = without_claims
    running = Running(cluster)
    await asyncio.sleep(60)
    assert cluster.written(SLICES) == []
    assert running.health.problems() == ()
    assert "The list of resourceclaims is not complete yet." in running.health.not_ready()
    await running.end()


@pytest.mark.parametrize("mode", ["native", "controller"])
@pytest.mark.parametrize("webhook_port", [0, 9443])
async def test_no_kind_is_watched_twice_as_a_whole(mode: str, webhook_port: int) -> None:
    transport = ScriptedTransport(lambda _request: {})
    settings = Settings(mode=mode, webhook_port=webhook_port, conversion="{}")
    parts = assemble(KubeClient(transport), settings, namespace="dragoman", identity="one")
    chosen = [one for one in parts.informers if one._selection.namespace or one._selection.label_selector]
    whole = [one.resource.plural for one in parts.informers if one not in chosen]
    assert sorted(whole) == sorted(set(whole))


async def test_without_explanations_pods_are_not_even_listed() -> None:
    cluster = Cluster()
    settings = Settings(explain=False)
    running = Running(cluster, settings)
    await asyncio.sleep(20)
    listed = {request.path for request in cluster.transport.requests if request.method == "GET"}
    assert "/api/v1/pods" not in listed
    await running.end()


async def test_converted_pods_are_followed_where_pods_are_converted() -> None:
    names = {
        informer.name
        for informer in assemble(
            KubeClient(ScriptedTransport(lambda _: {})),
            Settings(webhook_port=9443, conversion="{}"),
            namespace="dragoman",
            identity="one",
        ).informers
    }
    assert {"converted pods", "policies"} <= names
