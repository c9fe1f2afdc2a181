"""The handshake with the kubelet, and what keeps it alive, over real gRPC on real sockets."""

import asyncio
import os
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest

from kubelet_plugin.api import registration_pb2, registration_pb2_grpc
from kubelet_plugin.endpoint import Endpoint
from kubelet_plugin.registration import Keeper, Registrar
from kubelet_plugin.sockets import accepts

pytestmark = pytest.mark.asyncio

LOCALHOST = (("grpc.default_authority", "localhost"), ("grpc.use_local_subchannel_pool", 1))


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Plugin:
    """A registration endpoint, a service endpoint and their keeper."""

    def __init__(self, folder: Path, *, pod_uid: str = "one") -> None:
        self.clock = Clock()
        self.service = Endpoint(folder / f"dra-{pod_uid}.sock", add_services=lambda _server: None)
        self.registrar = Registrar(endpoint=str(self.service.socket.path))
        self.registration = Endpoint(
            folder / "registry" / f"dragoman.dev-{pod_uid}-reg.sock", add_services=self._add
        )
        self.keeper = Keeper(
            registrar=self.registrar, registration=self.registration, service=self.service, clock=self.clock
        )

    def _add(self, server: grpc.aio.Server) -> None:
        registration_pb2_grpc.add_RegistrationServicer_to_server(self.registrar, server)

    async def stop(self) -> None:
        await self.registration.stop(grace_s=0)
        await self.service.stop(grace_s=0)


@asynccontextmanager
async def plugin(folder: Path, **options: Any) -> AsyncIterator[Plugin]:
    found = Plugin(folder, **options)
    await found.service.start()
    found.service.publish()
    await found.registration.start()
    found.registration.publish()
    try:
        yield found
    finally:
        await found.stop()


@asynccontextmanager
async def kubelet(path: Path) -> "AsyncIterator[registration_pb2_grpc.RegistrationAsyncStub]":
    async with grpc.aio.insecure_channel(f"unix:{path}", options=LOCALHOST) as channel:
        yield registration_pb2_grpc.RegistrationStub(channel)


async def register(found: Plugin) -> None:
    async with kubelet(found.registration.socket.path) as stub:
        await stub.NotifyRegistrationStatus(registration_pb2.RegistrationStatus(plugin_registered=True))


def sockets_below(folder: Path) -> list[Path]:
    return list(folder.glob("**/*.sock"))


def connect(found: Plugin) -> socket.socket:
    client = socket.socket(socket.AF_UNIX)
    client.connect(str(found.service.socket.path))
    return client


async def until(wanted: bool, *, found: Plugin) -> None:
    """Waits until the kernel's list of connections shows what was done to them."""
    deadline = asyncio.get_running_loop().time() + 60
    while found.keeper.connection().connected is not wanted:
        assert asyncio.get_running_loop().time() < deadline
        await asyncio.sleep(0.001)


async def test_get_info_names_driver_endpoint_and_v1_first(short_dir: Path) -> None:
    async with plugin(short_dir) as found, kubelet(found.registration.socket.path) as stub:
        info = await stub.GetInfo(registration_pb2.InfoRequest(), timeout=60)
    assert (info.type, info.name) == ("DRAPlugin", "dragoman.dev")
    assert info.endpoint == str(short_dir / "dra-one.sock")
    assert list(info.supported_versions) == [
        "v1.DRAPlugin",
        "v1beta1.DRAPlugin",
        "v1.DRAResourceHealth",
        "v1alpha1.DRAResourceHealth",
    ]


async def test_the_endpoint_accepts_before_the_registration_socket_is_there(short_dir: Path) -> None:
    found = Plugin(short_dir)
    await found.service.start()
    found.service.publish()
    await found.registration.start()
    assert accepts(found.service.socket.path)
    assert not found.registration.socket.path.exists()
    await found.stop()


async def test_sockets_are_for_root_alone_whatever_the_umask(short_dir: Path) -> None:
    before = os.umask(0)
    try:
        async with plugin(short_dir) as found:
            modes = [
                path.stat().st_mode & 0o777
                for endpoint in (found.service, found.registration)
                for path in (endpoint.socket.path, endpoint.socket.hidden)
            ]
    finally:
        os.umask(before)
    assert modes == [0o600] * 4


async def test_a_refused_registration_is_answered_with_an_error_and_remembered(short_dir: Path) -> None:
    async with plugin(short_dir) as found, kubelet(found.registration.socket.path) as stub:
        with pytest.raises(grpc.aio.AioRpcError, match="unknown version"):
            await stub.NotifyRegistrationStatus(
                registration_pb2.RegistrationStatus(plugin_registered=False, error="unknown version")
            )
        connection = found.keeper.connection()
    assert (connection.connected, connection.reason) == (False, "unknown version")


async def test_an_agent_that_nobody_registered_is_not_connected(short_dir: Path) -> None:
    async with plugin(short_dir) as found:
        with connect(found):
            await asyncio.sleep(0.05)
            assert not found.keeper.connection().connected


async def test_a_registered_agent_without_a_connection_is_not_connected(short_dir: Path) -> None:
    async with plugin(short_dir) as found:
        await register(found)
        connection = found.keeper.connection()
    assert (connection.connected, connection.reason) == (
        False,
        "The kubelet has no connection to this agent.",
    )


async def test_a_registered_agent_with_a_connection_is_connected_until_it_breaks(short_dir: Path) -> None:
    async with plugin(short_dir) as found:
        await register(found)
        with connect(found):
            await until(True, found=found)
        await until(False, found=found)


async def test_a_registration_socket_that_vanished_is_put_back(short_dir: Path) -> None:
    async with plugin(short_dir) as found:
        found.registration.socket.path.unlink()
        await found.keeper.check()
        async with kubelet(found.registration.socket.path) as stub:
            info = await stub.GetInfo(registration_pb2.InfoRequest(), timeout=60)
    assert info.name == "dragoman.dev"


async def test_a_registry_folder_that_was_wiped_gets_a_new_socket(short_dir: Path) -> None:
    async with plugin(short_dir) as found:
        for path in found.registration.socket.path.parent.iterdir():
            path.unlink()
        found.registration.socket.path.parent.rmdir()
        await found.keeper.check()
        async with kubelet(found.registration.socket.path) as stub:
            await stub.GetInfo(registration_pb2.InfoRequest(), timeout=60)


async def test_a_service_socket_that_vanished_is_put_back(short_dir: Path) -> None:
    async with plugin(short_dir) as found:
        found.service.socket.path.unlink()
        await found.keeper.check()
        assert accepts(found.service.socket.path)


async def test_a_keeper_that_still_runs_does_not_put_back_what_a_stop_took_away(short_dir: Path) -> None:
    async with plugin(short_dir) as found:
        # A kubelet holds its connection until the drain is over.
        with connect(found):
            await asyncio.gather(found.stop(), found.keeper.check())
            await found.keeper.check()
        assert sockets_below(short_dir) == []


async def test_a_folder_that_cannot_be_written_is_reported_and_tried_again(short_dir: Path) -> None:
    async with plugin(short_dir) as found:
        folder = found.registration.socket.path.parent
        for path in folder.iterdir():
            path.unlink()
        folder.rmdir()
        folder.write_text("in the way")
        await found.keeper.check()
        folder.unlink()
        await found.keeper.check()
        assert accepts(found.registration.socket.path)


async def test_a_kubelet_that_lost_us_is_offered_the_registration_anew(short_dir: Path) -> None:
    async with plugin(short_dir) as found:
        await register(found)
        with connect(found):
            await until(True, found=found)
            await found.keeper.check()
        await until(False, found=found)
        os.utime(found.registration.socket.path.parent, ns=(0, 0))
        found.clock.now += 9
        await found.keeper.check()
        assert found.registration.socket.path.parent.stat().st_mtime_ns == 0
        found.clock.now += 2
        await found.keeper.check()
        assert found.registration.socket.path.parent.stat().st_mtime_ns > 0


async def test_offers_that_nobody_answers_become_rarer(short_dir: Path) -> None:
    async with plugin(short_dir) as found:
        offered = []
        for second in range(600):
            os.utime(found.registration.socket.path.parent, ns=(0, 0))
            await found.keeper.check()
            if found.registration.socket.path.parent.stat().st_mtime_ns > 0:
                offered.append(second)
            found.clock.now += 1
    assert offered == [30, 90, 210, 330, 450, 570]


async def test_an_agent_is_superseded_while_one_that_registered_later_is_alive(short_dir: Path) -> None:
    async with plugin(short_dir, pod_uid="old") as old:
        assert not old.keeper.superseded()
        async with plugin(short_dir, pod_uid="new") as new:
            assert old.keeper.superseded()
            assert not new.keeper.superseded()
        assert not old.keeper.superseded()


async def test_the_socket_of_a_dead_agent_supersedes_nobody(short_dir: Path) -> None:
    async with plugin(short_dir, pod_uid="old") as old:
        with socket.socket(socket.AF_UNIX) as dead:
            dead.bind(str(old.registration.socket.path.with_name("dragoman.dev-new-reg.sock")))
        assert not old.keeper.superseded()


async def test_two_agents_on_one_path_do_not_fight_and_the_first_to_end_harms_nobody(short_dir: Path) -> None:
    async with plugin(short_dir) as first, plugin(short_dir) as second:
        await first.keeper.check()
        assert second.registration.socket.intact()
        await first.stop()
        async with kubelet(second.registration.socket.path) as stub:
            await stub.GetInfo(registration_pb2.InfoRequest(), timeout=60)


async def test_a_client_that_pings_without_calls_is_not_told_to_go_away(short_dir: Path) -> None:
    options = (
        *LOCALHOST,
        ("grpc.keepalive_time_ms", 100),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.max_pings_without_data", 0),
    )
    async with plugin(short_dir) as found:
        path = found.registration.socket.path
        async with grpc.aio.insecure_channel(f"unix:{path}", options=options) as channel:
            stub = registration_pb2_grpc.RegistrationStub(channel)
            await stub.GetInfo(registration_pb2.InfoRequest(), timeout=60)
            before = found.registration.socket.connections()
            await asyncio.sleep(0.7)
            await stub.GetInfo(registration_pb2.InfoRequest(), timeout=60)
            assert (before, found.registration.socket.connections()) == (1, 1)
