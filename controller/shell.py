"""kopf, as the shell of the process: probes, and events of our own small kinds.

Flow: runs in every replica, in a thread and an event loop of its own. Handlers only hand keys over to the
main loop; probes read the last report of `controller.health`.

Why a thread: when kopf stops, for whatever reason, it cancels every task of its loop that is younger than
it, and it takes SIGTERM for itself. Our tasks have to outlive it, so that the Lease is given back in good
order.

Limits: `on.event` only, and only on kinds of which there are few: kopf's index is quadratic, and its
handlers of changes patch every object that they see. Handlers return None, because kopf writes what they
return into the object's status. Nothing here ever writes.
"""

from __future__ import annotations

import asyncio
import itertools
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import kopf
import structlog

from controller.health import Health
from driver.kube.config import ClusterConfig, TokenReader

_STOP_S = 5.0

_log = structlog.get_logger("shell")


@dataclass(frozen=True, kw_only=True)
class ShellSettings:
    """What the shell needs.

    Attributes:
        config: The API server.
        endpoint: URL of the probe, such as `http://0.0.0.0:8080/healthz`; "" serves none.
        finalizer: Never set on anything; named in case that kopf's defaults change.
    """

    config: ClusterConfig
    endpoint: str
    finalizer: str = "dragoman.dev/controller"


class _Forever:
    """Delays in seconds between tries, without an end; can be iterated any number of times."""

    def __iter__(self) -> Iterator[float]:
        yield from (1.0, 1.0, 2.0, 3.0, 5.0, 8.0, 13.0)
        yield from itertools.repeat(20.0)


def operator_settings(settings: ShellSettings) -> kopf.OperatorSettings:
    """Settings of kopf: every one that keeps it from writing, and from doing more than it is asked."""
    options = kopf.OperatorSettings()
    options.posting.enabled = False
    options.scanning.disabled = True
    options.peering.standalone = True
    options.persistence.finalizer = settings.finalizer
    options.persistence.progress_storage = kopf.AnnotationsProgressStorage(prefix="dragoman.dev")
    options.persistence.diffbase_storage = kopf.AnnotationsDiffBaseStorage(prefix="dragoman.dev")
    options.watching.chunk_size = 500
    options.watching.server_timeout = 290
    options.networking.connect_timeout = 5
    options.networking.request_timeout = 30
    # By default kopf gives up after a minute, and with it the process: an outage would end in a crash loop.
    options.networking.error_backoffs = _Forever()
    # A worker keeps its slot for the idle time after its last event: both limits or none.
    options.queueing.worker_limit = 200
    options.queueing.idle_timeout = 0.05
    options.execution.max_workers = 2
    return options


def build_registry(
    *, config: ClusterConfig, health: Health, on_policy: Callable[[str], None]
) -> kopf.OperatorRegistry:
    """All handlers, in a registry of their own."""
    registry = kopf.OperatorRegistry()
    tokens = TokenReader(config)

    @kopf.on.login(registry=registry)
    async def login(**_: Any) -> kopf.ConnectionInfo:
        # Called again when the server answers 401, so a rotated token has to be read anew.
        tokens.renew()
        token = tokens.token()
        return kopf.ConnectionInfo(
            server=config.server,
            ca_data=config.ca.encode() if config.ca else None,
            insecure=config.insecure or None,
            scheme="Bearer" if token else None,
            token=token or None,
            certificate_data=config.certificate.encode() if config.certificate else None,
            private_key_data=config.key.encode() if config.key else None,
            default_namespace=config.namespace,
        )

    @kopf.on.probe(registry=registry, id="problems")
    async def problems(**_: Any) -> str:
        found = health.problems()
        if found:
            # kopf answers 500 to a probe that raises.
            raise kopf.PermanentError(" ".join(found))
        return "none"

    @kopf.on.event("dragoman.dev", "v1alpha1", "acceleratorpolicies", registry=registry)
    async def policy_event(name: str | None, **_: Any) -> None:
        if name:
            on_policy(name)

    return registry


class Shell:
    """kopf in its thread."""

    def __init__(self, settings: ShellSettings, *, health: Health, on_policy: Callable[[str], None]) -> None:
        """Prepares the shell.

        Args:
            settings: What it needs.
            health: What the probe tells.
            on_policy: Told the name of each AcceleratorPolicy that comes, changes or goes; called in the loop
                that `running` was entered in.
        """
        self._settings = settings
        self._health = health
        self._on_policy = on_policy
        self._stop = threading.Event()
        self._ended: asyncio.Future[None] | None = None

    @asynccontextmanager
    async def running(self) -> AsyncIterator[asyncio.Future[None]]:
        """Runs kopf; gives a future that is done when kopf has ended, with its exception if it had one."""
        loop = asyncio.get_running_loop()
        ended: asyncio.Future[None] = loop.create_future()
        thread = threading.Thread(target=self._run, args=(loop, ended), name="kopf", daemon=True)
        thread.start()
        try:
            yield ended
        finally:
            self._stop.set()
            await asyncio.wait([ended], timeout=_STOP_S)
            # The thread ends right after it told so; one that does not end dies with the process.
            await asyncio.to_thread(thread.join, 1.0)

    def _run(self, loop: asyncio.AbstractEventLoop, ended: asyncio.Future[None]) -> None:
        def hand_over(name: str) -> None:
            loop.call_soon_threadsafe(self._on_policy, name)

        registry = build_registry(config=self._settings.config, health=self._health, on_policy=hand_over)
        failure: BaseException | None = None
        try:
            asyncio.run(
                kopf.operator(
                    registry=registry,
                    settings=operator_settings(self._settings),
                    clusterwide=True,
                    standalone=True,
                    liveness_endpoint=self._settings.endpoint or None,
                    stop_flag=self._stop,
                )
            )
        except BaseException as failed:  # noqa: BLE001 - whatever it is, the main loop has to know
            failure = failed
        if not loop.is_closed():
            loop.call_soon_threadsafe(_finish, ended, failure)


def _finish(ended: asyncio.Future[None], failure: BaseException | None) -> None:
    if ended.done():
        return
    if failure is None:
        ended.set_result(None)
    else:
        ended.set_exception(RuntimeError(f"kopf ended: {failure!r}"))
