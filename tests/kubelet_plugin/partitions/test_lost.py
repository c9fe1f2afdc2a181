"""A claim whose instance was lost: it opens no other claim's, whatever number that got."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest

from driver.errors import DragomanError
from kubelet_plugin.prepare.cdi_files import CdiFiles
from kubelet_plugin.prepare.effects import Effects
from tests.driver.vendors.mig_world import P_3G, state
from tests.driver.vendors.nvml_world import UUIDS
from tests.kubelet_plugin.partitions.test_in_agent import HALF, OTHER, Agent
from tests.support.node_world import World, claim, pod, prepare, result

pytestmark = pytest.mark.asyncio

OURS = claim("ours", result(device=HALF, share=""), pods=("ours",), owner="ours")
OTHERS = claim("others", result(device=OTHER, share=""), pods=("others",), owner="others")


class Node:
    """An agent with prepared claims, on the mock's cards."""

    def __init__(self, tmp_path: Path) -> None:
        self.world = World(tmp_path / "world")
        self.agent = Agent(tmp_path, withdraw=CdiFiles(tmp_path / "world" / "cdi").remove)
        self.world.cards = cast("Any", self.agent.inventory)  # the engine needs no more than a CardSource
        for one in (OURS, OTHERS):
            name = one["metadata"]["name"]
            self.world.add(one, pod(name, claims={"gpu": name}))

    def lose_instances(self) -> None:
        state(self.agent.world).write_text(f"mode {UUIDS[0]} 1\n")

    def opens(self, found: Any) -> set[str]:
        """The capability nodes that the claim's containers would get at their next start."""
        if not any(found["metadata"]["uid"] in path.name for path in self.world.cdi_files):
            return set()
        devices = self.world.spec(found)["devices"]
        paths = {node["path"] for device in devices for node in device["containerEdits"]["deviceNodes"]}
        return {path for path in paths if "nvidia-caps" in path}


@pytest.fixture
def node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Node]:
    monkeypatch.setenv("MOCK_NVML_FILE", "")
    found = Node(tmp_path)
    yield found
    found.agent.nvml.close()


async def test_a_container_that_starts_again_does_not_open_what_got_its_instances_number(node: Node) -> None:
    await node.agent.offered()
    async with node.world.engine() as engine:
        await prepare(engine, OURS)
        lost = node.opens(OURS)
        assert len(lost) == 2
        node.lose_instances()
        await prepare(engine, OTHERS)
        assert node.opens(OTHERS) == lost
        assert node.opens(OURS) == set()
        await engine.restore()
        assert len(node.opens(OURS)) == 2
        assert node.opens(OURS).isdisjoint(lost)
        assert node.opens(OTHERS) == lost
    assert len(node.agent.there) == 2


async def test_a_claim_that_is_prepared_again_is_not_answered_with_another_claims_instance(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    await node.agent.offered()
    async with node.world.engine() as engine:
        await prepare(engine, OURS)
        lost = node.opens(OURS)
        node.lose_instances()
        with monkeypatch.context() as patched:
            # As if its file had been put back by somebody at that moment.
            patched.setattr(node.agent.hardware, "_withdraw", lambda _uid: None)
            patched.setattr(CdiFiles, "remove", lambda *_: None)
            await prepare(engine, OTHERS)
        assert node.opens(OURS) == lost
        await prepare(engine, OURS)
        assert len(node.opens(OURS)) == 2
        assert node.opens(OURS).isdisjoint(node.opens(OTHERS))


async def by_hand(node: Node, *, looked: bool) -> tuple[set[str], set[str]]:
    """What opens OURS, on an instance of an administrator's that he removed, and OTHERS, prepared then."""
    made = f"gi {UUIDS[0]} 1 {P_3G} 4 4\nci {UUIDS[0]} 1 0 2 77\n"
    state(node.agent.world).write_text(f"mode {UUIDS[0]} 1\n{made}")
    node.agent.world.card(0, mig="1")
    await node.agent.offered()
    async with node.world.engine() as engine:
        await prepare(engine, OURS)
        before = node.opens(OURS)
        assert len(before) == 2
        node.lose_instances()
        if looked:
            await node.agent.offered()
        await prepare(engine, OTHERS)
        assert node.opens(OTHERS) == before
        return node.opens(OURS), node.opens(OTHERS)


@pytest.mark.parametrize("looked", [False, True])
async def test_a_claim_on_an_administrators_instance_does_not_open_what_got_its_number(
    node: Node, looked: bool
) -> None:
    ours, others = await by_hand(node, looked=looked)
    assert (ours, len(others)) == (set(), 2)


async def test_nor_if_that_was_lost_while_the_other_one_was_made(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Effects, "_withdraw_lost", lambda *_: None)
    ours, _ = await by_hand(node, looked=False)
    assert ours == set()


async def test_its_file_goes_before_the_other_one_is_made(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    vendor = node.agent.vendors[0]
    make = vendor.make_instance

    def make_instance(*what: Any, **more: Any) -> Any:
        seen.append(node.opens(OURS))
        return make(*what, **more)

    monkeypatch.setattr(vendor, "make_instance", make_instance)
    await by_hand(node, looked=False)
    assert seen == [set()]


async def test_an_instance_that_was_made_anew_under_another_number_is_found_by_itself(node: Node) -> None:
    await node.agent.offered()
    async with node.world.engine() as engine:
        await prepare(engine, OURS)
        before = node.opens(OURS)
        made = f"gi {UUIDS[0]} 3 {P_3G} 4 4\nci {UUIDS[0]} 3 0 2 77\n"
        state(node.agent.world).write_text(f"mode {UUIDS[0]} 1\n{made}")
        await engine.restore()
        assert len(node.opens(OURS)) == 2
        assert node.opens(OURS).isdisjoint(before)


async def test_a_lost_partition_that_cannot_be_made_again_leaves_no_file(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    await node.agent.offered()
    async with node.world.engine() as engine:
        await prepare(engine, OURS)
        node.lose_instances()
        monkeypatch.setattr(node.agent.vendors[0], "make_instance", _refuse)
        with pytest.raises(DragomanError):
            await prepare(engine, OURS)
        assert node.opens(OURS) == set()


async def test_while_the_driver_is_not_loaded_nothing_is_started_and_afterwards_the_claim_has_its_own_again(
    node: Node,
) -> None:
    await node.agent.offered()
    async with node.world.engine() as engine:
        await prepare(engine, OURS)
        before = node.opens(OURS)
        node.agent.world.card(0, error="9")
        await engine.restore()
        # What comes back may number its cards otherwise.
        assert node.opens(OURS) == set()
        with pytest.raises(DragomanError) as refused:
            await prepare(engine, OURS)
        assert refused.value.retriable
        node.agent.world.card(0, error="0")
        await engine.restore()
        assert node.opens(OURS) == before
        assert engine.problems == ()


def _refuse(*_: object, **__: object) -> None:
    raise DragomanError("not now")
