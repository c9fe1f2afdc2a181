"""kopf answers probes, hands keys over, and never writes."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import kopf
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from controller.health import Health
from controller.shell import Shell, ShellSettings, build_registry, operator_settings
from driver.kube.config import ClusterConfig

pytestmark = pytest.mark.asyncio

POLICY = {
    "apiVersion": "dragoman.dev/v1alpha1",
    "kind": "AcceleratorPolicy",
    "metadata": {"name": "all", "uid": "u", "resourceVersion": "5"},
    "spec": {},
}


def discovered(group_version: str, plural: str, kind: str) -> dict[str, Any]:
    """A kind as the server's discovery shows it."""
    resource = {
        "name": plural,
        "singularName": kind.lower(),
        "namespaced": False,
        "kind": kind,
        "verbs": ["get", "list", "watch", "patch"],
    }
    return {"kind": "APIResourceList", "groupVersion": group_version, "resources": [resource]}


def group(name: str, version: str) -> dict[str, Any]:
    """A group as the server's discovery shows it."""
    served = {"version": version, "groupVersion": f"{name}/{version}"}
    return {"name": name, "versions": [served], "preferredVersion": served}


class Api:
    """What kopf asks an API server for: discovery, one list, one watch; all requests are recorded."""

    def __init__(self) -> None:
        self.requests: list[tuple[str, str]] = []
        self.tokens: set[str] = set()

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.requests.append((request.method, request.path))
        self.tokens.add(request.headers.get("Authorization", ""))
        if "watch" in request.query:
            return await self._watch(request)
        answers: dict[str, Any] = {
            "/version": {"major": "1", "minor": "36"},
            "/api": {"versions": ["v1"]},
            # kopf waits until it has found these two, although it never watches them.
            "/api/v1": discovered("v1", "namespaces", "Namespace"),
            "/apis/apiextensions.k8s.io/v1": discovered(
                "apiextensions.k8s.io/v1", "customresourcedefinitions", "CustomResourceDefinition"
            ),
            "/apis": {"groups": [group("dragoman.dev", "v1alpha1"), group("apiextensions.k8s.io", "v1")]},
            "/apis/dragoman.dev/v1alpha1": discovered(
                "dragoman.dev/v1alpha1", "acceleratorpolicies", "AcceleratorPolicy"
            ),
            "/apis/dragoman.dev/v1alpha1/acceleratorpolicies": {
                "metadata": {"resourceVersion": "5"},
                "items": [POLICY],
            },
        }
        if request.path in answers:
            return web.json_response(answers[request.path])
        return web.json_response({"kind": "Status", "message": "none"}, status=404)

    async def _watch(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        newer = {**POLICY, "metadata": {**POLICY["metadata"], "name": "newer", "uid": "v"}}  # type: ignore[dict-item]
        await response.write(json.dumps({"type": "ADDED", "object": newer}).encode() + b"\n")
        await asyncio.Event().wait()
        return response


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@asynccontextmanager
async def running_shell(health: Health) -> AsyncIterator[tuple[Api, "asyncio.Queue[str]", str, Any]]:
    api, names = Api(), asyncio.Queue[str]()
    application = web.Application()
    application.router.add_route("*", "/{path:.*}", api.handle)
    async with TestServer(application) as server:
        endpoint = f"http://127.0.0.1:{free_port()}/healthz"
        config = ClusterConfig(server=f"http://{server.host}:{server.port}", token="secret")
        shell = Shell(
            ShellSettings(config=config, endpoint=endpoint), health=health, on_policy=names.put_nowait
        )
        async with shell.running() as ended:
            yield api, names, endpoint, ended


async def status_of(endpoint: str) -> int:
    async with aiohttp.ClientSession() as session:
        while True:
            try:
                async with session.get(endpoint) as response:
                    return response.status
            except aiohttp.ClientConnectionError:
                await asyncio.sleep(0.02)


async def test_policies_are_handed_over_by_name_and_nothing_is_ever_written() -> None:
    health = Health()
    health.report([])
    async with running_shell(health) as (api, names, endpoint, ended):
        seen = {await asyncio.wait_for(names.get(), 60) for _ in range(2)}
        assert await status_of(endpoint) == 200
        assert not ended.done()
    assert seen == {"all", "newer"}
    assert {method for method, _ in api.requests} == {"GET"}
    assert api.tokens == {"Bearer secret"}
    assert ended.result() is None


async def test_the_probe_fails_while_the_controller_has_problems() -> None:
    health = Health()
    health.report(["The queue 'publish' is stuck."])
    async with running_shell(health) as (_, _, endpoint, _):
        assert await status_of(endpoint) == 500


async def test_no_handler_is_of_a_kind_that_patches_what_it_sees() -> None:
    registry = build_registry(
        config=ClusterConfig(server="http://api"), health=Health(), on_policy=lambda _: None
    )
    assert list(registry._changing.get_all_handlers()) == []
    assert list(registry._spawning.get_all_handlers()) == []
    assert list(registry._indexing.get_all_handlers()) == []
    selectors = {handler.selector for handler in registry._watching.get_all_handlers()}
    assert {selector.any_name or selector.plural for selector in selectors if selector} == {
        "acceleratorpolicies"
    }


async def test_kopf_is_told_to_write_nothing_and_to_watch_nothing_else() -> None:
    settings = operator_settings(ShellSettings(config=ClusterConfig(server="http://api"), endpoint=""))
    assert isinstance(settings, kopf.OperatorSettings)
    assert not settings.posting.enabled
    assert settings.scanning.disabled
    assert settings.peering.standalone
    assert settings.watching.chunk_size == 500
    assert (settings.queueing.worker_limit, settings.queueing.idle_timeout) == (200, 0.05)
