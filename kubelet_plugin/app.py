"""Puts the agent's parts together, starts them in the right order, and ends them in good order.

Flow of a start: state folder -> service socket -> background parts -> registration socket, last of all,
because the kubelet comes as soon as it sees it. The first look for cards and the API server are waited for by
nobody but the calls that need them, so the agent serves within a second wherever it is.

Flow of a stop (SIGTERM, SIGINT): registration socket gone -> calls in flight end -> background parts end.
Only own sockets are removed; prepared claims and published slices stay, since containers run on.

Limits: SIGSTOP and SIGCONT need no care: all clocks are monotonic and late work is done at once.
"""

from __future__ import annotations

import asyncio
import gc
import os
import signal
from collections.abc import Callable, Coroutine, Mapping
from pathlib import Path
from typing import Any

import structlog

from driver.api.node import AgentStatus
from driver.cards import DRIVER_NAME, Fault, pool_name
from driver.kube.client import KubeClient
from kubelet_plugin import parts
from kubelet_plugin.api import registration_pb2_grpc
from kubelet_plugin.card_health.memory import HealthFile
from kubelet_plugin.card_health.telling import ClaimTeller
from kubelet_plugin.card_health.watch import HealthWatch
from kubelet_plugin.claim_status import ClaimStatusWriter
from kubelet_plugin.device_plugins import DevicePlugins
from kubelet_plugin.endpoint import Endpoint
from kubelet_plugin.events import PodEvents
from kubelet_plugin.health import HealthBoard, add_health_services
from kubelet_plugin.host import NodeHost
from kubelet_plugin.in_force.start import LimitsInForce
from kubelet_plugin.inventory import Inventory
from kubelet_plugin.inventory_file import InventoryFile
from kubelet_plugin.loop import keep_running
from kubelet_plugin.metrics import Metrics
from kubelet_plugin.mps.build import MpsParts
from kubelet_plugin.mps.telling import LimitsTeller
from kubelet_plugin.node_status import NodeStatusWriter, StatusMaker
from kubelet_plugin.partitions import make_hardware
from kubelet_plugin.pod_resources import PodResourcesClient
from kubelet_plugin.prepare.collecting import Collector
from kubelet_plugin.prepare.engine import EngineSettings, PrepareEngine
from kubelet_plugin.prepare.records import ClaimRecord, ShareRecord
from kubelet_plugin.probes import Answer, ProbeServer, sentence
from kubelet_plugin.registration import Keeper, Registrar
from kubelet_plugin.server import ClaimService, Listener, add_claim_services
from kubelet_plugin.settings import Settings
from kubelet_plugin.sockets import registration_path, service_path
from kubelet_plugin.vendor_sources import vendor_source

log = structlog.get_logger(__name__)

RESTORE_EVERY_S = 5.0
COLLECT_EVERY_S = 60.0
DRAIN_S = 20.0
"""How long calls in flight may take after a stop was asked for; below the pod's 30 s."""

_BEAT_S = 1.0


class Agent:
    """The node agent."""

    def __init__(self, settings: Settings, *, environment: Mapping[str, str]) -> None:
        self._settings = settings
        self._stop = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._metrics = Metrics()
        self._client = parts.make_client(settings, environment=environment, metrics=self._metrics)
        self._claims = parts.make_claims(settings, client=self._client)
        self._policies = parts.make_policies(settings, client=self._client)
        self._isolation = parts.make_methods(settings)
        mps = MpsParts(settings)
        host = NodeHost(settings.host_root)
        vendors = vendor_source(settings, host=host)
        # Read once now: a file that is wrong from the start ends the agent with a sentence.
        vendors()
        self._policies.view()
        hardware = make_hardware(
            settings,
            # Late: the inventory is made with what comes of this.
            partitioner=lambda card, vendor: self._inventory.partitioner(card, vendor),  # noqa: PLW0108
        )
        self._inventory = Inventory(
            vendors=vendors,
            methods={**self._isolation.methods, **mps.methods, hardware.level: hardware},
            hardware=hardware,
            host=host,
            policies=self._policies,
            metrics=self._metrics,
            withheld=lambda vendor: self._plugins.why_not(vendor) if self._plugins is not None else "",
        )
        self._plugins = self._device_plugins() if self._client is not None else None
        self._engine = PrepareEngine(
            EngineSettings(
                node=settings.node_name, state_folder=settings.state_dir, cdi_folder=settings.cdi_dir
            ),
            claims=self._claims,
            claims_here=parts.make_claims_here(self._client),
            cards=self._inventory,
            recorder=_PhaseRecorder(self._metrics),
            pod_resources=PodResourcesClient(settings.pod_resources_socket) if self._client else None,
        )
        self._board = HealthBoard(pool=pool_name(settings.node_name))
        self._teller: ClaimTeller | None = None
        self._health = HealthWatch(
            self._inventory,
            host=host,
            board=self._board,
            # The kernel that this agent runs on, whatever it sees of the node.
            file=HealthFile(settings.plugin_dir / "health.json", host=NodeHost()),
            metrics=self._metrics,
            told=self._card_changed,
        )
        self._mps = mps.watch(records=self._records, cards=self._inventory.cards, metrics=self._metrics)
        self._listeners: list[Listener] = []
        self._writers: dict[str, Callable[[], Coroutine[Any, Any, None]]] = {}
        self._after_restore: Callable[[], None] = lambda: None
        self._build_endpoints()
        if self._client is not None:
            self._build_writers(self._client)
        if settings.inventory_to:
            file = InventoryFile(Path(settings.inventory_to), maker=self._status_maker())
            self._inventory.subscribe(file.update)

    async def run(self) -> None:
        """Runs until a signal asks for the end.

        Raises:
            DragomanError: The agent cannot start; the message says what to change.
            OSError: A socket cannot be made.
        """
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop.set)
        loop.add_signal_handler(signal.SIGHUP, self._inventory.look)
        self._metrics.gauge("info", 1, version=parts.version())
        await self._engine.start()
        await self._service.start()
        self._service.publish()
        probes = await self._start_probes()
        self._start_background()
        await self._registration.start()
        self._registration.publish()
        self._background("registration", self._keeper.run)
        log.info(
            "serving",
            node=self._settings.node_name,
            socket=str(self._service.socket.path),
            registration=str(self._registration.socket.path),
        )
        # What is there now stays for ever. A full collection that looks at all of it again would stop the
        # agent for 30 ms (measured), in the middle of somebody's prepare.
        gc.freeze()
        try:
            await self._stop.wait()
        finally:
            await self._end(probes)

    def _build_endpoints(self) -> None:
        settings = self._settings
        service_socket = service_path(settings.plugin_dir, pod_uid=settings.pod_uid)
        service = ClaimService(
            self._engine,
            cards_ready=self._inventory.ready,
            metrics=self._metrics,
            listeners=self._listeners,
        )
        registrar = Registrar(endpoint=str(service_socket), on_outcome=self._count_registration)

        def add_services(server: Any) -> None:
            add_claim_services(server, service)
            add_health_services(server, self._board)

        def add_registration(server: Any) -> None:
            registration_pb2_grpc.add_RegistrationServicer_to_server(registrar, server)

        self._service = Endpoint(service_socket, add_services=add_services)
        self._registration = Endpoint(
            registration_path(settings.registration_dir, driver=DRIVER_NAME, pod_uid=settings.pod_uid),
            add_services=add_registration,
        )
        self._keeper = Keeper(registrar=registrar, registration=self._registration, service=self._service)

    def _build_writers(self, client: KubeClient) -> None:
        settings = self._settings
        node_status = NodeStatusWriter(
            client, maker=self._status_maker(), superseded=self._keeper.superseded, metrics=self._metrics
        )
        in_force = LimitsInForce(
            settings,
            records=self._records,
            claims=self._claims,
            cards=self._inventory,
            methods=self._inventory.methods,
            metrics=self._metrics,
        )
        claim_status = ClaimStatusWriter(
            client,
            record_of=self._record_of,
            metrics=self._metrics,
            fault_of=self._health.fault_of,
            in_force_of=lambda item: self._in_force_of(item, seen=in_force.condition_of(item)),
            priority_of=in_force.priority_of,
        )
        events = PodEvents(client, node_name=settings.node_name, metrics=self._metrics)
        if self._mps is not None:
            self._mps.teller = LimitsTeller(status=claim_status, events=events)
        self._teller = ClaimTeller(
            self._records,
            status=claim_status,
            events=events,
            node_name=settings.node_name,
        )
        in_force.tell(status=claim_status, events=events)
        self._inventory.subscribe(node_status.update)
        self._inventory.subscribe(in_force.look_at_policy)
        self._after_restore = node_status.update
        self._listeners += [claim_status, events]
        self._writers = {
            "node-status": node_status.run,
            "claim-status": claim_status.run,
            "events": events.run,
            "in-force": in_force.run,
        }

    def _status_maker(self) -> StatusMaker:
        settings = self._settings
        return StatusMaker(
            node_name=settings.node_name,
            agent=AgentStatus(version=parts.version(), pod_name=settings.pod_name, pod_uid=settings.pod_uid),
            simulated=bool(settings.simulated_node),
            problems=lambda: (
                *self._isolation.problems,
                *self._engine.problems,
                *(self._mps.problems if self._mps is not None else ()),
            ),
        )

    def _card_changed(self, before: Mapping[str, Fault], now: Mapping[str, Fault]) -> None:
        if self._teller is not None:
            self._teller(before, now)

    def _records(self) -> list[ClaimRecord]:
        return list(self._engine.records.values())

    def _in_force_of(self, item: ShareRecord, *, seen: dict[str, str] | None) -> dict[str, str] | None:
        return self._mps.condition(item, seen=seen) if self._mps is not None else seen

    def _record_of(self, uid: str) -> ClaimRecord | None:
        return self._engine.records.get(uid)

    async def _start_probes(self) -> ProbeServer | None:
        if not self._settings.http_address:
            return None
        probes = ProbeServer({"/healthz": self._healthz, "/readyz": self._readyz, "/metrics": self._render})
        host, port = await probes.start(self._settings.http_address)
        log.info("probes served", address=f"{host}:{port}")
        return probes

    def _start_background(self) -> None:
        interval_s = self._settings.discovery_interval_s
        self._background("inventory", lambda: self._look_for_cards(interval_s))
        self._background("policies", lambda: self._policies.run(self._inventory.look))
        self._background("restore", self._restore)
        self._background("collect", self._collect)
        self._background("health", self._health.run)
        self._background("faults", self._health.listen)
        self._background("beat", self._beat)
        if self._mps is not None:
            self._background("mps", self._mps.run)
        for name, work in self._writers.items():
            self._background(name, work)

    def _background(self, name: str, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        self._tasks.append(asyncio.create_task(keep_running(name, work), name=name))

    async def _end(self, probes: ProbeServer | None) -> None:
        log.info("stopping")
        await self._registration.stop(grace_s=0.5)
        self._board.close()
        await self._service.stop(grace_s=DRAIN_S)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._engine.close()
        if probes is not None:
            await probes.stop()
        if self._client is not None:
            await self._client.close()
        log.info("stopped")

    # Background parts

    async def _restore(self) -> None:
        await self._inventory.ready.wait()
        while True:
            await self._engine.restore()
            self._metrics.gauge("prepared_claims", len(self._engine.records))
            self._after_restore()
            await asyncio.sleep(RESTORE_EVERY_S)

    async def _look_for_cards(self, interval_s: float) -> None:
        if self._plugins is not None:
            await self._plugins.first()
            self._background("device plugins", self._plugins.run)
        await self._inventory.run(interval_s=interval_s)

    def _device_plugins(self) -> DevicePlugins:
        return DevicePlugins(
            PodResourcesClient(self._settings.pod_resources_socket).device_plugins,
            file=str(self._settings.plugin_dir / "device-plugins.json"),
            # The agent's own folder, and not one of the node as vendors see it.
            host=NodeHost(),
            changed=self._inventory.look,
        )

    async def _collect(self) -> None:
        pod_resources = PodResourcesClient(self._settings.pod_resources_socket)
        await self._inventory.ready.wait()
        collector = Collector(self._engine, claims=self._claims, pod_resources=pod_resources)
        while True:
            await collector.collect()
            await asyncio.sleep(COLLECT_EVERY_S)

    async def _beat(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            due = loop.time() + _BEAT_S
            await asyncio.sleep(_BEAT_S)
            self._metrics.gauge("loop_delay_seconds", max(0.0, loop.time() - due))
            self._metrics.gauge("kubelet_connected", int(self._keeper.connection().connected))

    # Probes

    def _healthz(self) -> Answer:
        return sentence(200, "The agent runs.")

    def _readyz(self) -> Answer:
        connection = self._keeper.connection()
        return sentence(200 if connection.connected else 503, connection.reason)

    def _render(self) -> Answer:
        return Answer(
            status=200, body=self._metrics.render(), content_type="text/plain; version=0.0.4; charset=utf-8"
        )

    def _count_registration(self, registered: bool) -> None:  # noqa: FBT001 - a callback's signature
        self._metrics.count("registrations_total", result="registered" if registered else "refused")


class _PhaseRecorder:
    """Implements `kubelet_plugin.prepare.phases.Recorder` by the table of metrics."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    def observe(self, phase: str, *, seconds: float) -> None:
        """Notes that a phase took so long."""
        self._metrics.observe("phase_duration_seconds", seconds, phase=phase)


async def run_agent(settings: Settings, *, environment: Mapping[str, str] | None = None) -> None:
    """Runs an agent until a signal asks for the end; see `Agent.run` for what it raises."""
    await Agent(settings, environment=os.environ if environment is None else environment).run()
