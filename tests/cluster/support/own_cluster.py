"""Dragoman in a cluster of its own, for tests that kill parts of it or need it made in another way.

Flow: a cluster of one node -> images -> the chart -> ready; ended when the caller is done, whatever happened.
Limits: root and Linux, as `tooling.cluster` says. A release that is neither built nor that of the run is
not waited for: its tests are reported as not run.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.cluster.support.api import JSON
from tests.cluster.support.images import Images
from tests.cluster.support.installation import Installation
from tests.cluster.support.target import Target, of_cluster
from tooling.cluster import api as clusters
from tooling.cluster import build

SOON_S = 5
"""`controller.handoverWait` where a handover is on a test's way and not what it is about."""


def run_version() -> str:
    """The Kubernetes version that the run is about."""
    return os.environ.get("DRAGOMAN_KUBERNETES", build.DEFAULT_KUBERNETES)


def need_built(version: str) -> None:
    """Reports the test as not run where a release is not built that is not the run's own."""
    if version != run_version() and not all(map(build.is_built, build.tools_of(version))):
        pytest.skip(
            f"not run: Kubernetes {version} is not built here (hack/cluster build --kubernetes {version})"
        )


@contextmanager
def bare_cluster(
    *,
    purpose: str,
    version: str,
    feature_gates: Mapping[str, bool] | None = None,
    api_arguments: Sequence[str] = (),
    laid_over: Path | None = None,
) -> Iterator[Target]:
    """A cluster without Dragoman, for as long as the caller needs it.

    Args:
        purpose: Begins the cluster's name.
        version: Its Kubernetes version.
        feature_gates: Gates of all components that are not at their defaults.
        api_arguments: Further arguments of the API server.
        laid_over: A folder that lies over the node's root.
    """
    need_built(version)
    name = clusters.unique_name(purpose)
    try:
        yield of_cluster(
            clusters.start(
                name=name,
                kubernetes=version,
                feature_gates=dict(feature_gates or {}),
                api_arguments=list(api_arguments),
                laid_over=laid_over,
            )
        )
    finally:
        clusters.stop(name)


@contextmanager
def own_cluster(
    images: Images,
    *,
    purpose: str,
    version: str,
    controller: JSON | None = None,
    feature_gates: Mapping[str, bool] | None = None,
    api_arguments: Sequence[str] = (),
    offers: bool = True,
) -> Iterator[Installation]:
    """A cluster with Dragoman, for as long as the caller needs it.

    Args:
        images: What is put on its node.
        purpose: Begins the cluster's name.
        version: Its Kubernetes version.
        controller: Values of the chart's `controller` beside those of all tests.
        feature_gates: Gates of all components that are not at their defaults.
        api_arguments: Further arguments of the API server.
        offers: Whether to wait until all cards are offered; not where none ever are.
    """
    with bare_cluster(
        purpose=purpose, version=version, feature_gates=feature_gates, api_arguments=api_arguments
    ) as target:
        images.load(target)
        installed = Installation(target, images=images)
        installed.controller = dict(controller or {})
        installed.install()
        if offers:
            installed.wait_ready()
            installed.wait_webhooks()
        yield installed
