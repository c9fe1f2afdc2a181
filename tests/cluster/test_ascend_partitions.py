"""vNPUs of Ascend chips on a real cluster: of a chip that an administrator cut, and of one cut as claims ask.

Flow: a node with two 910B3 in its own /sys, /dev and /usr, and an npu-smi that keeps vNPUs in files ->
policies -> slices with shared counters -> pods with vNPUs, shares and whole chips, each where kube-scheduler
finds that no other has that part of the chip -> what each container has -> the agent dies while npu-smi works
-> a pod as people wrote it for HAMi, beside its twin with a claim -> the pods go, and nothing is left.

Limits: device nodes are of a kind that no driver has, and those of all vNPUs that there could be are there
from the start: that a container gets those of its vNPU is shown, and not that a program computes in it, nor
how long a driver takes for a node.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from driver.kube.resources import PODS
from tests.cluster.support import vendor_matrix, waiting
from tests.cluster.support.api import JSON
from tests.cluster.support.images import Images
from tests.cluster.support.manifests import request, sharing
from tests.cluster.support.own_cluster import bare_cluster
from tests.cluster.support.partition_installation import PartitionInstallation
from tests.cluster.support.space import Space, open_space, results
from tests.cluster.support.target import Target
from tests.cluster.test_conversion import legacy
from tests.support.vnpu_node import CHIPS, EXPERIMENTS, HALF, SMALL, Chip, VnpuNode

pytestmark = [pytest.mark.own_cluster, pytest.mark.node]

CUT, ON_DEMAND = CHIPS
SHARED = ["/dev/davinci_manager", "/dev/devmm_svm", "/dev/hisi_hdc"]
"""Nodes that all containers with Ascend have; none of them leads to a chip by itself."""
DYNAMIC = [{"uuid": ON_DEMAND.uuid, "partitions": "Dynamic"}]
FILES = ["/etc/ascend_install.info", "/usr/local/Ascend/driver/lib64", "/usr/local/bin/npu-smi"]


class AscendInstallation(PartitionInstallation):
    """The chart on a node with Ascend chips."""

    def __init__(self, target: Target, *, images: Images, chips: VnpuNode) -> None:
        super().__init__(target, images=images)
        self.chips = chips

    def kill_agent(self) -> None:
        """SIGKILL to the agent; the kubelet starts its container anew."""
        agent = self.agent()
        before = _restarts(agent)
        (first, *_) = self.own_node.container_pids(
            pod_uid=agent["metadata"]["uid"], container=self.agent_container
        )
        self.own_node.signal(first, signal.SIGKILL)
        self.wait_agent(lambda one: _restarts(one) > before)


def _restarts(pod: JSON) -> int:
    return sum(one["restartCount"] for one in pod["status"].get("containerStatuses") or [])


@contextmanager
def _installed(
    images: Images, *, folder: Path, version: str, controller: JSON | None = None
) -> Iterator[AscendInstallation]:
    """The chart on such a node, for as long as the caller needs it; `folder` keeps what the node has."""
    root, writable = folder / "root", folder / "preload"
    root.mkdir()
    writable.mkdir(mode=0o755)
    # What npu-smi keeps lies where the agent of a test may write: it runs in the agent's container.
    chips = VnpuNode(root, writable / "npu").install(nodes=True)
    chips.make(CUT, HALF, 2)
    # This machine's own PCI functions are not the node's.
    os.setxattr(root / "sys/bus/pci/devices", "trusted.overlay.opaque", b"y")
    for path, _, _ in os.walk(root):
        Path(path).chmod(0o755)
    with bare_cluster(purpose="ascend", version=version, laid_over=root) as target:
        images.load(target)
        installed = AscendInstallation(target, images=images, chips=chips)
        installed.host = {"preloadDir": str(writable)}
        installed.controller = dict(controller or {})
        installed.install()
        installed.wait_webhooks()
        yield installed


@pytest.fixture(scope="module")
def own(
    images: Images, kubernetes_version: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[AscendInstallation]:
    folder = tmp_path_factory.mktemp("ascend")
    with _installed(images, folder=folder, version=kubernetes_version) as installed:
        yield installed


def _of(chip: Chip) -> str:
    return f'device.attributes["dragoman.dev"].parentUUID == "{chip.uuid}"'


def _part(chip: Chip, memory: str, *, cores: str | None = None) -> JSON:
    return request(of="partition.dragoman.dev", memory=memory, cores=cores, cel=_of(chip))


def _chip(chip: Chip, memory: str | None) -> JSON:
    uuid = f'device.attributes["dragoman.dev"].uuid == "{chip.uuid}"'
    return request(of="ascend.dragoman.dev", memory=memory, cel=uuid)


def _given(place: Space, pod: str) -> str:
    (one,) = results(place.claim_of(pod))
    return str(one["device"])


def _waits(place: Space, *pods: str) -> None:
    for pod in pods:
        place.event(pod, "cannot allocate all claims", reason="FailedScheduling")
        assert not results(place.claim_of(pod))


def _has(own: AscendInstallation, place: Space, pod: str) -> dict[str, int]:
    """Path and number of a container's own device nodes; all else is as for every container with Ascend."""
    uid = place.pod(pod)["metadata"]["uid"]
    (process,) = own.own_node.container_pids(pod_uid=uid, container="app")
    environment = own.own_node.read_file(f"/proc/{process}/environ").decode().split("\0")
    # So Huawei's runtime adds nothing.
    assert "ASCEND_VISIBLE_DEVICES=void" in environment
    assert not [one for one in environment if one.startswith("ASCEND_") and not one.endswith("=void")]
    seen = place.seen(pod)
    assert not [path for path in FILES if seen.mount(path) is None]
    nodes = [path for path in seen.devices if path.startswith(("/dev/davinci", "/dev/vdavinci", *SHARED))]
    assert set(SHARED) <= set(nodes)
    own_nodes = [path for path in nodes if path not in SHARED]
    found = {}
    for path in own_nodes:
        kind = own.own_node.run("stat", "-c", "%t %T", f"/proc/{process}/root{path}").split()
        assert int(kind[0], 16) == EXPERIMENTS
        found[path] = int(kind[1], 16)
    return found


def _vnpu(chip: Chip, slot: int) -> dict[str, int]:
    """What a container has of a vNPU: its node, by the name that CANN looks for."""
    number = chip.number(slot)
    return {f"/dev/davinci{number}": number}


def _whole(chip: Chip) -> dict[str, int]:
    return {chip.node: chip.physical_id}


def _no_vnpu_is_left(own: AscendInstallation, chip: Chip) -> None:
    waiting.eventually(lambda: own.chips.vnpus(chip) == {} or None, what="no vNPU is left")


def _notes(own: AscendInstallation) -> list[str]:
    names = own.target.node.list_files(own.state_dir / "partitions")
    return [name for name in names if not name.endswith(".lock")]


def test_without_a_policy_a_chip_that_is_cut_is_not_offered(own: AscendInstallation) -> None:
    own.expected = [ON_DEMAND.name]
    own.wait_ready()


def test_with_the_policy_static_the_vnpus_that_are_there_are_devices(own: AscendInstallation) -> None:
    own.offer(CUT.part(HALF, 2), ON_DEMAND.name, partitions="Static")
    part = own.published_as(CUT.part(HALF, 2))
    assert part["capacity"] == {"memory": {"value": "32Gi"}, "cores": {"value": "50"}}
    assert "allowMultipleAllocations" not in part
    told = {name: value.get("string") for name, value in part["attributes"].items()}
    assert (told["profile"], told["parentUUID"], told["vendor"]) == (HALF, CUT.uuid, "ascend")
    assert (told["memoryIsolation"], told["coresIsolation"]) == ("hardware", "hardware")
    assert not any("sharedCounters" in each["spec"] for each in own.slices())


def test_a_container_has_the_administrators_vnpu_and_nothing_else_of_the_chip(
    own: AscendInstallation,
) -> None:
    place = open_space(own.api, "static")
    place.create(*sharing("static", _part(CUT, "20Gi", cores="50")))
    place.running("static")
    assert _given(place, "static") == CUT.part(HALF, 2)
    assert _has(own, place, "static") == _vnpu(CUT, 2)
    place.create(*sharing("second", _part(CUT, "1Gi")))
    _waits(place, "second")
    own.expect_nothing_left(place.close())
    assert own.chips.vnpus(CUT) == {CUT.number(2): HALF}
    assert len(own.chips.changes(CUT)) == 1


@pytest.fixture(scope="module")
def space(own: AscendInstallation) -> Space:
    """From here on the second chip is cut as claims ask."""
    own.offer(
        CUT.part(HALF, 2),
        ON_DEMAND.name,
        *ON_DEMAND.parts,
        partitions="Static",
        cards=DYNAMIC,
    )
    own.wait_slices(
        lambda now: any("sharedCounters" in one["spec"] for one in now), what="counters are published"
    )
    return open_space(own.api, "dynamic")


def test_with_the_policy_dynamic_every_template_draws_on_the_chips_counters_wherever_it_fits(
    own: AscendInstallation, space: Space
) -> None:
    assert space
    (counters,) = [one for each in own.slices() for one in each["spec"].get("sharedCounters") or []]
    assert (counters["name"], len(counters["counters"])) == (ON_DEMAND.name, 4)
    assert own.published_as(CUT.part(HALF, 2)).get("consumesCounters") is None
    for device, slots in ((ON_DEMAND.part(SMALL, 3), 1), (ON_DEMAND.part(HALF, 2), 2), (ON_DEMAND.name, 4)):
        (drawn,) = own.published_as(device)["consumesCounters"]
        assert len(drawn["counters"]) == slots
    assert own.chips.changes(ON_DEMAND) == []


def test_a_vnpu_is_made_for_a_claim_by_the_smallest_template_that_has_what_it_asks(
    own: AscendInstallation, space: Space, kubernetes_version: str
) -> None:
    space.create(*sharing("small", _part(ON_DEMAND, "10Gi")))
    space.running("small")
    device = _given(space, "small")
    assert device == ON_DEMAND.part(SMALL, 3)
    assert own.chips.vnpus(ON_DEMAND) == {ON_DEMAND.number(3): SMALL}
    assert _has(own, space, "small") == _vnpu(ON_DEMAND, 3)
    vendor_matrix.compare_partition(
        "ascend",
        device.removeprefix(f"{ON_DEMAND.name}-"),
        vendor_matrix.of_pod("small", place=space, own=own),
        kubernetes=kubernetes_version,
    )


def test_the_claim_tells_that_the_vnpu_is_seen_in_force(space: Space) -> None:
    def told(claim: JSON) -> JSON:
        conditions = [
            one for each in claim["status"].get("devices") or [] for one in each.get("conditions") or []
        ]
        return next((one for one in conditions if one["type"] == "InForce" and one["status"] == "True"), {})

    name = space.claim_of("small")["metadata"]["name"]
    found = space.wait_claim(name, told, what="tells that its vNPU is in force")
    assert "by hardware: a partition of 16384 MiB" in found["message"]


def test_kube_scheduler_gives_no_ai_core_twice(own: AscendInstallation, space: Space) -> None:
    space.create(*sharing("share", _chip(ON_DEMAND, "1Gi")))
    space.create(*sharing("whole", _chip(ON_DEMAND, None)))
    _waits(space, "share", "whole")
    space.create(*sharing("half", _part(ON_DEMAND, "20Gi")))
    space.running("half")
    assert _given(space, "half") == ON_DEMAND.part(HALF, 0)
    assert _has(own, space, "half") == _vnpu(ON_DEMAND, 0)
    space.create(*sharing("second-half", _part(ON_DEMAND, "20Gi")))
    _waits(space, "second-half", "share", "whole")
    space.create(*sharing("beside", _part(ON_DEMAND, "1Gi")))
    space.running("beside")
    assert _has(own, space, "beside") == _vnpu(ON_DEMAND, 2)
    assert own.chips.vnpus(ON_DEMAND) == {
        ON_DEMAND.number(0): HALF,
        ON_DEMAND.number(2): SMALL,
        ON_DEMAND.number(3): SMALL,
    }


def test_a_vnpu_goes_with_its_pod_and_who_waits_gets_its_ai_cores(
    own: AscendInstallation, space: Space
) -> None:
    uid = space.claim_of("half")["metadata"]["uid"]
    space.delete("half")
    space.running("second-half")
    assert _given(space, "second-half") == ON_DEMAND.part(HALF, 0)
    own.expect_nothing_left([uid])
    assert [line.split()[2] for line in own.chips.changes(ON_DEMAND)][-2:] == ["destroy-vnpu", "create-vnpu"]


def test_a_chip_is_shared_again_when_its_last_vnpu_is_gone_and_not_cut_meanwhile(
    own: AscendInstallation, space: Space
) -> None:
    space.delete("small", "beside", "second-half")
    (first, *_) = space.any_running(["share", "whole"])
    assert own.chips.vnpus(ON_DEMAND) == {}
    assert _has(own, space, first) == _whole(ON_DEMAND)
    space.create(*sharing("late", _part(ON_DEMAND, "1Gi")))
    _waits(space, "late")
    assert own.chips.vnpus(ON_DEMAND) == {}
    space.delete("share", "whole", "late")


def test_an_agent_that_dies_while_npu_smi_works_makes_a_vnpu_once_and_removes_it(
    own: AscendInstallation, space: Space
) -> None:
    before = len(own.chips.changes(ON_DEMAND))
    own.chips.hold_change()
    space.create(*sharing("killed", _part(ON_DEMAND, "20Gi")))
    waiting.eventually(lambda: own.chips.held() or None, what="npu-smi has made it")
    assert len(own.chips.vnpus(ON_DEMAND)) == 1
    own.kill_agent()
    own.chips.let_go()
    space.running("killed")
    (number,) = own.chips.vnpus(ON_DEMAND)
    assert _has(own, space, "killed") == {f"/dev/davinci{number}": number}
    own.chips.hold_change()
    space.api.delete(PODS, "killed", namespace=space.name)
    waiting.eventually(lambda: own.chips.held() or None, what="npu-smi has removed it")
    own.kill_agent()
    own.chips.let_go()
    space.delete("killed")
    _no_vnpu_is_left(own, ON_DEMAND)
    waiting.eventually(lambda: not _notes(own), what="no note is left")
    # What the dead agent left may have been removed before the kubelet asked for it again.
    changes = [line.split()[2] for line in own.chips.changes(ON_DEMAND)[before:]]
    assert changes == ["create-vnpu", "destroy-vnpu"] * (len(changes) // 2)


def test_a_vnpu_outlives_a_new_agent(own: AscendInstallation, space: Space) -> None:
    space.create(*sharing("stays", _part(ON_DEMAND, "10Gi")))
    space.running("stays")
    before = own.chips.changes(ON_DEMAND)
    own.restart_agent_softly()
    rolled = ("rollout", "status", f"daemonset/{own.daemon_set}", "--timeout", "300s")
    own.target.must("kubectl", *rolled, "--namespace", own.namespace)
    assert own.chips.changes(ON_DEMAND) == before
    assert space.pod("stays")["status"]["phase"] == "Running"
    space.delete("stays")
    _no_vnpu_is_left(own, ON_DEMAND)


def _holds_what_its_twin_holds(own: AscendInstallation, space: Space) -> None:
    """Leaves nothing of either."""
    limits = {"huawei.com/Ascend910B3": "1", "huawei.com/Ascend910B3-memory": "20000"}
    use = {"hami.io/use-Ascend910B3-uuid": ON_DEMAND.uuid}
    space.create(legacy("before", limits, annotations=use))
    space.running("before")
    assert own.chips.vnpus(ON_DEMAND) == {ON_DEMAND.number(2): HALF}
    space.create(*sharing("twin", _part(ON_DEMAND, "20000Mi")))
    space.running("twin")
    for pod, slot in (("before", 2), ("twin", 0)):
        assert _given(space, pod) == ON_DEMAND.part(HALF, slot)
        assert _has(own, space, pod) == _vnpu(ON_DEMAND, slot)
    mounts = [[one["target"] for one in space.seen(pod).raw["mounts"]] for pod in ("before", "twin")]
    assert mounts[0] == mounts[1]
    space.create(legacy("third", limits, annotations=use))
    space.event("third", reason="FailedScheduling")
    assert len(own.chips.vnpus(ON_DEMAND)) == 2
    space.delete("before")
    space.running("third")
    assert own.chips.vnpus(ON_DEMAND) == {ON_DEMAND.number(0): HALF, ON_DEMAND.number(2): HALF}
    space.delete("third", "twin")
    _no_vnpu_is_left(own, ON_DEMAND)


def test_a_pod_of_before_holds_the_vnpu_that_its_twin_with_a_claim_holds(
    own: AscendInstallation, space: Space
) -> None:
    _holds_what_its_twin_holds(own, space)


def test_in_the_end_nothing_is_left_but_what_an_administrator_made(
    own: AscendInstallation, space: Space
) -> None:
    own.expect_nothing_left(space.close())
    assert own.chips.vnpus(ON_DEMAND) == {}
    assert own.chips.vnpus(CUT) == {CUT.number(2): HALF}
    assert _notes(own) == []
    assert own.cdi_files() == []
    assert own.state_files() == []
    assert all(line.endswith(": done") for line in own.chips.changes(ON_DEMAND))


def test_where_our_own_allocator_decides_vnpus_need_no_counters_of_the_api_server(
    images: Images, tmp_path: Path
) -> None:
    controller = {"mode": "controller"}
    with _installed(images, folder=tmp_path, version="1.34.4", controller=controller) as own:
        own.offer(CUT.part(HALF, 2), ON_DEMAND.name, *ON_DEMAND.parts, partitions="Static", cards=DYNAMIC)
        assert not any("sharedCounters" in one["spec"] for one in own.slices())
        space = open_space(own.api, "oldnpu")
        _holds_what_its_twin_holds(own, space)
        space.create(*sharing("half", _part(ON_DEMAND, "20Gi")))
        space.running("half")
        assert _has(own, space, "half") == _vnpu(ON_DEMAND, 2)
        space.create(*sharing("share", _chip(ON_DEMAND, "1Gi")))
        space.event("share", reason="NoDevice")
        space.delete("half")
        space.running("share")
        assert own.chips.vnpus(ON_DEMAND) == {}
        assert _has(own, space, "share") == _whole(ON_DEMAND)
        own.expect_nothing_left(space.close())
        assert _notes(own) == []
