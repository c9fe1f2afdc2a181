"""The kubelet's side of the conversation with a DRA driver, with a clock.

Flow: `register` does the handshake on the registration socket and returns the service's socket; `Service`
calls it; `measure` makes calls one by one or several at once and keeps how long each took.

Limits: no kubelet: it reads no claim and starts no container before or after a call, so all that is measured
is the driver, the API server that the driver asks, and this client. What this client costs is measured by an
empty call, which both drivers answer without doing anything.
"""

from __future__ import annotations

import itertools
import subprocess
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import grpc

from kubelet_plugin.api import dra_v1_pb2, dra_v1_pb2_grpc, registration_pb2, registration_pb2_grpc
from tooling.bench.errors import BenchError
from tooling.bench.figures import Series

AUTHORITY = ("grpc.default_authority", "localhost")
"""A Python client would send the socket's path as authority (gRPC issue 38142); the kubelet sends this."""

DEADLINE_S = 45.0
"""The kubelet's own deadline for a call."""

_POLL_S = 0.002


@dataclass(frozen=True, kw_only=True)
class Ref:
    """A claim as the kubelet names it."""

    namespace: str
    name: str
    uid: str


@dataclass(frozen=True, kw_only=True)
class Registered:
    """A driver that took part in the handshake.

    Attributes:
        endpoint: Path of its service socket.
        serving_s: `time.monotonic` when GetInfo was answered.
    """

    endpoint: str
    serving_s: float


def register(folder: Path, *, process: subprocess.Popen[bytes], timeout_s: float = 20.0) -> Registered:
    """Waits for the registration socket in a folder and does the handshake as the kubelet does.

    Raises:
        BenchError: The process ended, or no socket answered in time.
    """
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise BenchError(f"The driver ended with status {process.returncode} before it registered.")
        found = [path for path in folder.glob("*.sock") if not path.name.startswith(".")]
        if found:
            with grpc.insecure_channel(f"unix:{found[0]}", options=[AUTHORITY]) as channel:
                stub = registration_pb2_grpc.RegistrationStub(channel)
                info = stub.GetInfo(registration_pb2.InfoRequest(), timeout=5, wait_for_ready=True)
                answered = time.monotonic()
                stub.NotifyRegistrationStatus(
                    registration_pb2.RegistrationStatus(plugin_registered=True), timeout=5
                )
            return Registered(endpoint=str(info.endpoint), serving_s=answered)
        time.sleep(_POLL_S)
    raise BenchError(f"No registration socket answered in {folder} within {timeout_s:.0f} s.")


class Service:
    """A driver's DRA v1 service, over one connection as the kubelet keeps it."""

    def __init__(self, endpoint: str) -> None:
        self._channel = grpc.insecure_channel(f"unix:{endpoint}", options=[AUTHORITY])
        self._stub = dra_v1_pb2_grpc.DRAPluginStub(self._channel)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._channel.close()

    def prepare(self, ref: Ref) -> float:
        """Prepares a claim; how long that took, in milliseconds.

        Raises:
            BenchError: The claim was refused, or no device was answered.
        """
        request = dra_v1_pb2.NodePrepareResourcesRequest(claims=[_claim(ref)])
        began = time.perf_counter()
        answer = self._stub.NodePrepareResources(request, timeout=DEADLINE_S)
        took = time.perf_counter() - began
        found = answer.claims.get(ref.uid)
        if found is None or found.error or not any(device.cdi_device_ids for device in found.devices):
            why = found.error if found is not None and found.error else "no device in the answer"
            raise BenchError(f"Claim {ref.name} was not prepared: {why}")
        return took * 1000

    def unprepare(self, ref: Ref) -> float:
        """Unprepares a claim; how long that took, in milliseconds.

        Raises:
            BenchError: It was refused.
        """
        request = dra_v1_pb2.NodeUnprepareResourcesRequest(claims=[_claim(ref)])
        began = time.perf_counter()
        answer = self._stub.NodeUnprepareResources(request, timeout=DEADLINE_S)
        took = time.perf_counter() - began
        found = answer.claims.get(ref.uid)
        if found is None or found.error:
            raise BenchError(f"Claim {ref.name} was not unprepared: {found and found.error}")
        return took * 1000

    def nothing(self, _ref: Ref) -> float:
        """A call without claims: what the way there and back costs, in milliseconds."""
        request = dra_v1_pb2.NodePrepareResourcesRequest()
        began = time.perf_counter()
        self._stub.NodePrepareResources(request, timeout=DEADLINE_S)
        return (time.perf_counter() - began) * 1000


def measure(call: Callable[[Ref], float], refs: Sequence[Ref], *, at_once: int) -> Series:
    """Makes one call for each claim, `at_once` of them at any time."""
    turn = itertools.count()
    took = [0.0] * len(refs)

    def work() -> None:
        while (index := next(turn)) < len(refs):
            took[index] = call(refs[index])

    began = time.perf_counter()
    if at_once == 1:
        work()
    else:
        with ThreadPoolExecutor(at_once) as pool:
            for done in [pool.submit(work) for _ in range(at_once)]:
                done.result()
    return Series(milliseconds=tuple(took), wall_s=time.perf_counter() - began)


def _claim(ref: Ref) -> dra_v1_pb2.Claim:
    return dra_v1_pb2.Claim(namespace=ref.namespace, name=ref.name, uid=ref.uid)
