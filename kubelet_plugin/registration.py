"""How the kubelet learns of this agent, and how the agent knows that the kubelet still has it.

Flow: the kubelet watches its plugins_registry folder, dials a socket that appears there, asks `GetInfo` (one
second), registers, tells the outcome by `NotifyRegistrationStatus`, and then keeps one connection to the
service socket open for as long as the plugin is registered. `Registrar` answers and remembers; `Keeper` looks
once a second whether the sockets are in place and the connection is there, and offers the registration anew
where the kubelet has lost us.

"Connected to the kubelet" is therefore: registered, and somebody is connected to the service socket now. Both
are needed: the first alone stays true when the kubelet dies, the second alone is true for any client.

Limits: who is connected is not asked; only root can reach the socket.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import grpc
import structlog

from driver.cards import DRIVER_NAME
from kubelet_plugin.api import registration_pb2, registration_pb2_grpc
from kubelet_plugin.endpoint import Endpoint
from kubelet_plugin.sockets import accepts

log = structlog.get_logger(__name__)

SUPPORTED_SERVICES = (
    "v1.DRAPlugin",
    "v1beta1.DRAPlugin",
    "v1.DRAResourceHealth",
    "v1alpha1.DRAResourceHealth",
)
"""In order of preference: the kubelet takes the first DRA version that it knows."""

LOST_AFTER_S = 10.0
"""Without a connection for so long, a registered agent offers its registration anew."""

UNANSWERED_AFTER_S = 30.0
"""Not registered for so long after an offer, the agent offers itself anew; the kubelet itself backs off."""

_LONGEST_WAIT_S = 120.0


@dataclass(frozen=True, kw_only=True)
class Connection:
    """Whether the kubelet has us, as a verdict and a sentence for people."""

    connected: bool
    reason: str


class Registrar(registration_pb2_grpc.RegistrationServicer):
    """Answers the kubelet's handshake and remembers how it ended."""

    def __init__(
        self, *, endpoint: str, on_outcome: Callable[[bool], None] = lambda _registered: None
    ) -> None:
        self._info = registration_pb2.PluginInfo(
            type="DRAPlugin", name=DRIVER_NAME, endpoint=endpoint, supported_versions=SUPPORTED_SERVICES
        )
        self._on_outcome = on_outcome
        self.registered = False
        self.error = ""

    async def GetInfo(  # noqa: N802 - the contract's name
        self,
        request: registration_pb2.InfoRequest,  # noqa: ARG002
        context: Any,  # noqa: ARG002 - the contract's signature
    ) -> registration_pb2.PluginInfo:
        """Who we are; made once, so that nothing can hold the answer up."""
        log.info("kubelet asks who we are")
        return self._info

    async def NotifyRegistrationStatus(  # noqa: N802 - the contract's name
        self, request: registration_pb2.RegistrationStatus, context: Any
    ) -> registration_pb2.RegistrationStatusResponse:
        """How the handshake ended; a refusal is answered with an error, so that the kubelet logs it too."""
        self.registered = request.plugin_registered
        self.error = request.error
        self._on_outcome(request.plugin_registered)
        if not request.plugin_registered:
            log.error("kubelet refused the registration", error=request.error)
            await context.abort(grpc.StatusCode.FAILED_PRECONDITION, f"not registered: {request.error}")
        log.info("registered with the kubelet")
        return registration_pb2.RegistrationStatusResponse()


class Keeper:
    """Keeps the sockets in place and the registration alive.

    Args:
        registrar: Answers the handshake.
        registration: Endpoint of the registration socket; published by `run`, last of all.
        service: Endpoint of the DRA service; served and published already.
        clock: Monotonic seconds.
    """

    def __init__(
        self,
        *,
        registrar: Registrar,
        registration: Endpoint,
        service: Endpoint,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._registrar = registrar
        self._registration = registration
        self._service = service
        self._clock = clock
        self._deadline = clock() + UNANSWERED_AFTER_S
        self._wait_s = UNANSWERED_AFTER_S

    def connection(self) -> Connection:
        """Whether the kubelet has us now."""
        if not self._registrar.registered:
            why = self._registrar.error or "The kubelet has not registered this agent yet."
            return Connection(connected=False, reason=why)
        if self._service.socket.connections() == 0:
            return Connection(connected=False, reason="The kubelet has no connection to this agent.")
        return Connection(connected=True, reason="Registered with and connected to the kubelet.")

    def superseded(self) -> bool:
        """Whether another agent of this driver registered later and is alive (rolling update)."""
        own = self._registration.socket
        try:
            bound_at = own.path.stat().st_mtime_ns
            others = [path for path in own.path.parent.glob(f"{DRIVER_NAME}-*reg.sock") if path != own.path]
            newer = [path for path in others if path.stat().st_mtime_ns > bound_at]
        except OSError:
            return False
        return any(accepts(path) for path in newer)

    async def run(self, *, period_s: float = 1.0) -> None:
        """Checks for ever, once a period."""
        while True:
            await self.check()
            await asyncio.sleep(period_s)

    async def check(self) -> None:
        """Puts back sockets that vanished; offers the registration anew where the kubelet has lost us."""
        try:
            await self._service.repair()
            repaired = await self._registration.repair()
        except OSError as failed:
            log.error("sockets cannot be put back", error=str(failed))  # noqa: TRY400 - no bug, no traceback
            return
        now = self._clock()
        connection = self.connection()
        if connection.connected:
            self._wait_s = LOST_AFTER_S
            self._deadline = now + LOST_AFTER_S
        elif repaired:
            self._deadline = now + self._wait_s
        elif now >= self._deadline and not self._registration.socket.taken():
            log.warning("offering the registration anew", why=connection.reason)
            self._registration.publish()
            self._wait_s = min(self._wait_s * 2, _LONGEST_WAIT_S)
            self._deadline = now + self._wait_s
