"""A stock Kubernetes that cannot give out shares by itself, with Dragoman in mode controller."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.cluster.support.images import Images
from tests.cluster.support.installation import Installation
from tests.cluster.support.target import of_cluster
from tooling.cluster import api as clusters
from tooling.cluster import build

VERSION = "1.34.4"


def in_mode_controller(images: Images, *, purpose: str) -> Iterator[Installation]:
    """A cluster of its own for as long as the caller needs it; not run where that release is not built."""
    if not all(map(build.is_built, build.tools_of(VERSION))):
        pytest.skip(
            f"not run: Kubernetes {VERSION} is not built here (hack/cluster build --kubernetes {VERSION})"
        )
    name = clusters.unique_name(purpose)
    try:
        target = of_cluster(clusters.start(name=name, kubernetes=VERSION))
        images.load(target)
        installed = Installation(target, images=images)
        installed.controller = {"mode": "controller"}
        installed.install()
        installed.wait_ready()
        yield installed
    finally:
        clusters.stop(name)
