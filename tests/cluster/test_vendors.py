"""Every vendor on a real node: its cards found, published, allocated, given to containers, and taken back.

Flow: one node that has the fixtures of all vendors in its own /sys, /dev and /usr -> the chart as it is
installed anywhere -> for each vendor a pod with a share of one card and a pod with the other card whole, all
at once -> what each container has -> all of them deleted, and nothing left. What was found is one document
(`support.vendor_matrix`), of which docs has the table.
Limits: device nodes of cards are /dev/null by other names, and the vendors' programs and libraries answer
what their fixtures say: that a container can compute is not shown.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from driver.kube.resources import ACCELERATOR_POLICIES
from tests.cluster.support import vendor_matrix, vendor_node
from tests.cluster.support.api import JSON
from tests.cluster.support.images import Images
from tests.cluster.support.installation import Installation
from tests.cluster.support.manifests import request, sharing
from tests.cluster.support.space import open_space, results
from tests.cluster.support.target import of_cluster
from tooling.cluster import api as clusters

pytestmark = [pytest.mark.own_cluster, pytest.mark.node]

VENDORS = vendor_node.vendors()
SHARE = {"memory": "1Gi", "cores": "10"}
LIMITS = {"CUDA_DEVICE_MEMORY_LIMIT_0=1024m", "CUDA_DEVICE_SM_LIMIT_0=10"}
HELD_BY_PRELOAD = {"nvidia"}


class VendorInstallation(Installation):
    """The chart on a node whose cards are not simulated."""

    @property
    def devices(self) -> list[str]:
        return sorted(card["name"] for vendor in VENDORS for card in vendor_node.expected(vendor))

    def values(self, *, image: str = "") -> JSON:
        found = super().values(image=image)
        assert found["host"]["mountRoot"], "this node's root is a shared mount, as on nodes with systemd"
        return {**found, "simulated": {}}


@dataclass
class Given:
    """What one pod had."""

    claim: JSON
    had: JSON
    library: bool

    @property
    def result(self) -> JSON:
        """The one result of the claim's allocation."""
        (one,) = results(self.claim)
        return one


@dataclass
class Shown:
    """All that was seen; pods by vendor and by `share` or `whole`."""

    installed: VendorInstallation
    published: dict[str, JSON]
    given: dict[tuple[str, str], Given]
    left: list[str]


@pytest.fixture(scope="module")
def own(
    images: Images, kubernetes_version: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[VendorInstallation]:
    """Dragoman on a node with cards of all vendors."""
    name = clusters.unique_name("vendors")
    folder = vendor_node.make(tmp_path_factory.mktemp("vendors") / "root")
    try:
        target = of_cluster(clusters.start(name=name, kubernetes=kubernetes_version, laid_over=folder))
        images.load(target)
        installed = VendorInstallation(target, images=images)
        installed.controller = {"replicas": 1}
        installed.install()
        policy = {"metadata": {"name": "all"}, "spec": {"isolation": ["preload", "none"]}}
        installed.api.create(ACCELERATOR_POLICIES, policy)
        installed.wait_ready()
        yield installed
    finally:
        clusters.stop(name)


@pytest.fixture(scope="module")
def shown(own: VendorInstallation) -> Shown:
    """Everything is done once, for all vendors at the same time; the tests look at it."""
    own.wait_slices(_policy_is_there, what="the policy is in what is published")
    published = {device["name"]: device for one in own.slices() for device in one["spec"]["devices"]}
    space = open_space(own.api, "vendors")
    pods = {(vendor, how): f"{vendor}-{how}" for vendor in VENDORS for how in ("share", "whole")}
    for (vendor, how), pod in pods.items():
        space.create(*sharing(pod, _asked(vendor, how)))
    running = {one["metadata"]["name"]: one for one in space.running(*pods.values(), seconds=180)}
    given = {}
    for key, pod in pods.items():
        seen = space.seen(pod)
        (process,) = own.own_node.container_pids(pod_uid=running[pod]["metadata"]["uid"], container="app")
        environment = own.own_node.read_file(f"/proc/{process}/environ")
        had = vendor_matrix.of_container(seen, environment=environment)
        given[key] = Given(claim=space.claim_of(pod), had=had, library=seen.library)
    uids = space.close(seconds=120)
    own.expect_nothing_left(uids, seconds=60)
    regions = own.own_node.run("ls", "-A", str(own.share_dir)).split()
    return Shown(installed=own, published=published, given=given, left=regions)


def _policy_is_there(slices: list[JSON]) -> bool:
    devices = [device for one in slices for device in one["spec"]["devices"]]
    held = {device["attributes"]["memoryIsolation"]["string"] for device in devices}
    return held == {"preload", "none"}


def _card(vendor: str, how: str) -> dict[str, Any]:
    found = vendor_node.expected(vendor)
    return found[0 if how == "share" else -1]


def _asked(vendor: str, how: str) -> JSON:
    of, pci = f"{vendor}.dragoman.dev", _card(vendor, how)["pci"]
    cel = f'device.attributes["resource.kubernetes.io"].pciBusID == "{pci}"'
    return request(of=of, cel=cel, capacity=SHARE if how == "share" else None)


@pytest.mark.parametrize("vendor", VENDORS)
def test_the_cards_are_published_as_they_are(shown: Shown, vendor: str) -> None:
    for card in vendor_node.expected(vendor):
        device = shown.published[card["name"]]
        assert device["attributes"]["vendor"] == {"string": vendor}
        assert device["attributes"]["model"] == {"string": card["model"]}
        assert device["attributes"]["resource.kubernetes.io/pcieRoot"] == {"string": card["root"]}
        assert device["capacity"]["memory"]["value"] == _quantity(card["memoryMiB"])
        held = "preload" if vendor in HELD_BY_PRELOAD else "none"
        assert device["attributes"]["memoryIsolation"] == {"string": held}


@pytest.mark.parametrize("how", ["share", "whole"])
@pytest.mark.parametrize("vendor", VENDORS)
def test_kube_scheduler_gives_what_was_asked_for_of_the_card(shown: Shown, vendor: str, how: str) -> None:
    card, given = _card(vendor, how), shown.given[vendor, how]
    asked = {"share": SHARE, "whole": {"memory": _quantity(card["memoryMiB"]), "cores": "0"}}
    assert given.result["device"] == card["name"]
    assert given.result["consumedCapacity"] == asked[how]


@pytest.mark.parametrize("how", ["share", "whole"])
@pytest.mark.parametrize("vendor", VENDORS)
def test_the_container_has_its_card_and_nothing_of_the_others(shown: Shown, vendor: str, how: str) -> None:
    card, had = _card(vendor, how), shown.given[vendor, how].had
    assert had["devices"] == sorted([*card["own"], *card["shared"]])
    assert set(card.get("env", [])) <= set(had["environment"])
    assert set(card.get("mounts", [])) <= set(had["mounts"])


@pytest.mark.parametrize("vendor", VENDORS)
def test_a_share_is_limited_where_a_method_holds_it_and_a_whole_card_never_is(
    shown: Shown, vendor: str
) -> None:
    share, whole = shown.given[vendor, "share"], shown.given[vendor, "whole"]
    assert (set(share.had["environment"]) >= LIMITS) == (vendor in HELD_BY_PRELOAD)
    assert share.library == (vendor in HELD_BY_PRELOAD)
    assert not whole.library
    assert not any("LIMIT" in one for one in whole.had["environment"])


def test_nothing_is_left_on_the_node_when_the_pods_are_gone(shown: Shown) -> None:
    assert shown.left == []
    assert shown.installed.cdi_files() == []
    assert shown.installed.state_files() == []


def test_what_containers_have_is_what_docs_say(shown: Shown, kubernetes_version: str) -> None:
    found = {
        vendor: {
            "cards": len(vendor_node.expected(vendor)),
            "heldBy": shown.published[_card(vendor, "share")["name"]]["attributes"]["memoryIsolation"][
                "string"
            ],
            **{how: shown.given[vendor, how].had for how in ("share", "whole")},
        }
        for vendor in VENDORS
    }
    vendor_matrix.compare(found, kubernetes=kubernetes_version)


def _held_by(shown: Shown, vendor: str) -> str:
    device = shown.published[_card(vendor, "share")["name"]]
    return str(device["attributes"]["memoryIsolation"]["string"])


def _quantity(mib: int) -> str:
    return f"{mib // 1024}Gi" if mib % 1024 == 0 else f"{mib}Mi"
