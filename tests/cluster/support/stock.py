"""A stock Kubernetes that cannot give out shares by itself, with Dragoman in mode controller.

Limits: kube-scheduler never sees a slice here that it could use, so what it has to be given at a handover is
cut short: its default is waited for in `test_handover` alone.
"""

from __future__ import annotations

from collections.abc import Iterator

from tests.cluster.support.api import JSON
from tests.cluster.support.images import Images
from tests.cluster.support.installation import Installation
from tests.cluster.support.own_cluster import SOON_S, own_cluster

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
    controller = {"mode": "controller", "handoverWait": SOON_S, "webhook": webhook or {}}
    with own_cluster(images, purpose=purpose, version=version, controller=controller) as installed:
        yield installed
