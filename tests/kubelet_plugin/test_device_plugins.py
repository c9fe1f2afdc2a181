"""Cards that a device plugin offers as well, on a virtual clock."""

from __future__ import annotations

import asyncio

import pytest

from driver.vendors.catalogue import VENDORS
from driver.vendors.facts import VendorFacts
from kubelet_plugin.device_plugins import SETTLE_S, DevicePlugins
from kubelet_plugin.pod_resources import DevicePluginUse
from tests.support.memory_host import MemoryHost

pytestmark = [pytest.mark.asyncio, pytest.mark.looptime]

FILE = "/state/device-plugins.json"
NOTHING = DevicePluginUse()
NVIDIA = DevicePluginUse(offered=frozenset({"nvidia.com/gpu"}))


class Node:
    """A kubelet that says what the test wants."""

    def __init__(self, answer: DevicePluginUse | None = NOTHING) -> None:
        self.answer = answer
        self.host = MemoryHost({})
        self.changes = 0

    def plugins(self) -> DevicePlugins:
        return DevicePlugins(self._ask, file=FILE, host=self.host, changed=self._changed)

    async def _ask(self) -> DevicePluginUse | None:
        return self.answer

    def _changed(self) -> None:
        self.changes += 1


async def test_without_device_plugins_all_cards_are_offered() -> None:
    node = Node()
    plugins = node.plugins()
    await plugins.look()
    assert plugins.why_not("nvidia") == ""
    assert node.changes == 0


async def test_cards_that_a_plugin_offers_are_withheld_and_those_of_others_are_not() -> None:
    node = Node(NVIDIA)
    plugins = node.plugins()
    await plugins.look()
    assert "nvidia.com/gpu" in plugins.why_not("nvidia")
    assert plugins.why_not("amd") == ""
    assert node.changes == 1


@pytest.mark.parametrize(
    ("name", "vendor"),
    [
        ("nvidia.com/mig-1g.5gb", "nvidia"),
        ("amd.com/cpx_nps4", "amd"),
        ("nvidia.com/gpu.shared", "nvidia"),
        ("volcano.sh/vgpu-number", "nvidia"),
        ("huawei.com/Ascend910B4", "ascend"),
        ("amd.com/gpu", "amd"),
        # The vendors' own plugins, under names that are converted to nothing.
        ("huawei.com/Ascend910", "ascend"),
        ("huawei.com/Ascend310P-2c.1cpu", "ascend"),
        ("huawei.com/npu", "ascend"),
        ("hygon.com/dcu", "hygon"),
        ("iluvatar.com/gpu", "iluvatar"),
        ("iluvatar.ai/gpu", "iluvatar"),
        ("mthreads.com/gpu", "mthreads"),
        ("cambricon.com/mlu370", "cambricon"),
        ("cambricon.com/mlu370.mim-2m.8gb", "cambricon"),
        ("metax-tech.com/gpu", "metax"),
        ("enflame.com/shared-gcu", "enflame"),
        ("kunlunxin.com/xpu", "kunlunxin"),
        ("baidu.com/xpu", "kunlunxin"),
        ("birentech.com/gpu", "biren"),
        ("aws.amazon.com/neurondevice", "neuron"),
        ("vastaitech.com/va", "vastai"),
        ("gpu.intel.com/xe", "intel"),
    ],
)
async def test_plugins_are_known_by_the_names_of_each_vendor(name: str, vendor: str) -> None:
    plugins = Node(DevicePluginUse(offered=frozenset({name}))).plugins()
    await plugins.look()
    assert name in plugins.why_not(vendor)


@pytest.mark.parametrize("name", ["nvidia.com/hostdev", "example.com/gpu", "amd.com/nic", "intel.com/qat"])
async def test_other_devices_of_the_same_maker_withhold_nothing(name: str) -> None:
    plugins = Node(DevicePluginUse(offered=frozenset({name}))).plugins()
    await plugins.look()
    assert [facts.name for facts in VENDORS if plugins.why_not(facts.name)] == []


@pytest.mark.parametrize("facts", VENDORS, ids=lambda facts: facts.name)
async def test_the_plugin_of_each_vendor_withholds_its_cards_and_those_of_no_other(
    facts: VendorFacts,
) -> None:
    assert facts.offered_as
    begun = {f"{name}x" for name in (*facts.offered_as, *facts.plugin_prefixes)}
    asked = {name for entry in facts.legacy for name in entry.names}
    for name in begun | asked:
        plugins = Node(DevicePluginUse(offered=frozenset({name}))).plugins()
        await plugins.look()
        assert [one.name for one in VENDORS if plugins.why_not(one.name)] == [facts.name]


async def test_while_pods_hold_what_a_plugin_gave_them_its_cards_are_withheld_without_it() -> None:
    node = Node(NVIDIA)
    plugins = node.plugins()
    await plugins.look()
    node.answer = DevicePluginUse(held=frozenset({"nvidia.com/gpu"}))
    for _ in range(10):
        await asyncio.sleep(SETTLE_S / 2)
        await plugins.look()
        assert "Pods still hold" in plugins.why_not("nvidia")


async def test_cards_are_offered_once_plugin_and_pods_were_gone_for_a_while() -> None:
    node = Node(NVIDIA)
    plugins = node.plugins()
    await plugins.look()
    node.answer = NOTHING
    await asyncio.sleep(SETTLE_S - 1)
    await plugins.look()
    assert "until a moment ago" in plugins.why_not("nvidia")
    await asyncio.sleep(2)
    await plugins.look()
    assert plugins.why_not("nvidia") == ""


async def test_after_a_boot_the_plugin_is_waited_for() -> None:
    node = Node(NVIDIA)
    await node.plugins().look()
    node.answer = NOTHING
    booted = node.plugins()
    await booted.look()
    assert booted.why_not("nvidia")
    await asyncio.sleep(SETTLE_S + 1)
    await booted.look()
    assert booted.why_not("nvidia") == ""
    again = node.plugins()
    await again.look()
    assert again.why_not("nvidia") == ""


async def test_a_kubelet_that_does_not_answer_after_a_boot_makes_nobody_forget_the_plugin() -> None:
    node = Node(NVIDIA)
    await node.plugins().look()
    node.answer = None
    booted = node.plugins()
    await booted.first()
    assert "until a moment ago" in booted.why_not("nvidia")
    assert booted.why_not("amd") == ""
    node.answer = NOTHING
    await booted.look()
    await asyncio.sleep(SETTLE_S + 1)
    await booted.look()
    assert booted.why_not("nvidia") == ""


async def test_no_answer_changes_nothing() -> None:
    node = Node(NVIDIA)
    plugins = node.plugins()
    await plugins.look()
    node.answer = None
    assert not await plugins.look()
    assert plugins.why_not("nvidia")


async def test_the_first_answer_is_waited_for_and_not_for_ever() -> None:
    node = Node(None)
    began = asyncio.get_running_loop().time()
    await node.plugins().first()
    assert 10 <= asyncio.get_running_loop().time() - began < 12


async def test_it_looks_again_and_again() -> None:
    node = Node()
    plugins = node.plugins()
    running = asyncio.create_task(plugins.run())
    await asyncio.sleep(1)
    node.answer = NVIDIA
    await asyncio.sleep(10)
    running.cancel()
    assert plugins.why_not("nvidia")


@pytest.mark.parametrize("content", ["", "[]", '{"seen": 7}', "\x00"])
async def test_a_file_that_cannot_be_read_is_as_none(content: str) -> None:
    node = Node()
    node.host.write_text(FILE, content)
    plugins = node.plugins()
    await plugins.look()
    assert plugins.why_not("nvidia") == ""
