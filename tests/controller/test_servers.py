"""Several API servers: each is found, and what is to hold of all is asked of each."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from controller.mode import ModeState, ModeWatch, Verdict, probe_each
from controller.servers import Servers
from driver.kube.client import ForbiddenError, KubeClient, UnreachableError
from tests.controller.test_mode import server
from tests.support.scripted_api import Request, scripted_client

pytestmark = [pytest.mark.asyncio, pytest.mark.looptime]

SLICE = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices/kubernetes"
NEW, OLD, AWAY = "10.0.0.1", "10.0.0.2", "10.0.0.3"


def slice_of(*addresses: str, port: int = 6443) -> Any:
    endpoints = [{"addresses": [one]} for one in addresses]
    return {"ports": [{"name": "https", "port": port}], "endpoints": endpoints}


class World:
    """API servers by address, and what the EndpointSlice says of them."""

    def __init__(self, *listed: str, found: Any = None) -> None:
        self.found = slice_of(*listed) if found is None else found
        self.servers: dict[str, Any] = {NEW: server(), OLD: server("35"), AWAY: self._away}
        self.asked: list[str] = []
        self.client = scripted_client(self._answer)[0]
        self.each = Servers(self.client, self._connect)

    async def state(self) -> ModeState:
        return await probe_each(self.client, self.each, namespace="n")

    def _answer(self, request: Request) -> Any:
        if request.path != SLICE:
            return self.servers[NEW](request)
        if isinstance(self.found, Exception):
            raise self.found
        return self.found

    def _away(self, _request: Request) -> Any:
        raise UnreachableError("No answer.", status=0)

    @asynccontextmanager
    async def _connect(self, url: str) -> AsyncIterator[KubeClient]:
        self.asked.append(url)
        address = url.removeprefix("https://").rpartition(":")[0]
        yield scripted_client(self.servers[address])[0]


async def test_one_old_server_among_new_ones_makes_it_impossible_and_is_named() -> None:
    state = await World(NEW, OLD).state()
    assert (state.verdict, state.reason, state.release) == (Verdict.IMPOSSIBLE, "KubernetesTooOld", "1.35")
    assert f"https://{OLD}:6443" in state.message


async def test_a_server_with_its_gate_off_counts_as_an_old_one() -> None:
    world = World(NEW, OLD)
    world.servers[OLD] = server(drop=True)
    assert (await world.state()).reason == "FieldsDropped"


async def test_once_all_are_new_it_is_possible() -> None:
    world = World(NEW, OLD)
    world.servers[OLD] = server()
    assert (await world.state()).verdict is Verdict.POSSIBLE
    assert len(world.asked) == 2


async def test_one_that_cannot_be_asked_changes_nothing() -> None:
    assert (await World(AWAY, NEW).state()).verdict is Verdict.POSSIBLE
    assert (await World(AWAY, NEW, OLD).state()).verdict is Verdict.IMPOSSIBLE


@pytest.mark.parametrize("found", [slice_of(NEW), {}, ForbiddenError("No.", status=403)])
async def test_where_there_is_one_or_they_are_not_known_nobody_else_is_asked(found: Any) -> None:
    world = World(found=found)
    assert (await world.state()).verdict is Verdict.POSSIBLE
    assert world.asked == []


async def test_where_none_can_be_asked_by_itself_whichever_answers_counts() -> None:
    world = World(AWAY, OLD)
    world.servers[OLD] = world.servers[AWAY]
    assert (await world.state()).verdict is Verdict.POSSIBLE
    world.servers[NEW] = server("35")
    assert (await world.state()).verdict is Verdict.IMPOSSIBLE


async def test_addresses_of_version_6_become_urls() -> None:
    world = World(found=slice_of("fd00::1", "fd00::2", port=443))
    assert await world.each.urls() == ["https://[fd00::1]:443", "https://[fd00::2]:443"]


async def test_whoever_asks_again_and_again_asks_each() -> None:
    states: list[ModeState] = []
    world = World(NEW, OLD)
    watch = ModeWatch(world.client, namespace="n", interval_s=300, changed=states.append)
    watch.ask_each(world.each)
    task = asyncio.create_task(watch.run())
    await watch.asked.wait()
    world.servers[OLD] = server()
    await asyncio.sleep(300 * 3 + 1)
    task.cancel()
    assert [one.verdict for one in states] == [Verdict.IMPOSSIBLE, Verdict.POSSIBLE]
