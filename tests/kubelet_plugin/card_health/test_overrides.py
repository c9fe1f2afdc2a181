"""What a policy says of single cards holds for their partitions too."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from driver.cards import Partition, TaintEffect
from driver.vendors.base import CardFault
from kubelet_plugin.card_health.watch import EVERY_S
from tests.kubelet_plugin.card_health.test_watch import GOOD, Reporting, World, no_threads
from tests.support.node_world import card

__all__ = ["no_threads"]
pytestmark = [pytest.mark.asyncio, pytest.mark.looptime]

PART = "a-mig-9-4-4"


async def faults_of(folder: Path, **override: Any) -> dict[str, TaintEffect]:
    """What an XID that is reported of a card, its instance and another card becomes."""
    vendor = Reporting()
    part = Partition(card_uuid="GPU-a", profile="3g.40gb", exists=True)
    vendor.cards.append(replace(card(PART, uuid=""), shareable=False, partition=part))
    vendor.now[PART] = GOOD
    world = World(folder, vendor=vendor)
    world.policies.settings = {"partitions": "Static", "cards": [{"uuid": "GPU-a", **override}]}
    async with world.running():
        for name in ("a", "b", PART):
            vendor.reports.append(CardFault(name=name, reason="Xid79", message="", certain=True, xid=79))
        await asyncio.sleep(EVERY_S + 1)
        return {name: fault.effect for name, fault in world.faults.items()}


async def test_an_xid_that_is_ignored_for_a_card_is_ignored_for_its_partitions(tmp_path: Path) -> None:
    assert await faults_of(tmp_path, ignoredXids=[79]) == {"b": TaintEffect.NO_SCHEDULE}


async def test_what_a_cards_fault_does_it_does_to_its_partitions(tmp_path: Path) -> None:
    assert await faults_of(tmp_path, unhealthyEffect="NoExecute") == {
        "a": TaintEffect.NO_EXECUTE,
        "b": TaintEffect.NO_SCHEDULE,
        PART: TaintEffect.NO_EXECUTE,
    }
