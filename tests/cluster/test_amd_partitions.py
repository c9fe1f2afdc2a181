"""Partitions of AMD cards on a real cluster: a card that is cut for good, and one that is cut as claims ask.

Flow: a node with two cards in its own /sys and /dev, the first in mode CPX -> policies -> slices -> pods with
partitions, shares and whole cards, each where kube-scheduler finds that no other has that part of the card or
needs another mode -> what each container has -> the pods go, and nothing is left.

Limits: device nodes are /dev/null by other names. amdgpu is a thread of the test that answers a change of
mode by another topology a moment later; the file of the mode is a link to where the agent of a test may
write, as what is laid over the node's /sys is read-only.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.support import vendor_matrix
from tests.cluster.support.api import JSON
from tests.cluster.support.images import Images
from tests.cluster.support.manifests import request, sharing
from tests.cluster.support.own_cluster import bare_cluster
from tests.cluster.support.partition_installation import PartitionInstallation
from tests.cluster.support.space import Space, open_space, results
from tests.cluster.support.target import Target
from tests.support.amd_node import AmdCard, AmdKernel, AmdNode

pytestmark = [pytest.mark.own_cluster, pytest.mark.node]

CUT, ON_DEMAND = AmdCard(number=0, mode="CPX"), AmdCard(number=1)
FOLDERS = 1 + 2 * 8
KFD = "/dev/kfd"


class AmdInstallation(PartitionInstallation):
    """The chart on a node with AMD cards."""

    def __init__(self, target: Target, *, images: Images, kernel: AmdKernel) -> None:
        super().__init__(target, images=images)
        self.kernel = kernel


@pytest.fixture(scope="module")
def own(
    images: Images, kubernetes_version: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[AmdInstallation]:
    folder = tmp_path_factory.mktemp("amd")
    root, writable = folder / "root", folder / "preload"
    writable.mkdir(mode=0o755)
    node = AmdNode(root, [CUT, ON_DEMAND], folders=FOLDERS).install(nodes=True)
    # This machine's own PCI functions are not the node's.
    os.setxattr(root / "sys/bus/pci/devices", "trusted.overlay.opaque", b"y")
    file = root / ON_DEMAND.function / "current_compute_partition"
    mode = file.rename(writable / "amd-mode")
    file.symlink_to(mode)
    for path, _, _ in os.walk(root):
        Path(path).chmod(0o755)
    kernel = AmdKernel(node, ON_DEMAND, file=mode)
    kernel.start()
    with bare_cluster(purpose="amd", version=kubernetes_version, laid_over=root) as target:
        images.load(target)
        installed = AmdInstallation(target, images=images, kernel=kernel)
        installed.host = {"preloadDir": str(writable)}
        installed.install()
        yield installed
    kernel.over.set()


def _parts(card: AmdCard, mode: str) -> list[str]:
    return [card.part(mode, part) for part in range({"DPX": 2, "QPX": 4, "CPX": 8}[mode])]


def _of(card: AmdCard) -> str:
    return f'device.attributes["dragoman.dev"].parentUUID == "{card.uuid}"'


def _part(card: AmdCard, memory: str, *, cores: str | None = None) -> JSON:
    return request(of="partition.dragoman.dev", memory=memory, cores=cores, cel=_of(card))


def _card(card: AmdCard, memory: str | None) -> JSON:
    uuid = f'device.attributes["dragoman.dev"].uuid == "{card.uuid}"'
    return request(of="amd.dragoman.dev", memory=memory, cel=uuid)


def _given(place: Space, pod: str) -> str:
    (one,) = results(place.claim_of(pod))
    return str(one["device"])


def _has(own: AmdInstallation, place: Space, pod: str) -> list[str]:
    """Device nodes of a container that are a card's; and nobody else adds cards to it."""
    uid = place.pod(pod)["metadata"]["uid"]
    (process,) = own.own_node.container_pids(pod_uid=uid, container="app")
    environment = own.own_node.read_file(f"/proc/{process}/environ").decode().split("\0")
    assert "AMD_VISIBLE_DEVICES=void" in environment
    assert not [one for one in environment if one.startswith(("ROCR_", "HIP_", "HSA_"))]
    return sorted(path for path in place.seen(pod).raw["devices"] if path == KFD or "/dri/" in path)


def _waits(place: Space, *pods: str) -> None:
    for pod in pods:
        # Not what it is told while its claim is not made yet.
        place.event(pod, "cannot allocate all claims", reason="FailedScheduling")
        assert not results(place.claim_of(pod))


def test_without_a_policy_a_card_in_partitions_is_not_offered(own: AmdInstallation) -> None:
    own.expected = [ON_DEMAND.name]
    own.wait_ready()


def test_with_the_policy_static_the_partitions_that_are_there_are_devices_as_they_are(
    own: AmdInstallation,
) -> None:
    own.offer(*_parts(CUT, "CPX"), ON_DEMAND.name, partitions="Static")
    part = own.published_as(CUT.part("CPX", 3))
    assert part["capacity"] == {"memory": {"value": "24574Mi"}, "cores": {"value": "12"}}
    assert "allowMultipleAllocations" not in part
    told = {name: value.get("string") for name, value in part["attributes"].items()}
    assert (told["profile"], told["parentUUID"]) == ("cpx_nps1", CUT.uuid)
    assert (told["memoryIsolation"], told["coresIsolation"]) == ("kernel", "hardware")
    assert not any("sharedCounters" in each["spec"] for each in own.slices())


def test_each_container_has_its_partitions_render_node_and_no_other(own: AmdInstallation) -> None:
    place = open_space(own.api, "static")
    place.create(*sharing("one", _part(CUT, "20Gi", cores="10")))
    place.create(*sharing("two", _part(CUT, "20Gi")))
    place.create(*sharing("share", _card(ON_DEMAND, "1Gi")))
    place.running("one", "two", "share")
    given = {_given(place, pod): _has(own, place, pod) for pod in ("one", "two")}
    assert len(given) == 2
    for name, nodes in given.items():
        assert nodes == sorted([KFD, CUT.render(_parts(CUT, "CPX").index(name))])
    assert _has(own, place, "share") == sorted([KFD, "/dev/dri/card8", ON_DEMAND.render(0)])
    own.expect_nothing_left(place.close())
    assert own.kernel.modes == []


@pytest.fixture(scope="module")
def space(own: AmdInstallation) -> Space:
    """From here on the second card is cut as claims ask."""
    on_demand = [*_parts(ON_DEMAND, "DPX"), *_parts(ON_DEMAND, "QPX"), *_parts(ON_DEMAND, "CPX")]
    own.offer(
        *_parts(CUT, "CPX"),
        ON_DEMAND.name,
        *on_demand,
        partitions="Static",
        cards=[{"uuid": ON_DEMAND.uuid, "partitions": "Dynamic"}],
    )
    own.wait_slices(
        lambda now: any("sharedCounters" in one["spec"] for one in now), what="counters are published"
    )
    return open_space(own.api, "dynamic")


def test_with_the_policy_dynamic_partitions_of_all_modes_draw_on_the_cards_counters(
    own: AmdInstallation, space: Space
) -> None:
    assert space
    (counters,) = [one for each in own.slices() for one in each["spec"].get("sharedCounters") or []]
    assert (counters["name"], len(counters["counters"])) == (ON_DEMAND.name, 7)
    assert own.published_as(CUT.part("CPX", 0)).get("consumesCounters") is None
    assert own.kernel.modes == []


def test_a_card_is_cut_for_the_first_claim_that_asks_for_a_partition(
    own: AmdInstallation, space: Space, kubernetes_version: str
) -> None:
    space.create(*sharing("eighth", _part(ON_DEMAND, "20Gi")))
    space.running("eighth")
    assert own.kernel.modes == ["CPX"]
    device = _given(space, "eighth")
    part = _parts(ON_DEMAND, "CPX").index(device)
    assert _has(own, space, "eighth") == sorted([KFD, ON_DEMAND.render(part)])
    vendor_matrix.compare_partition(
        "amd",
        device.removeprefix(f"{ON_DEMAND.name}-"),
        vendor_matrix.of_pod("eighth", place=space, own=own),
        kubernetes=kubernetes_version,
    )


def test_while_a_partition_is_held_kube_scheduler_gives_out_no_other_mode_and_not_the_card(
    own: AmdInstallation, space: Space
) -> None:
    space.create(*sharing("half", _part(ON_DEMAND, "90Gi")))
    space.create(*sharing("share", _card(ON_DEMAND, "1Gi")))
    space.create(*sharing("whole", _card(ON_DEMAND, None)))
    _waits(space, "half", "share", "whole")
    space.create(*sharing("beside", _part(ON_DEMAND, "20Gi")))
    space.running("beside")
    assert _given(space, "beside") != _given(space, "eighth")
    assert not {*_has(own, space, "beside")} & {*_has(own, space, "eighth")} - {KFD}
    assert own.kernel.modes == ["CPX"]


def test_when_its_last_partition_is_given_back_the_card_is_cut_otherwise_or_whole(
    own: AmdInstallation, space: Space
) -> None:
    space.delete("eighth", "beside")
    (first, *_) = space.any_running(["half", "share", "whole"])
    if first == "half":
        part = _parts(ON_DEMAND, "DPX").index(_given(space, "half"))
        assert _has(own, space, "half") == sorted([KFD, ON_DEMAND.render(part)])
    else:
        assert _has(own, space, first) == sorted([KFD, "/dev/dri/card8", ON_DEMAND.render(0)])
    assert own.kernel.modes == ["CPX", "DPX" if first == "half" else "SPX"]
    space.delete("half", "share", "whole")


def test_after_all_of_them_a_card_that_is_asked_for_as_a_whole_is_whole(
    own: AmdInstallation, space: Space
) -> None:
    space.create(*sharing("all", _card(ON_DEMAND, None)))
    space.running("all")
    assert own.kernel.modes[-1] == "SPX"
    assert _has(own, space, "all") == sorted([KFD, "/dev/dri/card8", ON_DEMAND.render(0)])
    space.create(*sharing("late", _part(ON_DEMAND, "1Gi")))
    _waits(space, "late")


def test_in_the_end_nothing_is_left_of_any_claim(own: AmdInstallation, space: Space) -> None:
    own.expect_nothing_left(space.close())
    assert own.cdi_files() == []
    assert own.state_files() == []
