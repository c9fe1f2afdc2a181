"""The stand-in for npu-smi refuses what a driver has to, and tells what is there."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from driver.vendors.ascend import Ascend
from kubelet_plugin.host import NodeHost
from tests.support.vnpu_node import CHIPS, HALF, SMALL, Chip, VnpuNode

CHIP, OTHER = CHIPS


@pytest.fixture
def node(tmp_path: Path) -> VnpuNode:
    return VnpuNode(tmp_path / "root", tmp_path / "npu").install()


def _refused(node: VnpuNode, chip: Chip, template: str, slot: int) -> str:
    with pytest.raises(subprocess.CalledProcessError) as refused:
        node.make(chip, template, slot)
    return bytes(refused.value.stdout).decode()


def test_vnpus_are_kept_for_each_chip_with_their_device_nodes(node: VnpuNode) -> None:
    node.make(CHIP, HALF, 2)
    node.make(CHIP, SMALL, 0)
    node.make(OTHER, SMALL, 0)
    assert node.vnpus(CHIP) == {166: HALF, 164: SMALL}
    assert node.vdavinci(CHIP) == ["/dev/vdavinci164", "/dev/vdavinci166"]
    node.remove(CHIP, 2)
    assert (node.vnpus(CHIP), node.vnpus(OTHER)) == ({164: SMALL}, {212: SMALL})
    assert node.vdavinci(CHIP) == ["/dev/vdavinci164"]


def test_a_number_that_is_taken_or_another_chips_and_cores_that_are_not_there_are_refused(
    node: VnpuNode,
) -> None:
    node.make(CHIP, HALF, 0)
    assert "there already" in _refused(node, CHIP, SMALL, 0)
    assert "not one of this chip's" in _refused(node, CHIP, SMALL, 16)
    node.make(CHIP, SMALL, 2)
    assert "5 AI cores are free" in _refused(node, CHIP, HALF, 3)
    assert node.vnpus(CHIP) == {164: HALF, 166: SMALL}


def test_what_is_in_use_or_not_there_is_not_removed(node: VnpuNode) -> None:
    node.make(CHIP, HALF, 0)
    node.use(CHIP.number(0))
    for slot in (0, 1):
        with pytest.raises(subprocess.CalledProcessError):
            node.remove(CHIP, slot)
    node.use()
    node.remove(CHIP, 0)
    assert node.vnpus(CHIP) == {}


def test_an_agent_finds_what_an_administrator_made_through_it(node: VnpuNode) -> None:
    node.make(CHIP, HALF, 2)
    found = Ascend().discover(NodeHost(node.root))
    assert found.problems == ()
    there = [card.name for card in found.cards if card.partition and card.partition.exists]
    assert there == [CHIP.part(HALF, 2)]
