"""One half of `hack/bench scale`: a cluster of many nodes in one mode, from its start to its end.

Flow of `measure`: cluster, chart with one controller, kwok, nodes, agents, slices -> rounds of pods at once,
each with a claim -> copies of what they left (`tooling.bench.scale_fill`), until there are as many claims and
pods as a large cluster has -> the controller is killed and has to read all of it again.

Limits: all of it runs on one machine, so what one part takes the others lack: the processor time of each part
is told beside the times. One replica of the controller, because a second one would only take processor time:
it reads and decides nothing.
"""

from __future__ import annotations

import math
import os
import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from driver.kube.resources import PODS
from tests.cluster.support import waiting
from tests.cluster.support.api import NAMESPACES, SERVICE_ACCOUNTS, TEMPLATES, Api
from tests.cluster.support.images import Images
from tests.cluster.support.installation import Installation, ready
from tests.cluster.support.target import of_cluster
from tooling.bench import machine, scale_fill, scale_world
from tooling.bench.errors import BenchError
from tooling.bench.figures import Figures, Series, figures_of, percentile
from tooling.bench.process import Memory, memory_of, peak_mib, processor_s
from tooling.bench.scale_watch import Watching
from tooling.cluster import api as clusters
from tooling.cluster import kwok, lifecycle
from tooling.cluster.progress import Report, elapsed, step

CONTROLLER_PROCESS = "our controller"
PARTS = {"apiserver": "API server", "scheduler": "kube-scheduler", "controller-manager": "controller manager"}
NAMESPACE = "bench-scale"
_HANDOVER_S = 35.0
"""In mode controller, cards are given out once kube-scheduler has had no slices of them for 30 s."""
_CALM_S = 10.0
_PATIENCE_S = 300.0
"""Without another pod that is bound."""
_LINE_S = 15.0
JSON = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What is measured in one mode.

    Attributes:
        mode: `native` or `controller`.
        kubernetes: Release of the cluster.
        nodes: How many nodes kwok plays.
        cards: Cards of each.
        claims: Claims, and pods, of a round.
        rounds: How many rounds.
        fill: How many claims and pods there are in the end.
    """

    mode: str
    kubernetes: str
    nodes: int
    cards: int
    claims: int
    rounds: int
    fill: int


@dataclass(frozen=True, kw_only=True)
class Round:
    """Pods that were made at once.

    Attributes:
        figures: From claim created to pod bound.
        allocated: p50 and p99 from claim created to claim allocated, in milliseconds.
        making_s: From the first claim to the last: how fast the controller manager made them.
        cpu_ms: Processor time for a claim, by process.
    """

    figures: Figures
    allocated: tuple[float, float]
    making_s: float
    cpu_ms: dict[str, float]


@dataclass(frozen=True, kw_only=True)
class Held:
    """Memory of the controller at one moment.

    Attributes:
        when: What had happened.
        claims: How many claims, and pods, there were.
        memory: Memory of its process.
        peak_mib: The most that it had resident since it started.
    """

    when: str
    claims: int
    memory: Memory
    peak_mib: float


@dataclass(kw_only=True)
class Outcome:
    """What was measured in one mode."""

    plan: Plan
    rounds: list[Round] = field(default_factory=list)
    held: list[Held] = field(default_factory=list)
    ready_again_s: float = 0.0
    restarts: int = 0
    load: tuple[float, float] = (0.0, 0.0)


def measure(plan: Plan, *, images: Images, keep: bool, report: Report) -> Outcome:
    """Measures one mode.

    Raises:
        BenchError: Something did not come up, or pods were not bound.
    """
    outcome = Outcome(plan=plan)
    with _cluster(plan, keep=keep, report=report) as found:
        try:
            scene = _Scene(found, plan=plan, images=images, report=report)
            scene.set_up()
            _act(scene, outcome, report=report)
        except AssertionError as failed:
            # The cluster tests' support says so when something does not come about.
            raise BenchError(str(failed)) from None
    return outcome


def _act(scene: _Scene, outcome: Outcome, *, report: Report) -> None:
    plan, before = outcome.plan, machine.load()
    first = scene.process()
    outcome.held.append(scene.held("idle", claims=0))
    for number in range(plan.rounds):
        one = scene.round(plan.claims, prefix=f"r{number}")
        outcome.rounds.append(one)
        found = one.figures
        report(
            f"  round {number + 1} of {plan.rounds}: {found.rate:.1f} claims a second, "
            f"p50 {found.p50:,.0f} ms, p99 {found.p99:,.0f} ms, allocated after {one.allocated[0]:,.0f} and "
            f"{one.allocated[1]:,.0f} ms; load {machine.load():.1f}"
        )
    there = plan.claims * plan.rounds
    outcome.held.append(scene.held("after the rounds", claims=there))
    if plan.fill > there:
        with step(f"{plan.fill - there:,} claims and pods more", report=report):
            scene.fill(plan.fill - there)
        outcome.held.append(scene.held("filled", claims=plan.fill))
        outcome.restarts = scene.restarts()
        outcome.ready_again_s = scene.kill(scene.process())
        time.sleep(_CALM_S)
        outcome.held.append(scene.held("killed, and all read again", claims=plan.fill))
    elif scene.process() != first:
        outcome.restarts = scene.restarts()
    outcome.load = (before, machine.load())


class _Scene:
    """A cluster with the chart installed."""

    def __init__(self, found: clusters.Cluster, *, plan: Plan, images: Images, report: Report) -> None:
        self._cluster = found
        self._plan = plan
        self._report = report
        self._target = of_cluster(found)
        self._images = images
        self._installation = Installation(self._target, images=images)
        self._installation.controller = {
            "mode": plan.mode,
            "replicas": 1,
            # Its process has to be a real one.
            "nodeSelector": {"kubernetes.io/hostname": self._installation.node},
        }

    @property
    def _api(self) -> Api:
        return self._target.api

    def set_up(self) -> None:
        """Installs the chart and makes the nodes."""
        plan, api, report = self._plan, self._api, self._report
        with step(f"chart installed in mode {plan.mode}", report=report):
            self._images.load(self._target)
            self._installation.install()
            self._installation.wait_ready()
        with step(f"{plan.nodes:,} nodes made", report=report):
            kwok.start(self._cluster, report=report)
            scale_world.make_nodes(api, plan.nodes)
        with step(f"an agent is Ready and {plan.cards} cards are known on each", report=report):
            # Both take minutes, and neither waits for the other.
            scale_world.make_inventories(api, plan.nodes, cards=plan.cards)
            scale_world.wait_agents(
                api, plan.nodes, name=self._installation.daemon_set, namespace=self._installation.namespace
            )
        with step("cards offered on each", report=report):
            scale_world.wait_offered(api, plan.nodes)
        with step("one pod bound", report=report):
            if plan.mode == "controller":
                time.sleep(_HANDOVER_S)
            self._make_namespace()
            self.round(1, prefix="first")

    def process(self) -> int:
        """The controller's process."""
        return controller_process(self._cluster.layout.cgroup)

    def restarts(self) -> int:
        """How often the controller's container was started again."""
        (one,) = self._installation.controllers()
        return sum(each["restartCount"] for each in one["status"]["containerStatuses"])

    def held(self, when: str, *, claims: int) -> Held:
        """The controller's memory now."""
        pid = self.process()
        found = Held(when=when, claims=claims, memory=memory_of(pid), peak_mib=peak_mib(pid))
        self._report(
            f"  controller {when}: {found.memory.rss_mib:.0f} MiB RSS, {found.memory.uss_mib:.0f} USS, "
            f"{found.peak_mib:.0f} at most"
        )
        return found

    def round(self, count: int, *, prefix: str) -> Round:
        """Makes pods at once, and waits until all are bound."""
        watching = Watching(self._api, namespace=NAMESPACE)
        before = self._processor_s()
        try:
            scale_world.at_once(
                lambda index: self._api.create(
                    PODS, scale_world.asking(f"{prefix}-{index:05d}"), namespace=NAMESPACE
                ),
                range(count),
            )
            self._wait_bound(watching, count)
        finally:
            watching.close()
        took = {name: after - before.get(name, 0.0) for name, after in self._processor_s().items()}
        times = watching.times
        ours = took[CONTROLLER_PROCESS]
        series = Series(milliseconds=times.took_ms(), wall_s=max(times.wall_s(), 1e-3), cpu_s=ours)
        return Round(
            figures=figures_of(series),
            allocated=_median_and_worst(times.allocated_ms()),
            making_s=times.making_s(),
            cpu_ms={name: seconds * 1000 / count for name, seconds in took.items()},
        )

    def fill(self, count: int) -> None:
        """Makes more claims and pods that are there already."""
        api, plan = self._api, self._plan
        found = scale_fill.pattern(api, namespace=NAMESPACE)
        names = map(scale_world.node_name, range(plan.nodes))
        places = scale_fill.places(
            count,
            [(name, scale_world.devices(index, plan.cards)) for index, name in enumerate(names)],
            holds=scale_fill.held(api, namespace=NAMESPACE),
            most=scale_world.FIT,
        )
        began = said = time.monotonic()

        def write(number: int) -> None:
            nonlocal said
            node, device = places[number]
            claim, pod = scale_fill.copied(found, f"copy-{number:05d}", node=node, device=device)
            scale_fill.make(api, claim, pod, namespace=NAMESPACE)
            if (now := time.monotonic()) - said > _LINE_S:
                said = now
                self._report(f"  {number:,} of {count:,} made after {elapsed(now - began)}")

        scale_world.at_once(write, range(count))
        time.sleep(_CALM_S)

    def kill(self, pid: int) -> float:
        """Kills the controller; seconds until it is ready again."""
        began = time.monotonic()
        os.kill(pid, signal.SIGKILL)
        while _running(pid):
            time.sleep(0.05)
        waiting.wait_all(
            self._api,
            PODS,
            lambda found: len(found) == 1 and ready(found[0]) and self._is_another(pid),
            what="the controller is ready again",
            namespace=self._installation.namespace,
            labelSelector="app.kubernetes.io/component=controller",
            seconds=_PATIENCE_S,
        )
        return time.monotonic() - began

    def _is_another(self, pid: int) -> bool:
        try:
            return self.process() != pid
        except BenchError:
            return False

    def _processor_s(self) -> dict[str, float]:
        services = lifecycle.services_of(self._cluster.layout)
        found = {CONTROLLER_PROCESS: processor_s(self.process())}
        for component, name in PARTS.items():
            identity = services.identity(component)
            if identity is None:
                raise BenchError(f"{name} ended: {services.log_tail(component)}")
            found[name] = processor_s(identity.pid)
        return found

    def _make_namespace(self) -> None:
        api = self._api
        if api.find(NAMESPACES, NAMESPACE) is None:
            api.create(NAMESPACES, {"metadata": {"name": NAMESPACE}})
        while api.find(SERVICE_ACCOUNTS, "default", namespace=NAMESPACE) is None:
            time.sleep(0.1)
        if api.find(TEMPLATES, scale_world.TEMPLATE, namespace=NAMESPACE) is None:
            api.create(TEMPLATES, scale_world.share(), namespace=NAMESPACE)

    def _wait_bound(self, watching: Watching, count: int) -> None:
        began = said = moved = time.monotonic()
        bound = 0
        while bound < count:
            time.sleep(0.25)
            now, seen = time.monotonic(), watching.times.count_bound()
            if seen > bound:
                bound, moved = seen, now
            if now - said > _LINE_S:
                said = now
                self._report(f"  {bound:,} of {count:,} pods bound after {elapsed(now - began)}")
            if now - moved > _PATIENCE_S:
                raise BenchError(f"{bound} of {count} pods were bound, then no more for {_PATIENCE_S:.0f} s.")


def controller_process(cgroup: str, *, proc: Path = Path("/proc")) -> int:
    """The process of the controller in a control group, by what it was started with.

    Raises:
        BenchError: There is none, or more than one.
    """
    found = []
    for folder in proc.glob("[0-9]*"):
        try:
            words = (folder / "cmdline").read_bytes().split(b"\0")
            groups = (folder / "cgroup").read_text()
        except OSError:
            continue
        if words[1:3] == [b"-m", b"controller"] and f"/{cgroup}/" in groups:
            found.append(int(folder.name))
    if len(found) != 1:
        raise BenchError(f"{len(found)} processes of the controller run in {cgroup}: one was expected.")
    return found[0]


def _median_and_worst(took_ms: Sequence[float]) -> tuple[float, float]:
    return (percentile(took_ms, 50), percentile(took_ms, 99)) if took_ms else (math.nan, math.nan)


def _running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in ("Z", "X")
    except OSError:
        return False


@contextmanager
def _cluster(plan: Plan, *, keep: bool, report: Report) -> Iterator[clusters.Cluster]:
    name = clusters.unique_name(f"scale-{plan.mode}")
    try:
        yield clusters.start(name=name, kubernetes=plan.kubernetes, report=report)
    except clusters.ClusterError as refused:
        raise BenchError(str(refused)) from None
    finally:
        if keep:
            report(f"The cluster stays: hack/cluster --name {name} down")
        else:
            clusters.stop(name)
