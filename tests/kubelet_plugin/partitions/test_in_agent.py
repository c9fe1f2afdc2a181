"""Partitions in the agent's inventory: from NVML and a policy to what is prepared."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml

from driver.api.share_config import ShareConfig
from driver.cards import IsolationLevel
from driver.isolation.base import ShareContext
from driver.isolation.choose import Chosen
from driver.isolation.hardware import Hardware, PartitionsUnknownError
from driver.isolation.partition_notes import Note
from driver.partitions.base import PartitionBusyError
from driver.shares import Share
from driver.vendors.nvidia import Nvidia
from driver.vendors.nvml import PynvmlNvml
from kubelet_plugin.inventory import Inventory
from kubelet_plugin.metrics import Metrics
from kubelet_plugin.partitions.notes import FileNotes
from kubelet_plugin.policy_source import FilePolicySource
from tests.driver.vendors.driver_root import add_device_nodes, recorded_root
from tests.driver.vendors.mig_world import P_3G, P_4G, add_capabilities, gpu_instances, part, state
from tests.driver.vendors.nvml_world import UUIDS, NvmlWorld, loader
from tests.support.folder_host import FolderHost

pytestmark = pytest.mark.asyncio

HALF, OTHER = part(UUIDS[0], P_3G, 4, 4), part(UUIDS[0], P_4G, 0, 4)
CARD = HALF.partition("-mig-")[0]


class Agent:
    """An inventory with NVIDIA's cards of the mock library."""

    def __init__(self, tmp_path: Path, *, withdraw: Callable[[str], None] = lambda _uid: None) -> None:
        self.world = NvmlWorld(tmp_path / "nvml.txt")
        self.world.card(0, mig="0")
        self.policies = tmp_path / "policies.yaml"
        self.host = FolderHost(tmp_path / "root")
        add_device_nodes(self.host, 0)
        add_capabilities(self.host)
        recorded_root(self.host)
        self.nvml = PynvmlNvml(loader())
        self.hardware = Hardware(
            lambda card, vendor: self.inventory.partitioner(card, vendor),  # noqa: PLW0108 - late
            notes=FileNotes(tmp_path / "notes"),
            withdraw=withdraw,
        )
        self.metrics = Metrics()
        self.vendors = [Nvidia(nvml=self.nvml)]
        self.policy("Dynamic")
        self.inventory = Inventory(
            vendors=lambda: self.vendors,
            methods={self.hardware.level: self.hardware},
            host=self.host,
            policies=FilePolicySource(str(self.policies), node_name="n"),
            metrics=self.metrics,
            withheld=lambda _vendor: self.withheld,
            hardware=self.hardware,
        )
        self.withheld = ""

    def policy(self, partitions: str) -> None:
        document = {
            "apiVersion": "dragoman.dev/v1alpha1",
            "kind": "AcceleratorPolicy",
            "metadata": {"name": "p"},
            "spec": {"partitions": partitions},
        }
        self.policies.write_text(yaml.safe_dump(document))

    async def offered(self) -> list[str]:
        await self.inventory.refresh()
        return [name for name, card in self.inventory.cards().items() if not card.unpublished]

    def prepare(self, device: str, *, memory_mib: int = 0) -> list[str]:
        card = self.inventory.cards()[device]
        share = Share(
            claim_uid="c",
            request="r",
            device=device,
            memory_mib=memory_mib or card.memory_mib,
            whole=not memory_mib,
        )
        chosen = self.inventory.choose(share, card=card, config=ShareConfig())
        limits = self.inventory.isolation_edits(share, card=card, chosen=chosen, index=0, core_policy="force")
        edits = self.inventory.vendor_edits(card) + limits
        return [node.path for node in edits.device_nodes]

    def unprepare(self, device: str) -> None:
        share = Share(claim_uid="c", request="r", device=device, memory_mib=1, whole=True)
        level = IsolationLevel.HARDWARE
        self.inventory.undo(share, chosen=Chosen(memory=level, cores=level))

    @property
    def there(self) -> list[tuple[int, int]]:
        return [(one.profile, one.start) for one in gpu_instances(self.world)]


@pytest.fixture
def agent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Agent]:
    monkeypatch.setenv("MOCK_NVML_FILE", "")
    found = Agent(tmp_path)
    yield found
    found.nvml.close()


async def test_under_the_policy_dynamic_a_partition_is_made_and_the_card_is_whole_again_after_it(
    agent: Agent,
) -> None:
    offered = await agent.offered()
    assert offered[0] == CARD
    assert {HALF, OTHER} < set(offered)
    nodes = agent.prepare(HALF)
    assert agent.there == [(P_3G, 4)]
    assert {"/dev/nvidia0", "/dev/nvidia-caps/nvidia-cap13", "/dev/nvidia-caps/nvidia-cap14"} < set(nodes)
    assert await agent.offered() == offered
    with pytest.raises(PartitionBusyError):
        agent.prepare(CARD)
    agent.unprepare(HALF)
    assert agent.there == []
    assert "/dev/nvidia0" in agent.prepare(CARD)
    assert "mode " in state(agent.world).read_text()
    assert f"mode {UUIDS[0]} 0" in state(agent.world).read_text()


async def test_what_is_told_of_a_node_stays_as_it_is_while_claims_come_and_go(agent: Agent) -> None:
    await agent.offered()
    before = agent.inventory.cards()
    agent.prepare(HALF)
    await agent.offered()
    assert agent.inventory.cards() == before
    agent.unprepare(HALF)
    await agent.offered()
    assert agent.inventory.cards() == before


async def test_the_card_itself_holds_a_partition_whatever_methods_a_policy_names(agent: Agent) -> None:
    await agent.offered()
    card = agent.inventory.cards()[HALF]
    assert (card.memory_isolation, card.cores_isolation) == (IsolationLevel.HARDWARE, IsolationLevel.HARDWARE)
    assert agent.inventory.cards()[CARD].memory_isolation is IsolationLevel.NONE


async def test_a_policy_that_changes_leaves_what_claims_hold(agent: Agent) -> None:
    await agent.offered()
    agent.prepare(HALF)
    for mode in ("Static", "None"):
        agent.policy(mode)
        assert await agent.offered() == []
        assert HALF in agent.inventory.cards()
        assert agent.prepare(HALF)
    agent.unprepare(HALF)
    assert agent.there == []


async def test_after_a_boot_a_claims_instance_is_made_again_under_a_policy_that_gives_out_none(
    agent: Agent,
) -> None:
    await agent.offered()
    agent.prepare(HALF)
    agent.policy("None")
    state(agent.world).unlink()
    await agent.offered()
    assert agent.prepare(HALF)
    assert agent.there == [(P_3G, 4)]


async def test_partitions_are_withheld_with_their_cards(agent: Agent) -> None:
    agent.withheld = "A device plugin offers them."
    assert await agent.offered() == []
    assert {card.unpublished for card in agent.inventory.cards().values()} == {agent.withheld}


async def test_partitions_are_not_counted_as_cards(agent: Agent) -> None:
    await agent.offered()
    text = agent.metrics.render().decode()
    assert 'dragoman_agent_cards{offered="yes",vendor="nvidia"} 1.0' in text


async def test_before_the_first_look_nothing_is_taken_for_hardware_that_was_taken_out(agent: Agent) -> None:
    left = Note(
        claim_uid="c",
        device="ascend-1-vnpu-0-0-1",
        vendor="ascend",
        card_uuid="u",
        boot="the boot before",
        instance="vnpu-100",
    )
    agent.hardware._notes.put(left)
    with pytest.raises(PartitionsUnknownError) as refused:
        agent.unprepare(left.device)
    assert refused.value.retriable
    assert agent.hardware.claims(host=agent.host) == {"c"}
    await agent.offered()
    agent.unprepare(left.device)
    assert agent.hardware.claims(host=agent.host) == frozenset()


async def test_before_the_first_look_it_is_not_known_whether_a_partition_is_there(agent: Agent) -> None:
    await agent.offered()
    agent.prepare(HALF)
    card = agent.inventory.cards()[HALF]
    agent.inventory._snapshot = None
    context = ShareContext(
        card=card, index=0, core_policy="force", claim_uid="c", holds_memory=True, holds_cores=True
    )
    share = Share(claim_uid="c", request="r", device=HALF, memory_mib=1, whole=True)
    told = agent.hardware.in_force(share, context=context, host=agent.host, pid=1)
    assert (told.holds, told.known, told.reason) == (False, False, "PartitionsUnknown")
