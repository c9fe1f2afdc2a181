"""A gRPC server on a published unix socket, which can be put back when its files vanish.

Flow: `start` binds the hidden name and serves; `publish` shows the public name (for the registration socket
that is the moment when the kubelet comes); `repair` is called again and again and puts back what somebody
removed. `stop` retracts the name first, so that no new call arrives, and then lets calls in flight end.

Limits: plain text and no authentication, as the kubelet's contract has it: the socket's mode (0600) and its
folder are the protection.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import grpc
import structlog

from kubelet_plugin.sockets import PublishedSocket

log = structlog.get_logger(__name__)

_OPTIONS: tuple[tuple[str, int], ...] = (
    # A client that pings while no call runs is told to go away by default (GOAWAY too_many_pings; tried with
    # the Go client). The kubelet does not ping today; nothing is lost by allowing it.
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.min_ping_interval_without_data_ms", 5000),
    ("grpc.http2.max_ping_strikes", 0),
    ("grpc.so_reuseport", 0),
)


class Endpoint:
    """One socket and the server behind it."""

    def __init__(self, path: Path, *, add_services: Callable[[grpc.aio.Server], None]) -> None:
        self.socket = PublishedSocket(path)
        self._add_services = add_services
        self._server: grpc.aio.Server | None = None
        self._stopping = False

    async def start(self) -> None:
        """Binds and serves, under the hidden name only.

        Raises:
            OSError: The folder cannot be written, or the socket cannot be bound.
        """
        self.socket.prepare()
        server = grpc.aio.server(options=_OPTIONS)
        self._add_services(server)
        # The socket is made with the process's umask; a chmod afterwards would leave a gap.
        before = os.umask(0o177)
        try:
            server.add_insecure_port(f"unix:{self.socket.hidden}")
        except RuntimeError as failed:
            raise OSError(f"The socket {self.socket.hidden} cannot be bound: {failed}") from failed
        finally:
            os.umask(before)
        self.socket.bound()
        await server.start()
        self._server = server

    def publish(self) -> bool:
        """Shows the public name; False if the server has to bind anew (see `repair`)."""
        return self.socket.publish()

    async def repair(self) -> bool:
        """Puts the public name back if it vanished; leaves it alone if another process has taken it.

        Returns:
            Whether something had to be done.
        """
        if self._stopping or self.socket.intact() or self.socket.taken():
            return False
        if not self.publish():
            await self._end(grace_s=1.0)
            await self.start()
            self.publish()
        log.warning("socket put back", path=str(self.socket.path))
        return True

    async def stop(self, *, grace_s: float) -> None:
        """Retracts the name, waits up to `grace_s` for calls in flight, and ends; no repair follows."""
        self._stopping = True
        self.socket.retract()
        await self._end(grace_s=grace_s)

    async def _end(self, *, grace_s: float) -> None:
        server, self._server = self._server, None
        if server is not None:
            await server.stop(grace_s)
