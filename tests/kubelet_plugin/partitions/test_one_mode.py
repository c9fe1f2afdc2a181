"""AMD's partitions through the agent: its inventory, its guard, its records."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import pytest
import yaml

from driver.api.base import decode
from driver.api.share_config import ShareConfig
from driver.cards import IsolationLevel
from driver.errors import OverCommitError
from driver.isolation.choose import MinimumIsolationError
from driver.isolation.hardware import Hardware, PartitionGoneError
from driver.isolation.none import NoIsolation
from driver.partitions.base import PartitionBusyError
from driver.shares import Share
from driver.vendors.amd import Amd
from kubelet_plugin.inventory import Inventory
from kubelet_plugin.metrics import Metrics
from kubelet_plugin.partitions.notes import FileNotes
from kubelet_plugin.policy_source import FilePolicySource
from tests.support.amd_node import AmdCard, AmdHost
from tests.support.node_world import World, claim, pod, prepare, result, uid_of, unprepare

KFD = "/dev/kfd"


class Node:
    """A node with AMD cards and an agent, which may be another one each time."""

    def __init__(self, root: Path, *cards: AmdCard, partitions: str = "Dynamic") -> None:
        self.root = root
        self.cards = cards or (AmdCard(number=0),)
        self.card = self.cards[0]
        (root / "node").mkdir()
        self.host = AmdHost(root / "node", *self.cards)
        self.world = World(root / "world")
        self.boot = root / "boot_id"
        self.boot.write_text("first\n")
        self.policies = root / "policies.yaml"
        self.policy(partitions)
        self.start()

    def policy(self, partitions: str) -> None:
        document = {
            "apiVersion": "dragoman.dev/v1alpha1",
            "kind": "AcceleratorPolicy",
            "metadata": {"name": "p"},
            "spec": {"partitions": partitions, "isolation": ["none"]},
        }
        self.policies.write_text(yaml.safe_dump(document))

    def start(self) -> None:
        """A new agent, which remembers nothing but what is on the disk."""
        hardware = Hardware(
            lambda card, vendor: self.inventory.partitioner(card, vendor),  # noqa: PLW0108 - late
            notes=FileNotes(self.root / "notes", boot_id=self.boot),
        )
        self.inventory = Inventory(
            vendors=lambda: [vendor],
            methods={hardware.level: hardware, IsolationLevel.NONE: NoIsolation()},
            host=self.host,
            policies=FilePolicySource(str(self.policies), node_name="n"),
            metrics=Metrics(),
            hardware=hardware,
        )
        vendor = Amd()
        self.world.cards = cast("Any", self.inventory)

    async def offered(self) -> list[str]:
        await self.inventory.refresh()
        return [name for name, card in self.inventory.cards().items() if not card.unpublished]

    async def prepare(self, name: str, device: str, *, memory: str | None = None) -> list[str]:
        """Prepares a claim for a device; paths of what its containers may open."""
        await self.inventory.refresh()
        wanted = self.claim(name, device, memory=memory)
        self.world.add(wanted, pod(f"pod-{name}", claims={"gpu": name}))
        async with self.world.engine() as engine:
            await prepare(engine, wanted)
        return self.nodes(name)

    async def unprepare(self, name: str) -> None:
        async with self.world.engine() as engine:
            await unprepare(engine, self.claim(name, ""))

    async def restore(self) -> None:
        """What the agent does every few seconds: puts back what is not as it was."""
        await self.inventory.refresh()
        async with self.world.engine() as engine:
            await engine.restore()

    def claim(self, name: str, device: str, *, memory: str | None = None) -> Any:
        share = {"memory": memory} if memory else {"share": ""}
        return claim(name, result(device=device, **share), pods=(f"pod-{name}",), owner=f"pod-{name}")

    def nodes(self, name: str) -> list[str]:
        devices = self.world.spec({"metadata": {"uid": uid_of(name)}})["devices"]
        return sorted({one["path"] for each in devices for one in each["containerEdits"]["deviceNodes"]})

    def reboot(self) -> None:
        for card in self.cards:
            card.mode = "SPX"
            self.host.node.tell(card)
        self.host.node.topology()
        self.boot.write_text(f"{self.boot.read_text().strip()}x\n")
        self.start()


@pytest.fixture
def node(tmp_path: Path) -> Node:
    return Node(tmp_path)


@pytest.mark.asyncio
async def test_under_static_each_partition_that_is_there_is_given_to_one_claim(tmp_path: Path) -> None:
    node = Node(tmp_path, AmdCard(number=0, mode="CPX"), AmdCard(number=1), partitions="Static")
    parts = [node.card.part("CPX", part) for part in range(8)]
    assert sorted(await node.offered()) == sorted([*parts, node.cards[1].name])
    for part, name in enumerate(parts):
        assert await node.prepare(f"c{part}", name) == sorted([KFD, node.card.render(part)])
    with pytest.raises(OverCommitError):
        await node.prepare("twice", parts[3])
    assert await node.prepare("share", node.cards[1].name, memory="1Gi") == sorted(
        [KFD, "/dev/dri/card8", node.cards[1].render(0)]
    )
    for part in range(8):
        await node.unprepare(f"c{part}")
    await node.unprepare("share")
    assert (node.world.cdi_files, node.world.records, node.host.writes) == ([], [], [])
    assert node.card.mode == "CPX"


@pytest.mark.asyncio
async def test_under_static_no_mode_is_changed(tmp_path: Path) -> None:
    node = Node(tmp_path, AmdCard(number=0, mode="CPX"), partitions="Static")
    await node.prepare("one", node.card.part("CPX", 3))
    node.host.node.switch(node.card, "SPX")
    node.start()
    await node.restore()
    assert node.host.writes == []
    card = node.inventory._asked["amd"].answer.cards
    (gone,) = (one for one in card if one.name == node.card.part("CPX", 3))
    share = Share(claim_uid="u", request="r", device=gone.name, memory_mib=1, whole=True)
    with pytest.raises(PartitionGoneError):
        node.inventory.isolation_edits(
            share,
            card=type(gone)(**{**gone.__dict__, "counters": {}}),
            chosen=node.inventory.choose(share, card=gone, config=ShareConfig()),
            index=0,
            core_policy="force",
        )


@pytest.mark.asyncio
async def test_under_dynamic_the_card_is_cut_for_a_claim_and_whole_again_for_another(node: Node) -> None:
    before = await node.offered()
    assert len(before) == 15
    assert await node.prepare("one", node.card.part("CPX", 3)) == sorted([KFD, node.card.render(3)])
    assert node.card.mode == "CPX"
    assert await node.offered() == before
    assert await node.prepare("two", node.card.part("CPX", 4)) == sorted([KFD, node.card.render(4)])
    for other in (node.card.part("DPX", 1), node.card.part("CPX", 3)):
        with pytest.raises(OverCommitError):
            await node.prepare("other", other)
    for memory in ("1Gi", "196592Mi"):
        with pytest.raises(OverCommitError):
            await node.prepare("share", node.card.name, memory=memory)
    assert len(node.host.writes) == 1
    await node.unprepare("one")
    await node.unprepare("two")
    assert node.card.mode == "CPX"
    assert await node.prepare("share", node.card.name, memory="1Gi") == sorted(
        [KFD, "/dev/dri/card0", node.card.render(0)]
    )
    assert (node.card.mode, len(node.host.writes)) == ("SPX", 2)
    with pytest.raises(OverCommitError):
        await node.prepare("late", node.card.part("CPX", 0))


@pytest.mark.asyncio
async def test_while_a_program_uses_the_card_a_claim_waits(node: Node) -> None:
    node.card.busy = True
    with pytest.raises(PartitionBusyError) as refused:
        await node.prepare("one", node.card.part("CPX", 3))
    assert refused.value.retriable
    node.card.busy = False
    assert await node.prepare("one", node.card.part("CPX", 3))


@pytest.mark.asyncio
async def test_after_a_boot_a_claims_mode_is_set_again(node: Node) -> None:
    nodes = await node.prepare("one", node.card.part("CPX", 3))
    node.reboot()
    await node.restore()
    assert (node.card.mode, node.nodes("one")) == ("CPX", nodes)


@pytest.mark.asyncio
async def test_a_claims_render_node_is_followed_when_the_driver_numbers_anew(node: Node) -> None:
    await node.prepare("one", node.card.part("CPX", 3))
    node.host.add(node.card.render(3).replace("131", "163"))
    text = node.host.local("/sys/class/kfd/kfd/topology/nodes/5/properties")
    assert "drm_render_minor 131" in text.read_text()
    text.write_text(text.read_text().replace("drm_render_minor 131", "drm_render_minor 163"))
    await node.restore()
    assert node.nodes("one") == [f"/dev/dri/renderD{163}", KFD]


@pytest.mark.asyncio
async def test_isolation_of_memory_is_what_the_vendor_says_and_a_minimum_is_held_to_it(node: Node) -> None:
    await node.offered()
    part = node.inventory.cards()[node.card.part("CPX", 0)]
    assert (part.memory_isolation, part.cores_isolation) == (IsolationLevel.KERNEL, IsolationLevel.HARDWARE)
    share = Share(claim_uid="u", request="r", device=part.name, memory_mib=part.memory_mib, whole=True)
    for asked, fits in (("kernel", True), ("hardware", False)):
        config = decode(ShareConfig, {"minimumIsolation": {"memory": asked, "cores": "hardware"}})
        if fits:
            assert node.inventory.choose(share, card=part, config=config).warnings == ()
            continue
        with pytest.raises(MinimumIsolationError, match="is held by kernel"):
            node.inventory.choose(share, card=part, config=config)
        open_to = decode(ShareConfig, {"minimumIsolation": {"memory": asked}, "onUnavailable": "FailOpen"})
        chosen = node.inventory.choose(share, card=part, config=open_to)
        assert "held by kernel" in chosen.warnings[0]
