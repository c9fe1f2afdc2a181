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

from tests.cluster.support import vendor_matrix, vendor_node
from tests.cluster.support.api import JSON
from tests.cluster.support.images import Images
from tests.cluster.support.manifests import request, sharing
from tests.cluster.support.probe import Seen
from tests.cluster.support.space import open_space, results
from tests.cluster.support.vendor_installation import VendorInstallation, on_a_node

pytestmark = [pytest.mark.own_cluster, pytest.mark.node]

VENDORS = vendor_node.vendors()
SHARE = {"memory": "1Gi", "cores": "10"}
HELD = {"nvidia": ("preload", "preload"), "ascend": ("preload", "preload"), "amd": ("preload", "none")}
"""What holds memory, and compute, of shares of these vendors' cards; nothing does of the others'."""

LIMITS = {
    "nvidia": {"CUDA_DEVICE_MEMORY_LIMIT_0=1024m", "CUDA_DEVICE_SM_LIMIT_0=10"},
    "ascend": {"NPU_MEM_QUOTA=1024", "NPU_PRIORITY=10", "NPU_FIXED_SHARE_RATIO=1"},
    "amd": {"HIP_DEVICE_MEMORY_LIMIT_0=1024m"},
}
LIBRARIES = {"nvidia": "libvgpu.so", "ascend": "libvnpu.so", "amd": "libamvgpu.so"}
REGIONS = {"nvidia": "shared.cache", "ascend": "vnpu_local_shmem", "amd": "hip.cache"}
INSIDE = "/usr/local/dragoman"


@dataclass
class Given:
    """What one pod had."""

    claim: JSON
    had: JSON
    mapped: set[str]
    region: str

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
    in_force: dict[str, str]


@pytest.fixture(scope="module")
def own(
    images: Images, kubernetes_version: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[VendorInstallation]:
    """Dragoman on a node with cards of all vendors."""
    folder = tmp_path_factory.mktemp("vendors") / "root"
    with on_a_node(images, kubernetes=kubernetes_version, folder=folder) as installed:
        yield installed


@pytest.fixture(scope="module")
def shown(own: VendorInstallation) -> Shown:
    """Everything is done once, for all vendors at the same time; the tests look at it."""
    own.wait_slices(_policy_is_there, what="the policy is in what is published")
    published = {device["name"]: device for one in own.slices() for device in one["spec"]["devices"]}
    space = open_space(own.api, "vendors")
    pods = {(vendor, how): f"{vendor}-{how}" for vendor in VENDORS for how in ("share", "whole")}
    for (vendor, how), pod in pods.items():
        space.create(*sharing(pod, _asked(vendor, how)))
    running = {one["metadata"]["name"]: one for one in space.running(*pods.values())}
    given = {}
    for key, pod in pods.items():
        seen = space.seen(pod)
        (process,) = own.own_node.container_pids(pod_uid=running[pod]["metadata"]["uid"], container="app")
        given[key] = _given(own, seen, process=process, claim=space.claim_of(pod), vendor=key[0])
    in_force = {
        vendor: space.wait_claim(
            given[vendor, "share"].claim["metadata"]["name"],
            _in_force,
            what=f"tells whether the limits of the share of {vendor} are in force",
        )
        for vendor in ("ascend", "amd")
    }
    uids = space.close()
    own.expect_nothing_left(uids)
    regions = own.own_node.run("ls", "-A", str(own.share_dir)).split()
    return Shown(installed=own, published=published, given=given, left=regions, in_force=in_force)


def _given(own: VendorInstallation, seen: Seen, *, process: int, claim: JSON, vendor: str) -> Given:
    node = own.own_node
    maps = node.read_file(f"/proc/{process}/maps").decode().splitlines()
    region = f"{own.share_dir}/{claim['metadata']['uid']}/card/region/{REGIONS.get(vendor, '')}.variables"
    return Given(
        claim=claim,
        had=vendor_matrix.of_container(seen, environment=node.read_file(f"/proc/{process}/environ")),
        mapped={line.split()[-1] for line in maps if INSIDE in line},
        region=node.run("sh", "-c", f"if [ -f {region} ]; then cat {region}; fi"),
    )


def _in_force(claim: JSON) -> str:
    for entry in claim["status"].get("devices") or []:
        for condition in entry.get("conditions") or []:
            told = condition["status"], condition["reason"]
            if condition["type"] == "InForce" and told[1] not in ("CardNotUsedYet", "NoProcess"):
                return " ".join(told)
    return ""


def _policy_is_there(slices: list[JSON]) -> bool:
    devices = [device for one in slices for device in one["spec"]["devices"]]
    held = {_held_by(device)[0] for device in devices if device["attributes"]["vendor"]["string"] in HELD}
    return held == {"preload"}


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
        assert _held_by(device) == HELD.get(vendor, ("none", "none"))


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
    assert set(share.had["environment"]) >= LIMITS.get(vendor, set())
    if vendor in HELD:
        assert share.mapped == {f"{INSIDE}/{LIBRARIES[vendor]}", f"{INSIDE}/region/{REGIONS[vendor]}"}
    else:
        assert not share.mapped
    assert not whole.mapped
    assert not any(word in one for one in whole.had["environment"] for word in ("LIMIT", "QUOTA"))


@pytest.mark.parametrize("vendor", ["ascend", "amd"])
def test_the_library_in_the_container_found_the_shares_limits(shown: Shown, vendor: str) -> None:
    found = set(shown.given[vendor, "share"].region.splitlines())
    assert found >= LIMITS[vendor]
    assert found <= set(shown.given[vendor, "share"].had["environment"])


def test_the_agent_sees_that_the_limits_are_in_force_where_the_library_tells(shown: Shown) -> None:
    # Where the library for Ascend keeps the part of the time, each of its releases decides anew.
    assert shown.in_force == {"amd": "True Seen", "ascend": "Unknown LimitsNotSeen"}


def test_nothing_is_left_on_the_node_when_the_pods_are_gone(shown: Shown) -> None:
    # The file by which containers on an Ascend card take turns is nobody's; it goes with the boot.
    assert shown.left == [".cards"]
    assert shown.installed.cdi_files() == []
    assert shown.installed.state_files() == []


def test_what_containers_have_is_what_docs_say(shown: Shown, kubernetes_version: str) -> None:
    found = {
        vendor: {
            "cards": len(vendor_node.expected(vendor)),
            "heldBy": dict(zip(("memory", "cores"), _held_by(_device(shown, vendor)), strict=True)),
            **{how: shown.given[vendor, how].had for how in ("share", "whole")},
        }
        for vendor in VENDORS
    }
    vendor_matrix.compare(found, kubernetes=kubernetes_version)


def _device(shown: Shown, vendor: str) -> JSON:
    return shown.published[_card(vendor, "share")["name"]]


def _held_by(device: JSON) -> tuple[str, str]:
    found = device["attributes"]
    return found["memoryIsolation"]["string"], found["coresIsolation"]["string"]


def _quantity(mib: int) -> str:
    return f"{mib // 1024}Gi" if mib % 1024 == 0 else f"{mib}Mi"
