"""Dragoman on a node that has cards of every vendor, with the preload libraries of those that have one.

Flow: `vendor_node.make` -> a cluster whose node has that folder over its root -> the chart, with no simulated
card and the node's own root shown to the agent, as on any node.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from driver.kube.resources import ACCELERATOR_POLICIES
from tests.cluster.support import vendor_node
from tests.cluster.support.api import JSON
from tests.cluster.support.images import Images
from tests.cluster.support.installation import Installation
from tests.cluster.support.own_cluster import bare_cluster
from tests.native import build as native


class VendorInstallation(Installation):
    """The chart on a node whose cards are not simulated."""

    @property
    def devices(self) -> list[str]:
        """Names of all cards, sorted."""
        return sorted(
            card["name"] for vendor in vendor_node.vendors() for card in vendor_node.expected(vendor)
        )

    def values(self, *, image: str = "") -> JSON:
        """The chart's values for this node."""
        found = super().values(image=image)
        assert found["host"]["mountRoot"], "this node's root is a shared mount, as on nodes with systemd"
        folder = PurePosixPath(found["preload"]["library"]).parent
        for name, library in (("ascend", native.stub_vnpu()), ("amd", native.stub_amvgpu())):
            found["preload"][name] = str(folder / library.name)
            self.target.node.write_file(folder / library.name, library.read_bytes())
        return {**found, "simulated": {}}


@contextmanager
def on_a_node(images: Images, *, kubernetes: str, folder: Path) -> Iterator[VendorInstallation]:
    """The installation, as long as the caller needs it; `folder` is made, and lies over the node's root."""
    vendor_node.make(folder)
    with bare_cluster(purpose="vendors", version=kubernetes, laid_over=folder) as target:
        images.load(target)
        installed = VendorInstallation(target, images=images)
        installed.controller = {"replicas": 1}
        installed.install()
        policy = {"metadata": {"name": "all"}, "spec": {"isolation": ["preload", "none"]}}
        installed.api.create(ACCELERATOR_POLICIES, policy)
        installed.wait_ready()
        yield installed
