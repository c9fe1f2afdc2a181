"""The condition that says who allocates a node's cards."""

from datetime import UTC, datetime
from typing import Any

import pytest

from controller.handover import Rest
from controller.publishing.conditions import NOTHING_WITHHELD, Withheld, handed_over
from driver.slices import ExistingSlice
from tests.controller.publishing.test_publisher import POSSIBLE, SILENT, TOO_OLD, World

pytestmark = [pytest.mark.asyncio, pytest.mark.looptime]

UNTIL = datetime(2026, 1, 1, 12, 0, 30, tzinfo=UTC)


def condition_of(world: World) -> tuple[str, str, str] | None:
    found = world.inventories.objects["n1"].handed_over
    return None if found is None else (found.status, found.reason, found.message)


@pytest.mark.parametrize(("fenced", "reason"), [(False, "ToKubeScheduler"), (True, "ToController")])
async def test_it_names_the_one_that_allocates(fenced: bool, reason: str) -> None:
    world = World(fenced=fenced)
    await world.reconcile()
    assert condition_of(world) is not None
    assert condition_of(world)[:2] == ("True", reason)  # type: ignore[index] # asserted above


async def test_it_is_written_together_with_the_other_one_and_only_when_one_of_them_changes() -> None:
    world = World()
    await world.reconcile()
    await world.reconcile()
    (patch,) = [sent for sent in world.transport.writes() if sent.method == "PATCH"]
    assert [one["type"] for one in patch.body["status"]["conditions"]] == ["Published", "HandedOver"]


async def test_while_the_cards_rest_it_says_until_when_and_the_node_is_looked_at_again_then() -> None:
    world = World(fenced=True)
    resting: list[Rest | None] = [Rest(pods=0, until=UNTIL, left_s=17.0)]
    world.publisher._rights.rest = lambda _node: resting[0]
    assert await world.reconcile() == 17.0
    status, reason, message = condition_of(world) or ("", "", "")
    assert (status, reason) == ("False", "KubeSchedulerMayBind")
    assert "from 2026-01-01T12:00:30Z on" in message
    resting[0] = None
    assert await world.reconcile() is None
    assert (condition_of(world) or ())[:2] == ("True", "ToController")


@pytest.mark.parametrize(("pods", "words"), [(1, "for 1 pod "), (3, "for 3 pods ")])
async def test_pods_that_are_waited_for_are_counted_and_not_named(pods: int, words: str) -> None:
    found = handed_over(
        [piece()], fenced=True, rest=Rest(pods=pods, until=UNTIL, left_s=1.0), withheld=NOTHING_WITHHELD
    )
    assert found is not None
    assert words in found.message


def piece(node: str = "") -> ExistingSlice:
    return ExistingSlice(name="s", uid="u", resource_version="1", generation=1, digest="d", node_name=node)


async def test_cards_that_follow_later_are_counted() -> None:
    found = handed_over([piece("n1")], fenced=False, rest=None, withheld=Withheld(2))
    assert found is not None
    assert (found.status, found.reason) == ("False", "ClaimsWithoutShareID")
    assert "2 cards will follow" in found.message


@pytest.mark.parametrize(
    ("fenced", "before"), [(True, "kube-scheduler may"), (False, "The controller alone may")]
)
async def test_slices_of_the_other_allocator_that_are_still_there_say_who_may_use_them(
    fenced: bool, before: str
) -> None:
    world = World(fenced=not fenced)
    await world.reconcile()
    world.allocator(fenced=fenced)
    world.agent(ready=False)
    await world.reconcile()
    status, reason, message = condition_of(world) or ("", "", "")
    assert (status, reason) == ("False", "SlicesNotReplaced")
    assert before in message


async def test_a_scheduler_that_knows_no_shares_is_named_as_what_it_is() -> None:
    found = handed_over([piece("n1")], fenced=False, rest=None, withheld=Withheld(2, unshared=1))
    assert found is not None
    assert (found.status, found.reason) == ("False", "SharesNotKnown")
    assert "older than 1.36" in found.message


async def test_such_a_card_is_withheld_and_the_condition_says_why() -> None:
    world = World()
    world.publisher._rights.unnumbered = lambda _node: {"c-0": 1, "c-1": 1}
    world.publisher._rights.unshared = lambda _node: {"c-1"}
    await world.reconcile()
    assert (condition_of(world) or ())[:2] == ("False", "SharesNotKnown")
    assert world.written == []


@pytest.mark.parametrize("fenced", [True, False])
async def test_what_the_probe_finds_out_changes_no_slices_of_the_mode_that_was_asked_for(
    fenced: bool,
) -> None:
    """An API server is upgraded, or a probe reaches one that is not yet: the mode is what was asked for."""
    world = World(fenced=fenced)
    await world.reconcile()
    before = (world.written, condition_of(world))
    for state in (SILENT, POSSIBLE, TOO_OLD, POSSIBLE) if fenced else (SILENT, POSSIBLE):
        world.mode = state
        await world.reconcile()
    assert (world.written, condition_of(world)) == before


async def test_without_slices_there_is_nothing_to_say() -> None:
    world = World()
    await world.reconcile()
    world.mode = TOO_OLD
    await world.reconcile()
    assert condition_of(world) is None
    assert _types(world) == ["Published"]


def _types(world: World) -> list[Any]:
    patch = [sent for sent in world.transport.writes() if sent.method == "PATCH"][-1]
    return [one["type"] for one in patch.body["status"]["conditions"]]
