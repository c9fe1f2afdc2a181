"""A device plugin that offers the same cards, beside Dragoman on one node."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import grpc
import pytest

from driver.kube.resources import ACCELERATOR_NODES, NODES, PODS
from tests.cluster.support import cards, waiting
from tests.cluster.support.api import JSON
from tests.cluster.support.device_plugin import device_plugin
from tests.cluster.support.images import Images
from tests.cluster.support.installation import Installation
from tests.cluster.support.manifests import container, request, sharing
from tests.cluster.support.own_cluster import own_cluster
from tests.cluster.support.space import Space, open_space

pytestmark = [pytest.mark.own_cluster, pytest.mark.node]

GPU = "nvidia.com/gpu"
NVIDIA = {cards.NVIDIA_24.device, cards.NVIDIA_40.device}


@pytest.fixture(scope="module")
def own(images: Images, kubernetes_version: str) -> Iterator[Installation]:
    """Dragoman in a cluster of its own, that leaves NVIDIA's counts to a device plugin."""
    controller = {"conversion": {"leftAlone": [GPU]}}
    with own_cluster(
        images, purpose="plugin", version=kubernetes_version, controller=controller
    ) as installed:
        yield installed


def _offered(own: Installation) -> set[str]:
    return {device["name"] for one in own.slices() for device in one["spec"].get("devices") or []}


def _unpublished(one: JSON) -> dict[str, str]:
    return {card["name"]: card["unpublished"] for card in one["status"]["cards"] if card["unpublished"]}


@contextmanager
def _plugin(own: Installation, folder: Path) -> Iterator[None]:
    """A device plugin that the node's own kubelet has taken up.

    All kubelets of a machine share one folder for device plugins, and who was started last has it: this one
    is started anew, and again if that of another cluster came in between.
    """
    node = own.target.node
    assert node is not None
    for left in (2, 1, 0):
        node.restart_kubelet()
        with ExitStack() as stack:
            try:
                stack.enter_context(device_plugin(GPU, devices=["GPU-1", "GPU-2"], folder=folder))
                waiting.wait_for(
                    own.api,
                    NODES,
                    own.node,
                    lambda one: one["status"]["allocatable"].get(GPU) == "2",
                    what="has the plugin's devices",
                    seconds=90,
                )
            except (waiting.Waited, grpc.RpcError):
                if not left:
                    raise
                continue
            yield
            return


def test_cards_of_a_device_plugin_are_withheld_until_its_last_pod_is_gone_and_what_runs_is_left_alone(
    own: Installation, tmp_path: Path
) -> None:
    api = own.api
    space: Space = open_space(api, "plugin")
    space.create(*sharing("ours", request(memory="1Gi", cel=cards.on(cards.NVIDIA_40))))
    space.running("ours")
    with _plugin(own, tmp_path):
        waiting.wait_for(
            api,
            ACCELERATOR_NODES,
            own.node,
            lambda one: _unpublished(one).keys() == NVIDIA,
            what="withholds the plugin's cards",
        )
        own.wait_slices(
            lambda _: _offered(own) == set(own.devices) - NVIDIA, what="other vendors' cards are offered"
        )
        found = api.get(ACCELERATOR_NODES, own.node)
        assert all(GPU in sentence for sentence in _unpublished(found).values())
        # What runs goes on, and what the plugin gives is not ours to touch.
        assert waiting.running(space.pod("ours"))
        theirs = container("app")
        theirs["resources"] = {"limits": {GPU: "1"}}
        space.create(
            {
                "kind": PODS.kind,
                "metadata": {"name": "theirs"},
                "spec": {"containers": [theirs], "terminationGracePeriodSeconds": 1},
            }
        )
        space.running("theirs")
        assert "resourceClaims" not in space.pod("theirs")["spec"]
    waiting.wait_for(
        api,
        ACCELERATOR_NODES,
        own.node,
        lambda one: (
            _unpublished(one).keys() == NVIDIA
            and all("Pods still hold" in said for said in _unpublished(one).values())
        ),
        what="waits for the plugin's last pod",
    )
