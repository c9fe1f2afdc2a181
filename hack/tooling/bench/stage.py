"""What a measurement beside a cluster stands on: the cluster, a folder on disk, access to the API server."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.cluster.support.api import Api
from tooling.bench import machine, world
from tooling.bench.errors import BenchError
from tooling.bench.subjects import Place
from tooling.cluster import api as clusters
from tooling.cluster.progress import Report


@dataclass(frozen=True, kw_only=True)
class Stage:
    """Where a measurement happens.

    Attributes:
        cluster: A cluster that is up.
        api: The administrator's view of it.
        access: What the measured programs reach it with.
        place: Where they keep their files.
    """

    cluster: clusters.Cluster
    api: Api
    access: world.Access
    place: Place

    def machine(self, **versions: str) -> machine.Machine:
        """The machine and what runs on it."""
        return machine.this_machine(
            self.place.folder, versions={"Kubernetes": self.cluster.kubernetes, **versions}
        )


@contextmanager
def cluster_for(name: str, *, report: Report) -> Iterator[clusters.Cluster]:
    """A cluster for one run, or with a name one that stays for the next.

    Raises:
        BenchError: None can be started here.
    """
    chosen = name or clusters.unique_name("bench")
    try:
        found = clusters.start(name=chosen, report=report)
        try:
            yield found
        finally:
            if not name:
                clusters.stop(chosen)
    except clusters.ClusterError as refused:
        raise BenchError(str(refused)) from None


@contextmanager
def stage(cluster: str, *, folder: Path, report: Report, cdi_on_tmpfs: bool = True) -> Iterator[Stage]:
    """A cluster that knows the node, and a fresh folder below `folder`; all of it is removed in the end."""
    with cluster_for(cluster, report=report) as found:
        place = Place(folder, cdi_on_tmpfs=cdi_on_tmpfs)
        try:
            api = Api.from_kubeconfig(found.kubeconfig)
            access = world.open_access(api, kubeconfig=found.kubeconfig, folder=place.folder)
            world.make_node(api)
            yield Stage(cluster=found, api=api, access=access, place=place)
        finally:
            place.remove()
