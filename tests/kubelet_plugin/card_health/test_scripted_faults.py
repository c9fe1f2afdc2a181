"""Each fault that can be scripted on the mock NVML, all the way into the slice and out of it again.

Limits: the chain is the agent's own, from the library's answer to the cards that are published; only the
hold-off is none, so that a recovery takes two looks (its lengths are tested on a virtual clock).
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pynvml
import pytest
import pytest_asyncio

from driver.api.policy import effective_policy
from driver.cards import IsolationLevel
from driver.isolation.none import NoIsolation
from driver.slices import publication_of
from driver.vendors.nvidia import Nvidia
from driver.vendors.nvml import PynvmlNvml
from kubelet_plugin.card_health import book, watch
from kubelet_plugin.card_health.memory import HealthFile
from kubelet_plugin.card_health.watch import HealthWatch
from kubelet_plugin.health import HealthBoard
from kubelet_plugin.inventory import Inventory
from kubelet_plugin.metrics import Metrics
from kubelet_plugin.policy_source import PolicyView
from tests.driver.vendors.driver_root import add_device_nodes
from tests.driver.vendors.nvml_world import NvmlWorld, loader
from tests.support.folder_host import FolderHost
from tests.support.memory_host import MemoryHost

pytestmark = pytest.mark.asyncio


class NoPolicies:
    def view(self, **_: object) -> PolicyView:
        return PolicyView(policy=effective_policy([], node_labels={}))

    async def run(self, changed: Callable[[], None]) -> None:
        changed()


@pytest.fixture
def scripted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[NvmlWorld]:
    monkeypatch.setenv("MOCK_NVML_FILE", "")
    found = NvmlWorld(tmp_path / "nvml")
    found.card(0, recovery="0")
    found.card(1, recovery="0")
    yield found
    with suppress(pynvml.NVMLError):
        while True:
            pynvml.nvmlShutdown()


class Node:
    def __init__(self, folder: Path) -> None:
        self.host = FolderHost(folder / "node")
        add_device_nodes(self.host, 0, 1)
        self.inventory = Inventory(
            vendors=lambda: [Nvidia(nvml=self.nvml)],
            methods={IsolationLevel.NONE: NoIsolation()},
            host=self.host,
            policies=NoPolicies(),
            metrics=Metrics(),
        )
        self.nvml = PynvmlNvml(loader())
        self.watch = HealthWatch(
            self.inventory,
            host=self.host,
            board=HealthBoard(pool="n1/dragoman"),
            file=HealthFile(folder / "health.json", host=MemoryHost({})),
            metrics=Metrics(),
        )

    def taints(self) -> list[str]:
        """The reasons with which the node's cards are tainted, in the order of the cards."""
        cards = list(self.inventory.cards().values())
        (item,) = publication_of(cards, node="n1").slices
        return [(one.get("taints") or [{"value": ""}])[0]["value"] for one in item["spec"]["devices"]]

    async def until(self, wanted: list[str]) -> None:
        """Looks until the slices say so."""
        for _ in range(3000):
            await self.watch.look()
            if self.taints() == wanted:
                return
            await asyncio.sleep(0.02)
        assert self.taints() == wanted


@pytest_asyncio.fixture
async def node(tmp_path: Path, scripted: NvmlWorld, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Node]:
    monkeypatch.setattr(book, "HOLD_OFF_S", 0.0)
    monkeypatch.setattr(watch, "WAIT_S", 0.05)
    monkeypatch.setattr(book, "BELIEVED_AFTER_S", 0.0)
    found = Node(tmp_path)
    await found.inventory.refresh()
    await found.watch.look()
    assert found.taints() == ["", ""]
    yield found


@pytest.mark.parametrize(
    ("fault", "reason", "cure"),
    [
        ({"lost": "1"}, "CardLost", {"lost": "0"}),
        ({"error": "16"}, "ResetRequired", {"error": "0"}),
        ({"error": "18"}, "DriverStale", {"error": "0"}),
        ({"error": "9"}, "DriverMissing", {"error": "0"}),
        ({"remap": "2"}, "RowRemapFailed", {"remap": "0"}),
        ({"remap": "1"}, "RowRemapPending", {"remap": "0"}),
        ({"recovery": "1"}, "RecoveryNeeded", {"recovery": "0"}),
    ],
)
async def test_a_state_is_a_taint_while_it_lasts(
    node: Node, scripted: NvmlWorld, fault: dict[str, str], reason: str, cure: dict[str, str]
) -> None:
    scripted.card(1, **fault)
    await node.until(["", reason])
    scripted.card(1, **cure)
    await node.until(["", ""])


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ({"xids": [(0, 79)]}, "Xid79"),
        ({"xids": [(0, 13), (0, 74)]}, "Xid74"),
        ({"double_bits": [0]}, "DoubleBitError"),
    ],
)
async def test_a_report_is_a_taint_until_the_driver_wants_nothing_done(
    node: Node, scripted: NvmlWorld, script: dict[str, Any], reason: str
) -> None:
    scripted.card(0, recovery="-1")
    listening = asyncio.create_task(node.watch.listen())
    for _ in range(600):
        # Again and again, as what is reported before somebody listens is heard by nobody.
        scripted.xids += script.get("xids", [])
        scripted.double_bits += script.get("double_bits", [])
        scripted.write()
        await asyncio.sleep(0.1)
        if node.taints() != ["", ""]:
            break
        await node.watch.look()
    await node.until([reason, ""])
    scripted.card(0, recovery="0")
    await node.until(["", ""])
    listening.cancel()
    # The last wait's thread still looks into the script of this test.
    for thread in [one for one in threading.enumerate() if one.name == "faults"]:
        await asyncio.to_thread(thread.join, 60)


async def test_a_card_that_is_not_listed_any_more_is_tainted_until_it_is_back(
    node: Node, scripted: NvmlWorld
) -> None:
    gone = scripted.cards.pop()
    scripted.write()
    await node.inventory.refresh()
    await node.until(["", "CardMissing"])
    scripted.cards.append(gone)
    scripted.write()
    await node.inventory.refresh()
    await node.until(["", ""])


async def test_a_device_node_that_vanishes_is_a_taint_until_it_is_back(node: Node) -> None:
    node.host.local("/dev/nvidia0").unlink()
    await node.until(["DeviceNodesMissing", ""])
    add_device_nodes(node.host, 0)
    await node.until(["", ""])
