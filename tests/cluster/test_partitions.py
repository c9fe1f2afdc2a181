"""MIG instances on a real cluster: cards that are partitioned for good, and cards that are as claims ask.

Flow: a node with two cards of the mock NVML, the first in MIG mode with instances that an administrator made
-> policies -> slices with shared counters -> kube-scheduler gives out instances, shares and whole cards, each
only where no other has the same part of the card -> what a container can open -> the pod goes, and so does
its instance. Then where the API server drops counters.

Limits: the device nodes are /dev/null by other names: that a container gets those of its instance is shown,
and not that a program computes in it.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from driver.kube.resources import ACCELERATOR_NODES, ACCELERATOR_POLICIES
from tests.cluster.support import vendor_matrix, waiting
from tests.cluster.support.api import JSON
from tests.cluster.support.images import Images
from tests.cluster.support.installation import Installation
from tests.cluster.support.manifests import NVIDIA, request, sharing
from tests.cluster.support.own_cluster import bare_cluster
from tests.cluster.support.space import Space, open_space, results
from tests.cluster.support.target import Target
from tests.cluster.test_conversion import legacy
from tests.support.mig_node import P_1G, P_3G, P_4G, UUIDS, MigNode

pytestmark = [pytest.mark.own_cluster, pytest.mark.node]

PARTITION = "partition.dragoman.dev"
STATIC, DYNAMIC = 0, 1
PLACES = 25
"""Places for instances that the mock card has: 7 + 7 + 4 + 3 + 2 + 1 + 1."""


class MigInstallation(Installation):
    """The chart on a node with cards that can be cut into instances."""

    def __init__(self, target: Target, *, images: Images) -> None:
        super().__init__(target, images=images)
        self.expected: list[str] = []
        # Where the agent may write: the mock library keeps its instances beside itself.
        folder = self._kubelet_root / "plugins" / "dragoman.dev" / "driver"
        self.cards = MigNode(Path(folder)).install(modes=(1, 0), nodes=True)
        self.cards.make(STATIC, number=1, profile=P_1G, start=0, size=1)
        self.cards.make(STATIC, number=2, profile=P_3G, start=4, size=4)

    @property
    def devices(self) -> list[str]:
        return sorted(self.expected)

    def values(self, *, image: str = "") -> JSON:
        found = super().values(image=image)
        found["host"] |= {"driverRoot": str(self.cards.root), "mountRoot": False}
        return {**found, "simulated": {}, "controller": {**found["controller"], "replicas": 1}}

    def offer(self, name: str, *devices: str, **settings: object) -> None:
        """Sets the policy, and waits until the slices follow."""
        policy = {
            "apiVersion": "dragoman.dev/v1alpha1",
            "kind": "AcceleratorPolicy",
            "metadata": {"name": name},
            "spec": settings,
        }
        self.api.apply(policy)
        self.expected = list(devices)
        self.wait_all_offered()


@pytest.fixture(scope="module")
def own(images: Images, kubernetes_version: str) -> Iterator[MigInstallation]:
    with bare_cluster(purpose="partitions", version=kubernetes_version) as target:
        images.load(target)
        installed = MigInstallation(target, images=images)
        installed.install()
        yield installed


@pytest.fixture(scope="module")
def place(own: MigInstallation) -> Space:
    return open_space(own.api, "partitions")


def _policy() -> JSON:
    return {
        "apiVersion": "dragoman.dev/v1alpha1",
        "kind": "AcceleratorPolicy",
        "metadata": {"name": "partitions"},
        "spec": {"partitions": "Static", "cards": [{"uuid": UUIDS[DYNAMIC], "partitions": "Dynamic"}]},
    }


def _on(card: int) -> str:
    return f'device.attributes["dragoman.dev"].parentUUID == "{UUIDS[card]}"'


def _part(card: int, memory: str, *, cores: str | None = None) -> JSON:
    return request(of=PARTITION, memory=memory, cores=cores, cel=_on(card))


def _share(memory: str | None) -> JSON:
    return request(
        of=NVIDIA, memory=memory, cel=f'device.attributes["dragoman.dev"].uuid == "{UUIDS[DYNAMIC]}"'
    )


def _given(place: Space, pod: str) -> str:
    (one,) = results(place.claim_of(pod))
    return str(one["device"])


def _waits(place: Space, *pods: str) -> None:
    for pod in pods:
        place.event(pod, reason="FailedScheduling")
        assert not results(place.claim_of(pod))


def _opens(own: MigInstallation, card: int, profile: int, start: int) -> list[str]:
    """Device nodes of an instance, by what the mock library and the driver's files say of it."""
    lines = [line.split() for line in own.cards.state.read_text().splitlines()]
    (number,) = (
        words[2]
        for words in lines
        if words[:2] == ["gi", UUIDS[card]] and (int(words[3]), int(words[4])) == (profile, start)
    )
    folder = own.cards.root / f"proc/driver/nvidia/capabilities/gpu{card}/mig/gi{number}"
    minors = [path.read_text().split()[1] for path in (folder / "access", folder / "ci0" / "access")]
    return [f"/dev/nvidia-caps/nvidia-cap{minor}" for minor in minors]


def test_without_a_policy_no_partition_is_offered_and_a_card_in_mig_mode_is_not(own: MigInstallation) -> None:
    own.expected = [own.cards.card(DYNAMIC)]
    own.wait_ready()


def test_with_the_policy_static_the_instances_that_are_there_are_devices(own: MigInstallation) -> None:
    there = own.cards.part(STATIC, P_1G, 0, 1), own.cards.part(STATIC, P_3G, 4, 4)
    own.offer("partitions", own.cards.card(DYNAMIC), *there, partitions="Static")
    devices = {one["name"]: one for each in own.slices() for one in each["spec"].get("devices") or []}
    small = devices[there[0]]
    assert small["attributes"]["profile"] == {"string": "1g.5gb"}
    assert small["attributes"]["memoryIsolation"] == {"string": "hardware"}
    assert small["capacity"] == {"memory": {"value": "4864Mi"}, "cores": {"value": "14"}}
    assert "allowMultipleAllocations" not in small
    assert not any("sharedCounters" in each["spec"] for each in own.slices())


def test_a_container_opens_its_instance_and_no_other(own: MigInstallation, place: Space) -> None:
    place.create(*sharing("static", _part(STATIC, "4Gi", cores="10")))
    place.running("static")
    assert _given(place, "static") == own.cards.part(STATIC, P_1G, 0, 1)
    raw = place.seen("static").raw
    found = [path for path in raw["devices"] if "nvidia" in path]
    assert sorted(found) == sorted(
        ["/dev/nvidia0", "/dev/nvidiactl", "/dev/nvidia-uvm", *_opens(own, STATIC, P_1G, 0)]
    )
    (process,) = own.own_node.container_pids(pod_uid=place.pod("static")["metadata"]["uid"], container="app")
    environment = own.own_node.read_file(f"/proc/{process}/environ").decode().split("\0")
    assert "NVIDIA_VISIBLE_DEVICES=void" in environment


def test_a_limited_share_of_another_card_beside_an_instance_is_refused_by_name(
    own: MigInstallation, place: Space
) -> None:
    part = request("part", of=PARTITION, memory="4Gi", cores="10", cel=_on(STATIC))
    share = request(
        "share", memory="1Gi", cel=f'device.attributes["dragoman.dev"].uuid == "{UUIDS[DYNAMIC]}"'
    )
    place.create(*sharing("both", part, share))
    told = place.event("both", reason="PartitionBesideShare")
    assert "beside a partition of a card (request part)" in told
    place.delete("both")
    assert len(own.cards.instances(STATIC)) == 2


def test_an_administrators_instance_outlives_the_pod(own: MigInstallation, place: Space) -> None:
    before = own.cards.instances(STATIC)
    assert len(before) == 2
    place.delete("static")
    own.expect_nothing_left(place.close())
    assert own.cards.instances(STATIC) == before
    assert own.cards.compute_instances(STATIC) == 2


@pytest.fixture(scope="module")
def space(own: MigInstallation) -> Space:
    """From here on the second card is partitioned as claims ask; its places are read from the slices."""
    own.api.apply(_policy())
    own.wait_slices(
        lambda now: (
            len(own.devices_of(now)) == PLACES + 3 and any("sharedCounters" in one["spec"] for one in now)
        ),
        what="every place is a device",
    )
    return open_space(own.api, "dynamic")


def test_with_the_policy_dynamic_every_place_is_a_device_that_draws_on_the_cards_counters(
    own: MigInstallation, space: Space
) -> None:
    assert space
    sets = [one for each in own.slices() for one in each["spec"].get("sharedCounters") or []]
    assert [one["name"] for one in sets] == [own.cards.card(DYNAMIC)]
    devices = [one for each in own.slices() for one in each["spec"].get("devices") or []]
    drawing = [one for one in devices if one.get("consumesCounters")]
    assert len(drawing) == PLACES + 1
    assert own.cards.instances(DYNAMIC) == []
    offered = own.api.get(ACCELERATOR_NODES, own.node)["status"]["summary"]
    assert (offered["cards"], offered["memory"]) == (3, "65792Mi")


def _before(name: str, memory: str) -> JSON:
    """A pod as people wrote it for HAMi's mode."""
    return legacy(
        name,
        {"nvidia.com/gpu": "1", "nvidia.com/gpumem": memory},
        annotations={"nvidia.com/vgpu-mode": "mig", "nvidia.com/use-gpuuuid": UUIDS[DYNAMIC]},
    )


def _holds_what_its_twin_holds(own: MigInstallation, space: Space) -> None:
    """Leaves nothing of either."""
    space.create(_before("before", "10000"))
    space.running("before")
    assert _given(space, "before") == own.cards.part(DYNAMIC, P_3G, 4, 4)
    space.create(*sharing("twin", _part(DYNAMIC, "10000Mi")))
    space.running("twin")
    # Not before: it could be given a place first that the twin needs.
    space.create(_before("small", "4000"))
    assert _given(space, "twin") in (
        own.cards.part(DYNAMIC, P_3G, 0, 4),
        own.cards.part(DYNAMIC, P_4G, 0, 4),
    )
    assert len(own.cards.instances(DYNAMIC)) == 2
    found = [path for path in space.seen("before").raw["devices"] if "nvidia-cap" in path]
    assert sorted(found) == sorted(_opens(own, DYNAMIC, P_3G, 4))
    space.delete("before")
    space.running("small")
    assert _given(space, "small") == own.cards.part(DYNAMIC, P_1G, 6, 1)
    space.delete("twin", "small")
    waiting.eventually(lambda: own.cards.instances(DYNAMIC) == [] or None, what="no instance is left")


def test_a_pod_of_before_that_names_the_mode_holds_the_instance_that_its_twin_with_a_claim_holds(
    own: MigInstallation, space: Space
) -> None:
    _holds_what_its_twin_holds(own, space)


def test_an_instance_is_made_for_a_claim_the_smallest_that_has_what_it_asks(
    own: MigInstallation, space: Space, kubernetes_version: str
) -> None:
    space.create(*sharing("half", _part(DYNAMIC, "10Gi")))
    space.running("half")
    assert _given(space, "half") == own.cards.part(DYNAMIC, P_3G, 4, 4)
    assert own.cards.instances(DYNAMIC) == [(P_3G, 4)]
    found = [path for path in space.seen("half").raw["devices"] if "nvidia" in path]
    assert sorted(found) == sorted(
        ["/dev/nvidia1", "/dev/nvidiactl", "/dev/nvidia-uvm", *_opens(own, DYNAMIC, P_3G, 4)]
    )
    vendor_matrix.compare_partition(
        "nvidia",
        _given(space, "half").removeprefix(f"{own.cards.card(DYNAMIC)}-"),
        vendor_matrix.of_pod("half", place=space, own=own),
        kubernetes=kubernetes_version,
    )


def test_kube_scheduler_gives_no_part_of_a_card_twice(own: MigInstallation, space: Space) -> None:
    space.create(*sharing("share", _share("1Gi")))
    space.create(*sharing("whole", _share(None)))
    _waits(space, "share", "whole")
    space.create(*sharing("other-half", _part(DYNAMIC, "10Gi")))
    space.running("other-half")
    assert _given(space, "other-half") in (
        own.cards.part(DYNAMIC, P_3G, 0, 4),
        own.cards.part(DYNAMIC, P_4G, 0, 4),
    )
    space.create(*sharing("third", _part(DYNAMIC, "4Gi")))
    _waits(space, "third", "share", "whole")
    assert len(own.cards.instances(DYNAMIC)) == 2


def test_who_waits_gets_what_is_given_back_and_the_instance_is_gone(
    own: MigInstallation, space: Space
) -> None:
    uid = space.claim_of("half")["metadata"]["uid"]
    space.delete("half")
    space.running("third")
    assert (P_3G, 4) not in own.cards.instances(DYNAMIC)
    assert (P_1G, 6) in own.cards.instances(DYNAMIC)
    own.expect_nothing_left([uid])


def test_an_instance_outlives_a_restart_of_the_agent(own: MigInstallation, space: Space) -> None:
    before = own.cards.state.read_text()
    own.restart_agent_softly()
    rolled = ("rollout", "status", f"daemonset/{own.daemon_set}", "--timeout", "120s")
    own.target.must("kubectl", *rolled, "--namespace", own.namespace)
    assert own.cards.state.read_text() == before
    assert space.pod("third")["status"]["phase"] == "Running"


def test_a_card_is_shared_again_when_its_last_instance_is_gone(own: MigInstallation, space: Space) -> None:
    space.delete("other-half", "third")
    running = space.any_running(["share", "whole"])
    assert own.cards.instances(DYNAMIC) == []
    assert f"mode {UUIDS[DYNAMIC]} 0" in own.cards.state.read_text()
    assert "/dev/nvidia1" in space.seen(running[0]).raw["devices"]


def test_while_a_card_is_shared_no_instance_of_it_is_given_out(own: MigInstallation, space: Space) -> None:
    space.create(*sharing("late", _part(DYNAMIC, "1Gi")))
    _waits(space, "late")
    assert own.cards.instances(DYNAMIC) == []


def test_in_the_end_nothing_is_left_but_what_an_administrator_made(
    own: MigInstallation, space: Space
) -> None:
    own.expect_nothing_left(space.close())
    assert own.cards.instances(DYNAMIC) == []
    assert len(own.cards.instances(STATIC)) == 2
    notes = own.target.node.list_files(own.state_dir / "partitions")
    assert [name for name in notes if not name.endswith(".lock")] == []


def test_where_the_api_server_drops_counters_what_would_be_made_is_withheld_and_the_gate_is_named(
    images: Images, kubernetes_version: str
) -> None:
    gates = {"DRAPartitionableDevices": False}
    with bare_cluster(purpose="nocounters", version=kubernetes_version, feature_gates=gates) as target:
        images.load(target)
        own = MigInstallation(target, images=images)
        own.install()
        there = own.cards.part(STATIC, P_1G, 0, 1), own.cards.part(STATIC, P_3G, 4, 4)
        own.offer("partitions", own.cards.card(DYNAMIC), *there, partitions="Dynamic")

        def told(one: JSON) -> bool:
            conditions = one["status"].get("conditions") or []
            return any("DRAPartitionableDevices" in condition["message"] for condition in conditions)

        assert waiting.wait_for(own.api, ACCELERATOR_NODES, own.node, told, what="names the gate")
        space = open_space(own.api, "nocounters")
        space.create(*sharing("static", _part(STATIC, "10Gi")))
        space.create(*sharing("share", _share("1Gi")))
        space.running("static", "share")
        own.expect_nothing_left(space.close())
        own.api.delete(ACCELERATOR_POLICIES, "partitions")


def test_where_our_own_allocator_decides_nothing_depends_on_what_the_api_server_knows_of_counters(
    images: Images,
) -> None:
    with bare_cluster(purpose="oldmig", version="1.34.4") as target:
        images.load(target)
        own = MigInstallation(target, images=images)
        own.controller = {"mode": "controller"}
        own.install()
        own.api.apply(_policy())
        own.wait_slices(lambda now: len(own.devices_of(now)) == PLACES + 3, what="every place is a device")
        assert not any("sharedCounters" in one["spec"] for one in own.slices())
        space = open_space(own.api, "oldmig")
        _holds_what_its_twin_holds(own, space)
        space.create(*sharing("half", _part(DYNAMIC, "10Gi")))
        space.running("half")
        assert own.cards.instances(DYNAMIC) == [(P_3G, 4)]
        space.create(*sharing("share", _share("1Gi")))
        space.event("share", reason="NoDevice")
        space.create(*sharing("other-half", _part(DYNAMIC, "10Gi")))
        space.running("other-half")
        assert len(own.cards.instances(DYNAMIC)) == 2
        space.delete("half", "other-half")
        space.running("share")
        assert own.cards.instances(DYNAMIC) == []
        own.expect_nothing_left(space.close())
