"""`hack/bench pods`: 30 pods at once, from create to Running, with claims and without.

Flow: a cluster with the chart installed as the cluster tests install it (simulated cards, the stub preload
library) -> rounds that alternate between plain pods and pods with a claim from a template, each a limited
share (512 MiB, 1 percent of compute). All pods of a round are created at once; a watch tells when each runs.

Limits: what is measured is all of Kubernetes: resource claim controller, scheduler, kubelet, containerd; our
part is in the difference. Times are those of the client that creates and watches.
"""

from __future__ import annotations

import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from driver.kube.resources import PODS, RESOURCE_CLAIMS
from tests.cluster.support.api import EVENTS, JSON, NAMESPACES, SERVICE_ACCOUNTS, TEMPLATES, Api
from tests.cluster.support.images import make_images
from tests.cluster.support.installation import Installation
from tests.cluster.support.manifests import NVIDIA, pod, request, template
from tests.cluster.support.target import of_cluster
from tooling.bench import machine
from tooling.bench.errors import BenchError
from tooling.bench.figures import Figures, Series, figures_of, median
from tooling.bench.rounds import alternating
from tooling.bench.stage import cluster_for
from tooling.bench.subjects import ROOT
from tooling.cluster import api as clusters
from tooling.cluster.progress import Report, step

PLAIN = "without claims"
CLAIMING = "with a claim each"
NAMES = (PLAIN, CLAIMING)
_NAMESPACE = "bench-pods"
_SHARE = "share"
_PATIENCE_S = 120.0
_CALM_S = 2.0


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What was measured.

    Attributes:
        pods: How many at once.
        figures: Of `PLAIN` and `CLAIMING`: create to Running, the median over the rounds.
        machine: Where.
        load: Load average over a minute before and after.
        commit: Of the tree.
    """

    pods: int
    figures: dict[str, Figures]
    machine: machine.Machine
    load: tuple[float, float]
    commit: str


def run(*, cluster: str, count: int, rounds: int, report: Report) -> Outcome:
    """Measures.

    Raises:
        BenchError: Something did not come up, or a pod did not run in time.
    """
    with cluster_for(cluster, report=report) as found:
        try:
            api = _install(found, report=report)
            before = machine.load()
            figures = _rounds(api, count=count, rounds=rounds, report=report)
        except AssertionError as failed:
            # The cluster tests' support says so when something does not come about.
            raise BenchError(str(failed)) from None
        return Outcome(
            pods=count,
            figures=figures,
            machine=machine.this_machine(found.layout.node_root, versions={"Kubernetes": found.kubernetes}),
            load=(before, machine.load()),
            commit=machine.commit(ROOT),
        )


def _install(found: clusters.Cluster, *, report: Report) -> Api:
    target = of_cluster(found)
    with tempfile.TemporaryDirectory() as folder:
        with step("images made and loaded", report=report):
            images = make_images(folder=Path(folder))
            images.load(target)
        with step("chart installed, agent ready, all cards offered", report=report):
            installation = Installation(target, images=images)
            installation.install()
            installation.wait_ready()
    return target.api


def _rounds(api: Api, *, count: int, rounds: int, report: Report) -> dict[str, Figures]:
    measured: dict[str, list[Figures]] = {name: [] for name in NAMES}
    with _namespace(api):
        # The first pods on a fresh node unpack the image: that is nobody's share.
        _round(api, [pod("first")])
        for one in alternating(NAMES, levels=(count,), rounds=rounds):
            prefix = f"{'c' if one.name == CLAIMING else 'p'}{one.round}"
            templates = {"card": _SHARE} if one.name == CLAIMING else {}
            series = _round(api, [pod(f"{prefix}-{index}", templates=templates) for index in range(count)])
            found = figures_of(series)
            measured[one.name].append(found)
            report(f"  round {one.round + 1}, {one.name}: p50 {found.p50:.0f} ms, p99 {found.p99:.0f} ms")
    return {name: median(found) for name, found in measured.items()}


@contextmanager
def _namespace(api: Api) -> Iterator[None]:
    if api.find(NAMESPACES, _NAMESPACE) is None:
        api.create(NAMESPACES, {"metadata": {"name": _NAMESPACE}})
    while api.find(SERVICE_ACCOUNTS, "default", namespace=_NAMESPACE) is None:
        time.sleep(0.1)
    if api.find(TEMPLATES, _SHARE, namespace=_NAMESPACE) is None:
        share = template(_SHARE, request(of=NVIDIA, memory="512Mi", cores="1"))
        api.create(TEMPLATES, share, namespace=_NAMESPACE)
    _empty(api)
    try:
        yield
    finally:
        _empty(api)


def _round(api: Api, pods: Sequence[JSON]) -> Series:
    """Creates pods at once; how long each took to be Running."""
    created: dict[str, float] = {}
    running: dict[str, float] = {}
    version = api.page(PODS, namespace=_NAMESPACE)["metadata"]["resourceVersion"]

    def watch() -> None:
        until = time.monotonic() + _PATIENCE_S
        for event in api.watch(PODS, namespace=_NAMESPACE, resource_version=version, seconds=_PATIENCE_S):
            one = event["object"]
            if (one.get("status") or {}).get("phase") == "Running":
                running.setdefault(one["metadata"]["name"], time.monotonic())
            if len(running) == len(pods) or time.monotonic() > until:
                return

    def create(one: JSON) -> None:
        created[one["metadata"]["name"]] = time.monotonic()
        api.create(PODS, one, namespace=_NAMESPACE)

    watcher = threading.Thread(target=watch, name="watch")
    watcher.start()
    began = time.monotonic()
    with ThreadPoolExecutor(len(pods)) as pool:
        list(pool.map(create, pods))
    watcher.join()
    failed = sorted(created.keys() - running.keys())
    if failed:
        raise BenchError(
            f"{len(failed)} of {len(pods)} pods did not run in {_PATIENCE_S:.0f} s: {failed[:3]}"
        )
    _empty(api)
    time.sleep(_CALM_S)
    took = tuple((running[name] - at) * 1000 for name, at in created.items())
    return Series(milliseconds=took, wall_s=max(running.values()) - began)


def _why(api: Api, name: str) -> str:
    """What the last warning about a pod says."""
    query = {"fieldSelector": f"involvedObject.name={name},type=Warning"}
    told = [one.get("message", "") for one in api.list(EVENTS, namespace=_NAMESPACE, **query)]
    return f"{name}: {told[-1]}" if told else f"There is no event about {name}."


def _empty(api: Api) -> None:
    """Removes all pods and waits until they and their claims are gone."""
    api.request("DELETE", PODS.path(namespace=_NAMESPACE))
    until = time.monotonic() + _PATIENCE_S
    while any(api.list(kind, namespace=_NAMESPACE) for kind in (PODS, RESOURCE_CLAIMS)):
        if time.monotonic() > until:
            raise BenchError(f"Pods or claims did not go away in {_PATIENCE_S:.0f} s.")
        time.sleep(0.2)
