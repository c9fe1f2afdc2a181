"""A device plugin that offers cards of a name to the kubelet, as those that people have installed already.

Flow: the contract beside this file is compiled when it is first needed; a server on a socket in the kubelet's
folder, and one call that registers it. It gives containers nothing, as the cards are not there either.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator, Sequence
from concurrent import futures
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

import grpc
from grpc_tools import protoc  # type: ignore[import-untyped]

FOLDER = Path("/var/lib/kubelet/device-plugins")
"""No kubelet can be told another one; of several on a machine, the one that was started last has it."""


def _contract(folder: Path) -> tuple[Any, Any]:
    source = Path(__file__).parent
    name = "device_plugin"
    arguments = [f"-I{source}", f"--python_out={folder}", f"--grpc_python_out={folder}", f"{name}.proto"]
    assert protoc.main(["protoc", *arguments]) == 0
    sys.path.insert(0, str(folder))
    try:
        return import_module(f"{name}_pb2"), import_module(f"{name}_pb2_grpc")
    finally:
        sys.path.remove(str(folder))


@contextmanager
def device_plugin(resource: str, *, devices: Sequence[str], folder: Path) -> Iterator[None]:
    """Offers devices for as long as the block runs.

    Args:
        resource: Name of the extended resource.
        devices: Their IDs.
        folder: Where generated code may be put.
    """
    messages, services = _contract(folder)
    ended = threading.Event()

    servicer: Any = services.DevicePluginServicer

    class Plugin(servicer):  # type: ignore[misc] # generated a moment ago
        def GetDevicePluginOptions(self, request: Any, context: Any) -> Any:  # noqa: N802
            return messages.DevicePluginOptions()

        def ListAndWatch(self, request: Any, context: Any) -> Iterator[Any]:  # noqa: N802
            offered = [messages.Device(ID=one, health="Healthy") for one in devices]
            yield messages.ListAndWatchResponse(devices=offered)
            ended.wait()

        def Allocate(self, request: Any, context: Any) -> Any:  # noqa: N802
            answers = [messages.ContainerAllocateResponse() for _ in request.container_requests]
            return messages.AllocateResponse(container_responses=answers)

    server = grpc.server(futures.ThreadPoolExecutor(max_workers=4))
    services.add_DevicePluginServicer_to_server(Plugin(), server)
    socket = FOLDER / "tests.sock"
    server.add_insecure_port(f"unix:{socket}")
    server.start()
    options = (("grpc.default_authority", "localhost"),)
    try:
        with grpc.insecure_channel(f"unix:{FOLDER / 'kubelet.sock'}", options=options) as channel:
            services.RegistrationStub(channel).Register(
                messages.RegisterRequest(version="v1beta1", endpoint=socket.name, resource_name=resource),
                timeout=30,
                wait_for_ready=True,
            )
        yield
    finally:
        ended.set()
        server.stop(0).wait()
        socket.unlink(missing_ok=True)
