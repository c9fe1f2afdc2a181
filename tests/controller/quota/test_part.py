"""Quotas, wired: informers, counting by the leader, ResourceQuotas translated; over a scripted API server."""

from __future__ import annotations

import asyncio
import copy
import itertools
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from controller.admission.cluster import class_document
from controller.publishing.views import Inventory, inventory_view
from controller.quota.books import claim_view
from controller.quota.part import TRANSLATE, Quoting
from controller.quota.translating import Group
from driver.api.node import AgentStatus, cards_of, decode_status, status_of
from driver.api.policy import effective_policy
from driver.cards import Card
from driver.errors import DragomanError
from driver.kube.client import ApiError, KubeClient, error_for
from driver.kube.informer import Informer
from driver.kube.resources import ACCELERATOR_NODES, DEVICE_CLASSES, RESOURCE_CLAIMS
from driver.quota.errors import QuotaExceededError, QuotaUnavailableError
from driver.quota.stock import Stock
from driver.vendors.catalogue import VENDORS
from tests.controller.quota.world import CLASS, NAME, NAMESPACE, claim, quota
from tests.support.scripted_api import Request, ScriptedTransport

pytestmark = [pytest.mark.asyncio, pytest.mark.looptime]

QUOTAS = f"/apis/dragoman.dev/v1alpha1/namespaces/{NAMESPACE}/acceleratorquotas"
CLAIMS = f"/apis/resource.k8s.io/v1/namespaces/{NAMESPACE}/resourceclaims"
LISTS = {
    "/apis/dragoman.dev/v1alpha1/acceleratorquotas": QUOTAS,
    "/apis/resource.k8s.io/v1/resourceclaims": CLAIMS,
}
GROUPS = tuple(Group(vendor=one.name, names=names) for one in VENDORS for names in one.legacy)

NIC_CLASS = "nic.example"


def inventory() -> dict[str, Any]:
    cards = [Card(name="c", vendor="nvidia", model="M", memory_bytes=80 << 30)]
    status = status_of(cards, agent=AgentStatus(version="1"), policy=effective_policy([], node_labels={}))
    return {
        "metadata": {"name": "n", "uid": "n", "resourceVersion": "1"},
        "status": json.loads(status.model_dump_json(by_alias=True)),
    }


class Server:
    """Objects by path; statuses are written by compare-and-swap."""

    def __init__(self) -> None:
        self.transport = ScriptedTransport(self._answer)
        self.versions = itertools.count(100)
        self.objects: dict[str, dict[str, Any]] = {}
        self.others: dict[str, list[Any]] = {
            "/apis/dragoman.dev/v1alpha1/acceleratornodes": [inventory()],
            "/apis/resource.k8s.io/v1/deviceclasses": [
                {"metadata": {"name": CLASS, "uid": "class", "resourceVersion": "1"}, "spec": {}}
            ],
            "/api/v1/resourcequotas": [],
        }
        self.version = "50"

    def put(self, path: str, document: dict[str, Any]) -> None:
        made = copy.deepcopy(document)
        made["metadata"].setdefault("uid", path)
        made["metadata"]["resourceVersion"] = str(next(self.versions))
        self.objects[path] = made

    def _answer(self, request: Request) -> dict[str, Any] | ApiError:
        if request.path in self.others:
            return self._list(self.others[request.path])
        if request.path in LISTS:
            within = LISTS[request.path] + "/"
            return self._list([one for path, one in self.objects.items() if path.startswith(within)])
        path = request.path.removesuffix("/status")
        if request.method == "POST":
            self.put(f"{path}/{request.body['metadata']['name']}", request.body)
            return self.objects[f"{path}/{request.body['metadata']['name']}"]
        stored = self.objects.get(path)
        if stored is None:
            return error_for(404, message="there is none")
        if request.method == "DELETE":
            for name, value in (request.body.get("preconditions") or {}).items():
                if stored["metadata"][name] != value:
                    return error_for(409, message="changed meanwhile")
            del self.objects[path]
        if request.method == "PUT":
            if request.body["metadata"]["resourceVersion"] != stored["metadata"]["resourceVersion"]:
                return error_for(409, message="changed meanwhile")
            kept = ("status",) if request.path.endswith("/status") else ("metadata", "spec")
            self.put(path, {**stored, **{key: request.body[key] for key in kept}})
        return copy.deepcopy(self.objects.get(path, stored))

    def _list(self, items: list[Any]) -> dict[str, Any]:
        return {"metadata": {"resourceVersion": self.version}, "items": copy.deepcopy(items)}

    @property
    def used(self) -> Any:
        return self.objects[f"{QUOTAS}/{NAME}"]["status"]["used"]


@asynccontextmanager
async def running(
    server: Server,
    registry: CollectorRegistry | None = None,
    *,
    in_use: Callable[[str], bool] = lambda _uid: False,
) -> AsyncIterator[Quoting]:
    client = KubeClient(server.transport)
    inventories = Informer(client, ACCELERATOR_NODES, inventory_view)
    claims = Informer(client, RESOURCE_CLAIMS, partial(claim_view, carried=False))
    classes = Informer(client, DEVICE_CLASSES, class_document)
    stock = Stock(class_is_ours=lambda one: one["metadata"]["name"] != NIC_CLASS)

    def put(key: str, _before: Inventory | None, after: Inventory | None) -> None:
        assert after is not None
        stock.put(key, cards_of(decode_status(json.loads(after.status))))

    inventories.subscribe(put)
    part = Quoting(
        client,
        claims=claims,
        claims_version=lambda: claims.version,
        classes=classes,
        stock=stock,
        groups=GROUPS,
        carried=False,
        registry=registry or CollectorRegistry(),
        in_use=in_use,
    )
    informers: tuple[Informer[Any], ...] = (inventories, claims, classes, *part.informers)
    tasks = [asyncio.create_task(one.run()) for one in informers]
    for one in informers:
        await one.synced.wait()
    try:
        yield part
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def reserve(part: Quoting, memory: str = "8Gi", uid: str = "u") -> DragomanError | None:
    try:
        await part.quotas.reserve(namespace=NAMESPACE, uid=uid, name=uid, claim=claim(memory), dry_run=False)
    except DragomanError as refused:
        return refused
    return None


async def test_claims_that_exist_are_counted_before_the_first_one_is_admitted() -> None:
    server = Server()
    server.put(f"{QUOTAS}/{NAME}", quota(hard={"memory": "16Gi"}))
    server.put(f"{CLAIMS}/old", claim(uid="old", name="old"))
    async with running(server) as part:
        assert await reserve(part, "9Gi") is not None
        assert await reserve(part, "8Gi") is None
    assert server.used["memory"] == "16Gi"


async def test_a_whole_card_counts_by_the_inventories() -> None:
    server = Server()
    server.put(f"{QUOTAS}/{NAME}", quota(hard={"memory": "100Gi"}))
    async with running(server) as part:
        assert await reserve(part, "") is None
    assert server.used["memory"] == "80Gi"


async def test_the_leader_counts_every_quota_it_begins_with() -> None:
    server = Server()
    server.put(f"{QUOTAS}/{NAME}", quota())
    server.put(f"{CLAIMS}/old", claim(uid="old", name="old"))
    async with running(server) as part:
        assert part.begin() == [f"{NAMESPACE}/{NAME}"]
        assert await part.settle(f"{NAMESPACE}/{NAME}") is None
    assert server.used == {"memory": "8Gi", "cores": "0", "cards": "1"}


async def test_the_leader_asks_for_a_claim_that_never_came_and_frees_what_it_held() -> None:
    server = Server()
    server.put(f"{QUOTAS}/{NAME}", quota())
    async with running(server) as part:
        await reserve(part)
        key = f"{NAMESPACE}/{NAME}"
        again = await part.settle(key)
        assert again is not None
        assert 50 <= again <= 51
        await asyncio.sleep(again)
        assert await part.settle(key) is None
    assert server.used["memory"] == "0"


async def test_a_claim_that_is_stored_keeps_its_reservation_until_the_watch_has_told_of_it() -> None:
    server = Server()
    server.put(f"{QUOTAS}/{NAME}", quota())
    async with running(server) as part:
        await reserve(part)
        server.put(f"{CLAIMS}/u", claim(uid="u", name="u"))
        await asyncio.sleep(55)
        await part.settle(f"{NAMESPACE}/{NAME}")
    assert server.used["memory"] == "8Gi"


async def test_another_claim_of_the_same_name_does_not_keep_the_reservation() -> None:
    server = Server()
    server.put(f"{QUOTAS}/{NAME}", quota())
    async with running(server) as part:
        await reserve(part)
        server.put(f"{CLAIMS}/u", claim(uid="another", name="u"))
        await asyncio.sleep(55)
        await part.settle(f"{NAMESPACE}/{NAME}")
    assert server.used["memory"] == "0"


async def test_a_count_of_another_history_is_set_right_after_half_a_minute() -> None:
    server = Server()
    status = {"used": {"memory": "64Gi"}, "countedVersion": "99999999"}
    server.put(f"{QUOTAS}/{NAME}", {**quota(), "status": status})
    async with running(server) as part:
        key = f"{NAMESPACE}/{NAME}"
        await part.settle(key)
        assert isinstance(await reserve(part), QuotaExceededError)
        await asyncio.sleep(31)
        await part.settle(key)
        assert await reserve(part) is None
    assert server.used["memory"] == "8Gi"


async def test_a_quota_that_a_dead_watch_has_not_told_of_is_not_passed_by() -> None:
    server = Server()
    async with running(server) as part:
        assert await reserve(part, uid="before") is None
        server.put(f"{QUOTAS}/{NAME}", quota())
        server.others[QUOTAS] = [server.objects[f"{QUOTAS}/{NAME}"]]
        await asyncio.sleep(200)
        assert isinstance(await reserve(part, uid="after"), QuotaUnavailableError)
        # Where the API server does not answer, nobody knows of a quota here.
        server.others.pop(QUOTAS)
        assert await reserve(part, uid="later") is None


def legacy(memory: str = "8192") -> dict[str, Any]:
    return {
        "metadata": {"name": "team", "namespace": NAMESPACE, "uid": "rq", "resourceVersion": "1"},
        "spec": {"hard": {"limits.nvidia.com/gpumem": memory}},
    }


async def test_claims_wait_until_a_resource_quota_of_before_is_translated() -> None:
    server = Server()
    server.others["/api/v1/resourcequotas"] = [legacy()]
    async with running(server) as part:
        assert isinstance(await reserve(part), QuotaUnavailableError)
        (key,) = part.begin()
        assert key == f"{TRANSLATE}{NAMESPACE}/team"
        await part.settle(key)
        assert await reserve(part, "6Gi") is None
        assert isinstance(await reserve(part, "6Gi", uid="v"), QuotaExceededError)


async def test_a_translation_follows_its_resource_quota() -> None:
    server = Server()
    server.others["/api/v1/resourcequotas"] = [legacy("16384")]
    path = f"{QUOTAS}/team.nvidia.com.gpu"
    async with running(server) as part:
        await part.settle(f"{TRANSLATE}{NAMESPACE}/team")
        assert server.objects[path]["spec"]["hard"] == {"memory": "16Gi"}
    server.others["/api/v1/resourcequotas"] = [legacy("8192")]
    async with running(server) as part:
        assert isinstance(await reserve(part), QuotaUnavailableError)
        await part.settle(f"{TRANSLATE}{NAMESPACE}/team")
        assert server.objects[path]["spec"]["hard"] == {"memory": "8Gi"}
    server.others["/api/v1/resourcequotas"] = []
    async with running(server) as part:
        for key in part.begin():
            await part.settle(key)
    assert path not in server.objects


class Stopping(ScriptedTransport):
    """Stands still before it deletes anything, as the process above it does under SIGSTOP."""

    def __init__(self, answer: Any) -> None:
        super().__init__(answer)
        self.resumed = asyncio.Event()

    async def request(self, method: str, path: str, **more: Any) -> Any:
        if method == "DELETE":
            await self.resumed.wait()
        return await super().request(method, path, **more)


async def test_a_translation_that_is_wanted_again_is_not_deleted_by_a_leader_that_was_stopped() -> None:
    server = Server()
    server.others["/api/v1/resourcequotas"] = [legacy()]
    path = f"{QUOTAS}/team.nvidia.com.gpu"
    async with running(server) as part:
        await part.settle(f"{TRANSLATE}{NAMESPACE}/team")
    transport, server.others["/api/v1/resourcequotas"] = server.transport, []
    server.transport = stopping = Stopping(transport._answer)
    async with running(server) as old:
        late = asyncio.create_task(old.settle(f"{TRANSLATE}{NAMESPACE}/team"))
        await asyncio.sleep(1)
        again = legacy()
        again["metadata"]["uid"] = "rq-made-anew"
        server.transport, server.others["/api/v1/resourcequotas"] = transport, [again]
        async with running(server) as new:
            await new.settle(f"{TRANSLATE}{NAMESPACE}/team")
            assert await reserve(new, "6Gi") is None
        stopping.resumed.set()
        await late
    assert [one["uid"] for one in server.objects[path]["status"]["reservations"]] == ["u"]


async def test_a_quota_that_somebody_made_under_the_name_of_a_translation_is_not_touched() -> None:
    server = Server()
    server.others["/api/v1/resourcequotas"] = [legacy()]
    path = f"{QUOTAS}/team.nvidia.com.gpu"
    server.put(path, quota("team.nvidia.com.gpu"))
    async with running(server) as part:
        await part.settle(f"{TRANSLATE}{NAMESPACE}/team")
        refused = await reserve(part)
        assert isinstance(refused, QuotaUnavailableError)
        assert "dragoman.dev/quota: ignored" in str(refused)
    assert server.objects[path]["spec"] == quota()["spec"]


async def test_metrics_tell_limits_and_what_is_used() -> None:
    server, registry = Server(), CollectorRegistry()
    server.put(f"{QUOTAS}/{NAME}", quota(hard={"memory": "64Gi", "cards": 4}))
    async with running(server, registry) as part:
        await reserve(part)
    labels = {"namespace": NAMESPACE, "quota": NAME}

    def value(name: str, **more: str) -> float | None:
        return registry.get_sample_value(f"dragoman_controller_quota_{name}", {**labels, **more})

    assert value("hard", resource="memory") == 64 << 30
    assert value("hard", resource="cores") is None
    assert value("used", resource="memory") == 8 << 30
    assert value("used", resource="cards") == 1
    assert value("reservations") == 1
    part._quota_changed(f"{NAMESPACE}/{NAME}", part._quotas.get(f"{NAMESPACE}/{NAME}"), None)
    assert value("used", resource="memory") is None


def with_nics() -> Server:
    """A cluster with a DeviceClass of another driver."""
    server = Server()
    selectors = [{"cel": {"expression": 'device.driver == "nic.example"'}}]
    metadata = {"name": NIC_CLASS, "uid": "nic", "resourceVersion": "1"}
    classes = server.others["/apis/resource.k8s.io/v1/deviceclasses"]
    classes.append({"metadata": metadata, "spec": {"selectors": selectors}})
    return server


async def nic_is_refused(part: Quoting) -> DragomanError | None:
    exactly = {"deviceClassName": NIC_CLASS, "allocationMode": "ExactCount", "count": 1}
    document = {
        "metadata": {"name": "nic", "namespace": NAMESPACE, "uid": "nic"},
        "spec": {"devices": {"requests": [{"name": "r", "exactly": exactly}]}},
    }
    before = asyncio.get_running_loop().time()
    try:
        await part.quotas.reserve(namespace=NAMESPACE, uid="nic", name="nic", claim=document, dry_run=False)
    except DragomanError as refused:
        return refused
    assert asyncio.get_running_loop().time() - before < 0.05, "nothing of ours was waited for"
    return None


@pytest.mark.parametrize("is_lasting", [False, True], ids=["not yet", "never"])
async def test_claims_of_other_drivers_are_let_in_where_a_resource_quota_is_not_translated(
    is_lasting: bool,
) -> None:
    server = with_nics()
    server.others["/api/v1/resourcequotas"] = [legacy()]
    if is_lasting:
        server.put(f"{QUOTAS}/team.nvidia.com.gpu", quota("team.nvidia.com.gpu"))
    async with running(server) as part:
        assert await nic_is_refused(part) is None
        with pytest.raises(QuotaUnavailableError):
            await part.quotas.reserve(
                namespace=NAMESPACE, uid="a", name="a", claim=claim("1Gi", uid="a"), dry_run=False
            )


async def test_claims_of_other_drivers_are_let_in_where_quotas_cannot_be_written() -> None:
    server = with_nics()
    server.put(f"{QUOTAS}/{NAME}", quota(NAME))
    async with running(server) as part:
        answer = server.transport._answer
        server.transport._answer = lambda request: (
            error_for(500, message="no") if request.method == "PUT" else answer(request)
        )
        assert await nic_is_refused(part) is None
        assert not [one for one in server.transport.requests if one.method == "PUT"]


async def test_what_a_quota_shows_falls_when_the_pods_of_a_claim_that_is_gone_have_ended() -> None:
    server, used = Server(), {"a"}
    server.put(f"{QUOTAS}/{NAME}", quota(NAME))
    server.put(f"{CLAIMS}/a", claim("4Gi", uid="a"))
    async with running(server, in_use=used.__contains__) as part:
        worker = asyncio.create_task(part.queue.run(part.settle, workers=1, first=part.begin))
        await asyncio.sleep(2)
        assert server.used["memory"] == "4Gi"
        part._books.note("a", next(iter(part._books._claims[NAMESPACE].values())), None)
        part.queue.add(f"{NAMESPACE}/{NAME}")
        await asyncio.sleep(2)
        assert server.used["memory"] == "4Gi"
        used.clear()
        part.ended("a")
        await asyncio.sleep(2)
        assert server.used["memory"] == "0"
        worker.cancel()
