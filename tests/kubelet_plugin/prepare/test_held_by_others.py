"""What prepare takes for granted about the other claims of a pod: what was told, or the stricter answer."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from driver.cards import IsolationLevel, Partition
from driver.errors import IsolationError
from driver.isolation.choose import Chosen
from tests.support.node_world import Cards, World, card, claim, container, pod, prepare, result, share_config

if TYPE_CHECKING:
    from pathlib import Path

    from driver.api.share_config import ShareConfig
    from driver.cards import Card
    from driver.shares import Share

pytestmark = pytest.mark.asyncio


class NoMethodFor(Cards):
    """Cards of which one has no method that holds a share of it."""

    def __init__(self, *cards: Card, region: Path, without: str, level: IsolationLevel) -> None:
        super().__init__(*cards, region=region, level=level)
        self.without = without

    def choose(self, share: Share, *, card: Card, config: ShareConfig) -> Chosen:
        if card.name == self.without:
            raise IsolationError("The supervisor is away.")
        return super().choose(share, card=card, config=config)


async def test_a_share_that_nobody_can_say_the_method_of_counts_as_held_by_mps_too(tmp_path: Path) -> None:
    world = World(tmp_path)
    names = ("card-0", "card-1", "card-2")
    world.cards = NoMethodFor(
        *(card(name, pci=f"0000:0{number}:00.0") for number, name in enumerate(names)),
        region=tmp_path / "region",
        without="card-2",
        level=IsolationLevel.SERVICE,
    )
    whole = result(request="whole", device="card-1", memory="1000Mi", share="b")
    ours = claim("ours", result(), whole)
    other = claim("other", result(device="card-2", share="c"))
    containers = (
        container("limited", ("gpu", "gpu")),
        container("both", ("gpu", "whole"), ("more", "")),
    )
    world.add(ours, other, pod(claims={"gpu": "ours", "more": "other"}, containers=containers))
    async with world.engine() as engine:
        with pytest.raises(IsolationError, match="container both would get 2 NVIDIA shares") as refused:
            await prepare(engine, ours)
    assert refused.value.reason == "OneMpsShare"
    assert (world.records, world.cdi_files) == ([], [])


async def test_what_another_claim_was_told_counts_and_not_what_a_policy_says_by_now(tmp_path: Path) -> None:
    world = World(tmp_path)
    strict = {"card-0": "0000:01:00.0", "card-1": "0000:02:00.0"}
    world.cards.found = {name: card(name, pci=pci, allow_uncapped=False) for name, pci in strict.items()}
    config = (share_config("gpu", corePolicy="default"),)
    told = claim("told", result(cores="20"), config=config)
    ours = claim("ours", result(device="card-1", cores="20", share="b"), config=config)
    both = container("app", ("gpu", ""), ("more", ""))
    world.add(told, ours, pod(claims={"gpu": "told", "more": "ours"}, containers=(both,)))
    async with world.engine() as engine:
        await prepare(engine, told)
        # From now on caps may be let go of while nobody else computes.
        world.cards.found = {name: card(name, pci=pci) for name, pci in strict.items()}
        with pytest.raises(IsolationError, match="different core policies") as refused:
            await prepare(engine, ours)
    assert refused.value.reason == "CorePolicyConflict"


async def test_shares_of_different_priority_from_two_claims_in_one_container_are_refused(
    tmp_path: Path,
) -> None:
    world = World(tmp_path)
    world.cards.found = {
        name: card(name, pci=f"0000:0{number}:00.0") for number, name in enumerate(("card-0", "card-1"))
    }
    told = claim("told", result(cores="20"), config=(share_config("gpu", priority="high"),))
    ours = claim("ours", result(device="card-1", cores="20", share="b"))
    both = container("app", ("gpu", ""), ("more", ""))
    world.add(told, ours, pod(claims={"gpu": "told", "more": "ours"}, containers=(both,)))
    async with world.engine() as engine:
        with pytest.raises(IsolationError, match="different priorities") as refused:
            await prepare(engine, told)
        assert refused.value.reason == "PriorityConflict"


async def test_a_limited_share_beside_a_partition_of_another_claim_is_refused(tmp_path: Path) -> None:
    world = World(tmp_path)
    part = card(
        "card-1-mig-19-0-1",
        pci="0000:02:00.0",
        shareable=False,
        partition=Partition(card_uuid="GPU-1", profile="1g.10gb"),
    )
    world.cards.found = {"card-0": card(), part.name: part}
    ours = claim("ours", result())
    other = claim("other", result(device=part.name, share=""))
    both = container("app", ("gpu", ""), ("more", ""))
    world.add(ours, other, pod(claims={"gpu": "ours", "more": "other"}, containers=(both,)))
    async with world.engine() as engine:
        with pytest.raises(IsolationError, match="beside a partition of a card") as refused:
            await prepare(engine, ours)
    assert refused.value.reason == "PartitionBesideShare"
    assert (world.records, world.cdi_files) == ([], [])
