"""A stock Kubernetes that cannot give out shares by itself, with Dragoman in mode controller."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.cluster.support.api import JSON
from tests.cluster.support.images import Images
from tests.cluster.support.installation import Installation
from tests.cluster.support.target import of_cluster
from tooling.cluster import api as clusters
from tooling.cluster import build

VERSION = "1.34.4"


def in_mode_controller(
    images: Images, *, purpose: str, version: str = VERSION, webhook: JSON | None = None
) -> Iterator[Installation]:
    """A cluster of its own for as long as the caller needs it; not run where that release is not built.

    Args:
        images: What is put on its node.
        purpose: Begins the cluster's name.
        version: Its Kubernetes version.
        webhook: Values of the chart's `controller.webhook`.
    """
    if not all(map(build.is_built, build.tools_of(version))):
        pytest.skip(
            f"not run: Kubernetes {version} is not built here (hack/cluster build --kubernetes {version})"
        )
    name = clusters.unique_name(purpose)
    try:
        target = of_cluster(clusters.start(name=name, kubernetes=version))
        images.load(target)
        installed = Installation(target, images=images)
        installed.controller = {"mode": "controller", "webhook": webhook or {}}
        installed.install()
        installed.wait_ready()
        yield installed
    finally:
        clusters.stop(name)
