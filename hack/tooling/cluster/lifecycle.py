"""Brings one cluster up and takes it down.

Flow of `start`: a number for the cluster (its addresses and its root below /var/lib come from it), control
groups, network, certificates, then etcd, API server and containerd at once, images meanwhile, and when the
API server answers the rest. Flow of `stop`: kill what runs, by pid file and by control group, then unmount
and remove. `exchange` puts components of another release over the same etcd, containerd and pods, as an
upgrade in place does.
Limits: the data of a cluster do not outlive `stop`. A start that was interrupted at any point is removed by
`stop`.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import signal
import time
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from tooling.cluster import (
    build,
    certificates,
    cgroups,
    containerd,
    control_plane,
    images,
    kubelet,
    laid_over,
    machine,
    network,
    traces,
)
from tooling.cluster.errors import ClusterError
from tooling.cluster.paths import MOST_CLUSTERS, NODE_ROOTS, Layout, cache, check_name, cluster_folder
from tooling.cluster.processes import Service, Services, wait_until
from tooling.cluster.progress import Report, elapsed, step

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

_PATIENCE = 300.0
_BESIDE = "apiserver-beside"
CONTROL_PLANE = ("apiserver", "controller-manager", "scheduler")
NODE = ("kubelet", "proxy")
# The lock of what all clusters share; no cluster can have this name.
_MACHINE = "_machine"


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What a cluster is started with.

    Attributes:
        kubernetes: The version.
        feature_gates: Of all components.
        api_arguments: Further arguments of the API server.
        laid_over: A folder that is laid over the node's root; "" for none (see `laid_over`).
    """

    kubernetes: str = build.DEFAULT_KUBERNETES
    feature_gates: Mapping[str, bool] = field(default_factory=dict)
    api_arguments: Sequence[str] = ()
    laid_over: str = ""


@dataclass(frozen=True, kw_only=True)
class Record:
    """What is kept about a cluster from its start to its end."""

    name: str
    number: int
    settings: Settings

    @property
    def layout(self) -> Layout:
        """The cluster's paths and addresses."""
        return Layout(folder=cluster_folder(self.name), number=self.number)


def start(name: str, *, settings: Settings, report: Report) -> Record:
    """Starts a cluster, building what it is made of; returns at once when the same one is up already."""
    build.kubernetes(settings.kubernetes)
    machine.prepare(report=report, needs_go=not all(map(build.is_built, build.tools_of(settings.kubernetes))))
    with _lock(check_name(name)):
        found = load(name)
        if found is not None:
            if _is_up(found):
                if found.settings != settings:
                    raise ClusterError(
                        f"the cluster {name} is up already, with other settings "
                        f"(Kubernetes {found.settings.kubernetes})",
                        remedy="Take it down first, or choose another name.",
                    )
                report(f"The cluster {name} is up already")
                return found
            report(f"Removing what is left of an earlier cluster {name}")
        _remove(name)
        build.ensure_all(settings.kubernetes, report=report)
        try:
            return _start(name, settings=settings, report=report)
        except BaseException as error:
            with contextlib.suppress(Exception):
                _remove(name, keep_logs=isinstance(error, ClusterError))
            raise


def stop(name: str) -> bool:
    """Ends a cluster and removes all of it; false when there was nothing to remove."""
    if os.geteuid() != 0:
        raise ClusterError("ending a cluster needs root", remedy="Run it as root.")
    with _lock(check_name(name)):
        return _remove(name)


def exchange(
    name: str, *, kubernetes: str, components: Sequence[str] = (*CONTROL_PLANE, *NODE), report: Report
) -> Record:
    """Ends components one after the other and starts those of another release in their place.

    The release of the cluster, as recorded, is that of its API server.
    """
    build.kubernetes(kubernetes)
    with _lock(check_name(name)):
        record = load(name)
        if record is None or not _is_up(record):
            raise ClusterError(f"the cluster {name} is not up", remedy="Start it first: hack/cluster up")
        build.ensure_all(kubernetes, report=report)
        layout, services, api = record.layout, services_of(record.layout), control_plane.Api(record.layout)
        settings = replace(record.settings, kubernetes=kubernetes)
        for component in components:
            with step(f"{component} of {kubernetes}", report=report):
                procs = Path(services.definition(component).cgroup_procs)
                services.stop(component)
                _define(layout, settings=settings, cgroup_procs=procs, only=[component])
                services.start(component)
                if component == "kubelet":
                    _wait(services, component, lambda: api.node_ready() and api.kubelet() == f"v{kubernetes}")
                else:
                    _wait(services, component, api.ready)
            if component == "apiserver":
                record = replace(record, settings=settings)
                _note(record)
        return record


def beside(name: str, *, kubernetes: str, found: bool, report: Report) -> str:
    """Starts a second API server, of another release, on the same etcd; returns its URL.

    As in the middle of an upgrade of several API servers.

    Args:
        name: The cluster.
        kubernetes: Its release.
        found: Whether pods find it by the Service `kubernetes`, each time one of the two; otherwise only who
            knows its URL does.
        report: Told of the steps.
    """
    build.kubernetes(kubernetes)
    with _lock(check_name(name)):
        record = load(name)
        if record is None or not _is_up(record):
            raise ClusterError(f"the cluster {name} is not up", remedy="Start it first: hack/cluster up")
        build.ensure_all(kubernetes, report=report)
        layout, settings = record.layout, record.settings
        services, gates = services_of(layout), record.settings.feature_gates
        first = services.definition("apiserver")
        if found:
            network.add_address(layout, layout.second_address)
            with step("the first API server gives the second its place", report=report):
                bound = [*first.command, f"--bind-address={layout.node_address}"]
                services.stop("apiserver")
                services.define(replace(first, command=bound))
                services.start("apiserver")
                _wait(services, "apiserver", control_plane.Api(layout).ready)
        more, server = control_plane.beside(layout, found=found)
        with step(f"API server of {kubernetes} beside that of {settings.kubernetes}", report=report):
            services.define(
                replace(
                    first,
                    name=_BESIDE,
                    command=control_plane.api_server(
                        layout, gates=gates, more=[*settings.api_arguments, *more]
                    ),
                    environment={**first.environment, "PATH": build.search_path(kubernetes)},
                    log=str(layout.logs / f"{_BESIDE}.log"),
                )
            )
            services.start(_BESIDE)
            _wait(services, _BESIDE, control_plane.Api(layout, server=server).ready)
        return server


def alone(name: str) -> None:
    """Ends the second API server."""
    with _lock(check_name(name)):
        record = load(name)
        if record is not None:
            services = services_of(record.layout)
            services.stop(_BESIDE)
            services.forget(_BESIDE)


def load(name: str) -> Record | None:
    """The record of a cluster, if there is one."""
    try:
        found = json.loads((cluster_folder(name) / "cluster.json").read_text())
        return Record(name=name, number=found["number"], settings=Settings(**found["settings"]))
    except FileNotFoundError:
        return None


def names() -> list[str]:
    """All clusters of this cache that have a record."""
    return sorted(path.parent.name for path in (cache() / "clusters").glob("*/cluster.json"))


def services_of(layout: Layout) -> Services:
    """The components of a cluster."""
    return Services(layout.processes)


def _start(name: str, *, settings: Settings, report: Report) -> Record:
    begin = time.monotonic()
    with _lock(_MACHINE):
        traces.remember(_machine_state())
        layout = _reserve(name, settings=settings)
    report(f"Starting Kubernetes {settings.kubernetes} as {name} (about 10 seconds)")
    with step("certificates, control groups, network", report=report):
        certificates.create(layout)
        network.create(layout)
        _define(layout, settings=settings, cgroup_procs=cgroups.create(layout.cgroup))
    services = services_of(layout)
    for component in ("etcd", "apiserver", "containerd"):
        services.start(component)
    ctr = build.folder_of(build.CONTAINERD) / "ctr"
    with step("containerd answers, images loaded", report=report):
        _wait(services, "containerd", lambda: containerd.ready(layout, ctr=ctr))
        for image in (images.pause(), images.busybox()):
            if image is not None:
                containerd.load(layout, ctr=ctr, image=image)
    api = control_plane.Api(layout)
    with step("API server answers", report=report):
        _wait(services, "apiserver", api.ready)
    for component in ("controller-manager", "scheduler", "kubelet", "proxy"):
        services.start(component)
    with step("node Ready, pods are accepted", report=report):
        _wait(services, "kubelet", api.node_ready)
        _wait(services, "controller-manager", api.accepts_pods)
    report(f"Up after {elapsed(time.monotonic() - begin)}")
    found = load(name)
    if found is None:
        raise AssertionError
    return found


def _reserve(name: str, *, settings: Settings) -> Layout:
    """Takes the lowest free number by making its folder, and records it."""
    folder = cluster_folder(name)
    for number in range(1, MOST_CLUSTERS + 1):
        layout = Layout(folder=folder, number=number)
        if network.taken(number):
            continue
        try:
            layout.node_root.mkdir()
        except FileExistsError:
            continue
        (layout.node_root / "owner").write_text(str(folder))
        folder.mkdir(parents=True, exist_ok=True)
        for part in (layout.configs, layout.logs, layout.processes):
            part.mkdir(exist_ok=True)
        _note(Record(name=name, number=number, settings=settings))
        return layout
    raise ClusterError(
        f"all {MOST_CLUSTERS} numbers of clusters are taken on this machine",
        remedy="See `hack/cluster list`, and `ls -d /var/lib/dragoman-*` for those of other users.",
    )


def _note(record: Record) -> None:
    found = {"number": record.number, "settings": asdict(record.settings)}
    # Whoever lists clusters reads it without a lock.
    fresh = record.layout.record.with_suffix(".new")
    fresh.write_text(json.dumps(found, indent=1))
    fresh.replace(record.layout.record)


def _define(
    layout: Layout, *, settings: Settings, cgroup_procs: Path, only: Sequence[str] | None = None
) -> None:
    gates, version = settings.feature_gates, settings.kubernetes
    # Some write a config, and kube-proxy ends when its own is written while it runs.
    commands: Mapping[str, Callable[[], list[str]]] = {
        "etcd": lambda: control_plane.etcd(layout),
        "apiserver": lambda: control_plane.api_server(layout, gates=gates, more=settings.api_arguments),
        "controller-manager": lambda: control_plane.controller_manager(layout, gates=gates),
        "scheduler": lambda: control_plane.scheduler(layout, gates=gates),
        "proxy": lambda: control_plane.proxy(layout, gates=gates),
        "containerd": lambda: containerd.configure(layout),
        "kubelet": lambda: kubelet.configure(layout, kubernetes=version, gates=gates),
    }
    if settings.laid_over:
        commands = {**commands, **_laid_over(commands, layout=layout, folder=Path(settings.laid_over))}
    services = services_of(layout)
    for name in commands if only is None else only:
        services.define(
            Service(
                name=name,
                command=commands[name](),
                environment={"PATH": build.search_path(version), "HOME": "/root"},
                namespace=layout.namespace,
                cgroup_procs=str(cgroup_procs),
                log=str(layout.logs / f"{name}.log"),
            )
        )


def _laid_over(
    commands: Mapping[str, Callable[[], list[str]]], *, layout: Layout, folder: Path
) -> dict[str, Callable[[], list[str]]]:
    pid_file = services_of(layout).pid_file("containerd")
    return {
        "containerd": lambda: laid_over.holder(
            commands["containerd"](), folder=folder, kept=layout.node_root / "laid-over"
        ),
        "kubelet": lambda: laid_over.member(commands["kubelet"](), of=pid_file),
    }


def _wait(services: Services, component: str, condition: Callable[[], bool]) -> None:
    """Waits for `condition`; says what the component logged when it does not come true."""
    ended = False

    def settled() -> bool:
        nonlocal ended
        if condition():
            return True
        ended = services.identity(component) is None
        return ended

    if wait_until(settled, seconds=_PATIENCE) and not ended:
        return
    what = "ended" if ended else f"was not ready after {_PATIENCE:g} s"
    raise ClusterError(
        f"{component} {what}; the last that it said was:\n{services.log_tail(component)}\n",
        remedy=f"The logs are kept in {services.definition(component).log.rpartition('/')[0]}.",
    )


def _is_up(record: Record) -> bool:
    services = services_of(record.layout)
    return (
        all(services.identity(name) for name in services.names()) and control_plane.Api(record.layout).ready()
    )


def _remove(name: str, *, keep_logs: bool = False) -> bool:
    folder = cluster_folder(name)
    found = folder.exists()
    for number in _numbers(folder):
        found = True
        layout = Layout(folder=folder, number=number)
        services = services_of(layout)
        for component in sorted(services.names(), key=lambda one: one != "kubelet"):
            services.stop(component, first=signal.SIGKILL)
        cgroups.kill_members(layout.cgroup)
        traces.unmount_below(layout.node_root)
        network.remove(layout)
        traces.remove_own(layout)
        cgroups.remove(layout.cgroup)
        shutil.rmtree(layout.node_root)
    with _lock(_MACHINE):
        traces.forget(_machine_state())
    if keep_logs:
        (folder / "cluster.json").unlink(missing_ok=True)
    elif found:
        shutil.rmtree(folder, ignore_errors=True)
    return found


def _numbers(folder: Path) -> list[int]:
    """The numbers that belong to the cluster of this folder; more than one only after a crash."""
    owned: list[int] = []
    for owner in NODE_ROOTS.glob("dragoman-*/owner"):
        number = owner.parent.name.removeprefix("dragoman-")
        with contextlib.suppress(OSError):
            if number.isdigit() and owner.read_text() == str(folder):
                owned.append(int(number))
    return owned


def _machine_state() -> Path:
    return cache() / "clusters" / ".machine.json"


@contextmanager
def _lock(name: str) -> Iterator[None]:
    """One start or stop of a cluster at a time; and one change of what all clusters of the machine share."""
    folder = cache() / "clusters"
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / f".{name}.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
