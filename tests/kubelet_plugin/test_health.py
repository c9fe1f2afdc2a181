"""DRAResourceHealth over real gRPC: the whole list at once, on change, and as heartbeat."""

import asyncio
from pathlib import Path
from typing import Any

import grpc
import pytest

from driver.vendors.base import CardHealth
from kubelet_plugin.api import (
    health_v1_pb2,
    health_v1_pb2_grpc,
    health_v1alpha1_pb2,
    health_v1alpha1_pb2_grpc,
)
from kubelet_plugin.endpoint import Endpoint
from kubelet_plugin.health import HEARTBEAT_S, TIMEOUT_S, HealthBoard, add_health_services

LOCALHOST = (("grpc.default_authority", "localhost"), ("grpc.use_local_subchannel_pool", 1))
GOOD = CardHealth(name="card-0", health="Healthy", message="fine")
LOST = CardHealth(name="card-1", health="Unknown", message="lost")
ILL = CardHealth(name="card-2", health="Unhealthy", message="CardLost: it fell off the bus")


async def read(stream: Any) -> Any:
    return await stream.read()


def board() -> HealthBoard:
    return HealthBoard(pool="worker/dragoman", clock=lambda: 1234.5)


@pytest.mark.asyncio
async def test_a_stream_begins_with_all_cards_and_hears_of_changes(short_dir: Path) -> None:
    found = board()
    found.post([GOOD])
    endpoint = Endpoint(short_dir / "a.sock", add_services=lambda server: add_health_services(server, found))
    await endpoint.start()
    endpoint.publish()
    async with grpc.aio.insecure_channel(f"unix:{short_dir / 'a.sock'}", options=LOCALHOST) as channel:
        stub = health_v1_pb2_grpc.DRAResourceHealthStub(channel)
        stream = stub.NodeWatchResources(health_v1_pb2.NodeWatchResourcesRequest())
        first = await read(stream)
        found.post([GOOD, LOST, ILL])
        second = await read(stream)
        stream.cancel()
    await endpoint.stop(grace_s=0)
    [device] = first.devices
    assert (device.device.pool_name, device.device.device_name) == ("worker/dragoman", "card-0")
    assert device.health == health_v1_pb2.HEALTHY
    assert (device.last_updated_time, device.health_check_timeout_seconds) == (1234, TIMEOUT_S)
    assert [(d.device.device_name, d.health, d.message) for d in second.devices] == [
        ("card-0", health_v1_pb2.HEALTHY, "fine"),
        ("card-1", health_v1_pb2.UNKNOWN, "lost"),
        ("card-2", health_v1_pb2.UNHEALTHY, ILL.message),
    ]


@pytest.mark.asyncio
async def test_kubelets_up_to_1_36_get_the_same_under_v1alpha1(short_dir: Path) -> None:
    found = board()
    found.post([GOOD, LOST, ILL])
    endpoint = Endpoint(short_dir / "a.sock", add_services=lambda server: add_health_services(server, found))
    await endpoint.start()
    endpoint.publish()
    async with grpc.aio.insecure_channel(f"unix:{short_dir / 'a.sock'}", options=LOCALHOST) as channel:
        stub = health_v1alpha1_pb2_grpc.DRAResourceHealthStub(channel)
        stream = stub.NodeWatchResources(health_v1alpha1_pb2.NodeWatchResourcesRequest())
        first = await read(stream)
        stream.cancel()
    await endpoint.stop(grace_s=0)
    assert [(d.device.pool_name, d.device.device_name, d.health) for d in first.devices] == [
        ("worker/dragoman", "card-0", health_v1alpha1_pb2.HEALTHY),
        ("worker/dragoman", "card-1", health_v1alpha1_pb2.UNKNOWN),
        ("worker/dragoman", "card-2", health_v1alpha1_pb2.UNHEALTHY),
    ]


@pytest.mark.asyncio
async def test_a_server_that_stops_does_not_wait_for_streams(short_dir: Path) -> None:
    found = board()
    endpoint = Endpoint(short_dir / "a.sock", add_services=lambda server: add_health_services(server, found))
    await endpoint.start()
    endpoint.publish()
    async with grpc.aio.insecure_channel(f"unix:{short_dir / 'a.sock'}", options=LOCALHOST) as channel:
        stub = health_v1_pb2_grpc.DRAResourceHealthStub(channel)
        stream = stub.NodeWatchResources(health_v1_pb2.NodeWatchResourcesRequest())
        await read(stream)
        found.close()
        await asyncio.wait_for(endpoint.stop(grace_s=600), 60)
        assert await read(stream) == grpc.aio.EOF


@pytest.mark.asyncio
async def test_a_stream_repeats_the_list_as_a_heartbeat() -> None:
    found = board()
    found.post([GOOD])
    messages = found.messages(heartbeat_s=0.01)
    assert await anext(messages) == await anext(messages)


@pytest.mark.asyncio
async def test_news_that_say_the_same_wake_nobody() -> None:
    found = board()
    found.post([GOOD])
    messages = found.messages(heartbeat_s=60)
    await anext(messages)
    waiting = asyncio.ensure_future(anext(messages))
    await asyncio.sleep(0)
    found.post([GOOD])
    await asyncio.sleep(0.01)
    assert not waiting.done()
    found.post([])
    assert await asyncio.wait_for(waiting, 60) == []


def test_two_heartbeats_may_be_lost_before_the_kubelet_calls_a_card_unknown() -> None:
    assert 2 * HEARTBEAT_S < TIMEOUT_S
