import asyncio
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest

from driver.api.base import decode
from driver.api.policy import (
    AcceleratorPolicySpec,
    EffectivePolicy,
    NamedPolicy,
    effective_policy,
)
from driver.api.share_config import ShareConfig
from driver.cards import Card, Fault, IsolationLevel, Partition
from driver.cdi import ContainerEdits
from driver.errors import ConfigError, DeviceGoneError
from driver.host import Host
from driver.isolation.base import Availability
from driver.isolation.none import NoIsolation
from driver.shares import Share
from driver.vendors.base import CardHealth, Discovery
from kubelet_plugin import inventory
from kubelet_plugin.inventory import Inventory, Snapshot
from kubelet_plugin.metrics import Metrics
from kubelet_plugin.policy_source import PolicyView
from tests.support.memory_host import MemoryHost
from tests.support.node_world import card

pytestmark = pytest.mark.asyncio


def policy(**settings: object) -> EffectivePolicy:
    spec = decode(AcceleratorPolicySpec, {"isolation": ["none"], **settings})
    return effective_policy([NamedPolicy(name="p", spec=spec)], node_labels={})


class Policies:
    def __init__(self, found: EffectivePolicy | None = None) -> None:
        self.now: PolicyView | ConfigError = PolicyView(policy=found or policy())

    def view(self, **_: object) -> PolicyView:
        if isinstance(self.now, ConfigError):
            raise self.now
        return self.now

    async def run(self, changed: Callable[[], None]) -> None:
        changed()


class TestVendor:
    __test__ = False

    def __init__(self, name: str = "nvidia", *cards: Card) -> None:
        self._name = name
        self.found: Discovery | Exception = Discovery(cards=cards)
        self.gate = threading.Event()
        self.gate.set()
        self.asked = 0

    @property
    def name(self) -> str:
        return self._name

    def discover(self, host: Host) -> Discovery:
        self.asked += 1
        self.gate.wait(60)
        if isinstance(self.found, Exception):
            raise self.found
        return self.found

    def edits(self, card: Card, *, host: Host) -> ContainerEdits:
        return ContainerEdits(env={"FOUND_BY": self._name})

    def health(self, cards: Sequence[Card], *, host: Host) -> tuple[CardHealth, ...]:
        if isinstance(self.found, Exception):
            raise self.found
        return tuple(CardHealth(name=found.name, health="Healthy") for found in cards)


def made(
    *vendors: TestVendor,
    policies: Policies | None = None,
    withheld: Callable[[str], str] = lambda _vendor: "",
) -> Inventory:
    return Inventory(
        vendors=lambda: vendors,
        methods={IsolationLevel.NONE: NoIsolation()},
        host=MemoryHost({}),
        policies=policies or Policies(),
        metrics=Metrics(),
        withheld=withheld,
    )


async def test_cards_of_all_vendors_are_known_after_one_look() -> None:
    found = made(TestVendor("nvidia", card("a")), TestVendor("ascend", card("b")))
    assert not found.ready.is_set()
    await found.refresh()
    assert found.ready.is_set()
    assert set(found.cards()) == {"a", "b"}


async def test_the_policy_shapes_the_cards() -> None:
    policies = Policies(policy(reservedMemory="200Mi", sharing=False))
    found = made(TestVendor("nvidia", card("a", mib=1000)), policies=policies)
    await found.refresh()
    assert found.cards()["a"].memory_mib == 800
    assert not found.cards()["a"].shareable


class Method(NoIsolation):
    def __init__(self, *, memory: bool, cores: bool) -> None:
        self._can = Availability(memory=memory, cores=cores)

    def available(self, *, card: Card, host: Host) -> Availability:
        return self._can


@pytest.mark.parametrize(
    ("memory", "settings", "shareable"),
    [
        # Whoever has a share is limited in memory by MPS, and so comes through its server.
        (True, {"isolation": ["service"]}, True),
        (True, {"isolation": ["none", "service"]}, False),
        # A share without a cap on compute would not.
        (False, {"isolation": ["service", "none"]}, False),
        (False, {"isolation": ["service", "none"], "allowUncapped": False}, True),
        (True, {"isolation": ["none"]}, False),
        (True, {"isolation": ["service"], "sharing": False}, False),
    ],
)
async def test_a_card_for_one_process_is_shared_by_the_one_process_of_mps_alone(
    memory: bool, settings: dict[str, object], shareable: bool
) -> None:
    found = Inventory(
        vendors=lambda: [TestVendor("nvidia", card("a", one_process=True), card("b"))],
        methods={
            IsolationLevel.NONE: NoIsolation(),
            IsolationLevel.SERVICE: Method(memory=memory, cores=True),
        },
        host=MemoryHost({}),
        policies=Policies(policy(**settings)),
        metrics=Metrics(),
    )
    await found.refresh()
    told = {name: one.shareable for name, one in found.cards().items()}
    assert told == {"a": shareable, "b": "sharing" not in settings}
    assert not found.cards()["a"].unpublished


async def test_an_excluded_card_stays_known_but_is_not_offered() -> None:
    policies = Policies(policy(cards=[{"uuid": "U", "excluded": True}]))
    found = made(TestVendor("nvidia", card("a", uuid="U")), policies=policies)
    await found.refresh()
    assert found.cards()["a"].unpublished == "Excluded by policy."


async def test_cards_that_a_device_plugin_offers_stay_known_and_are_not_offered_until_it_is_gone() -> None:
    reasons = {"nvidia": "A device plugin offers them."}
    part = card("a-mig-19-0-1", partition=Partition(card_uuid="U", profile="1g.5gb", exists=True))
    found = made(
        TestVendor("nvidia", card("a"), part, card("c", unpublished="It is cut.")),
        TestVendor("ascend", replace(card("b"), vendor="ascend")),
        policies=Policies(policy(partitions="Static")),
        withheld=lambda vendor: reasons.get(vendor, ""),
    )
    await found.refresh()
    told = {name: one.unpublished for name, one in found.cards().items()}
    withheld = dict.fromkeys(("a", part.name), reasons.pop("nvidia"))
    assert told == {**withheld, "b": "", "c": "It is cut."}
    await found.refresh()
    assert [name for name, one in found.cards().items() if one.unpublished] == ["c"]


async def test_listeners_hear_of_a_look_only_if_it_saw_something_new() -> None:
    vendor = TestVendor("nvidia", card("a"))
    found = made(vendor)
    heard: list[Snapshot] = []
    found.subscribe(heard.append)
    await found.refresh()
    await found.refresh()
    vendor.found = Discovery(cards=(card("a"), card("b")))
    await found.refresh()
    assert [len(snapshot.cards) for snapshot in heard] == [1, 2]


async def test_a_card_that_is_not_listed_any_more_stays_and_is_missing() -> None:
    vendor = TestVendor("nvidia", card("a"), card("b"))
    found = made(vendor)
    await found.refresh()
    vendor.found = Discovery(cards=(card("a"),), problems=("Card b fell off the bus.",))
    await found.refresh()
    assert set(found.cards()) == {"a", "b"}
    assert found.snapshot is not None
    assert found.snapshot.missing == {"b"}
    assert found.snapshot.problems == ("Card b fell off the bus.",)
    assert found.vendor_edits(card("b")).env == {"FOUND_BY": "nvidia"}


async def test_a_card_that_was_taken_away_on_purpose_is_gone_after_the_next_look() -> None:
    vendor = TestVendor("nvidia", card("a"), card("b"))
    vendor.found = Discovery(cards=(card("a"), card("b")), final=True)
    found = made(vendor)
    await found.refresh()
    vendor.found = Discovery(cards=(card("a"),), final=True)
    await found.refresh()
    assert set(found.cards()) == {"a"}
    assert found.snapshot is not None
    assert found.snapshot.missing == frozenset()


async def test_a_fault_is_on_the_card_at_once_and_stays_over_looks() -> None:
    found = made(TestVendor("nvidia", card("a"), card("b")))
    heard: list[Snapshot] = []
    found.subscribe(heard.append)
    await found.refresh()
    fault = Fault(reason="CardLost", message="Lost.", since="2026-01-01T00:00:00Z")
    found.judged({"a": fault})
    assert [(name, one.fault) for name, one in found.cards().items()] == [("a", fault), ("b", None)]
    found.judged({"a": fault})
    await found.refresh()
    found.judged({})
    assert [one.cards["a"].fault for one in heard] == [None, fault, None]


async def test_nothing_is_complete_before_the_cards_health_is_known() -> None:
    found = made(TestVendor("nvidia", card("a")))
    found.await_verdicts()
    await found.refresh()
    assert found.snapshot is not None
    assert not found.snapshot.complete
    found.judged({})
    assert found.snapshot.complete


async def test_a_vendor_that_hangs_holds_nobody_up_and_keeps_its_last_answer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    slow, quick = TestVendor("slow", card("a")), TestVendor("quick", card("b"))
    found = made(slow, quick)
    await found.refresh()
    slow.gate.clear()
    quick.found = Discovery(cards=(card("b"), card("c")))
    # Time enough for the one that answers, on a busy machine too.
    monkeypatch.setattr(inventory, "VENDOR_PATIENCE_S", 2.0)
    await found.refresh()
    monkeypatch.setattr(inventory, "VENDOR_PATIENCE_S", 0.05)
    await found.refresh()
    asked_while_hanging = slow.asked
    slow.gate.set()
    assert set(found.cards()) == {"a", "b", "c"}
    assert asked_while_hanging == 2
    assert found.snapshot is not None
    assert "Looking for cards of slow takes longer" in found.snapshot.problems[0]


async def test_a_vendor_that_fails_keeps_its_cards_and_is_named() -> None:
    vendor = TestVendor("nvidia", card("a"))
    found = made(vendor)
    await found.refresh()
    vendor.found = RuntimeError("bug")
    await found.refresh()
    assert set(found.cards()) == {"a"}
    assert found.snapshot is not None
    assert found.snapshot.problems == ("Looking for cards of nvidia failed: RuntimeError('bug').",)


async def test_two_cards_of_one_name_are_a_problem_and_one_card() -> None:
    found = made(TestVendor("nvidia", card("a", mib=1)), TestVendor("ascend", card("a", mib=2)))
    await found.refresh()
    assert found.cards()["a"].memory_mib == 1
    assert found.snapshot is not None
    assert "Two cards are called a" in found.snapshot.problems[0]


async def test_policies_that_became_unreadable_leave_the_last_good_ones_in_force() -> None:
    policies = Policies(policy(sharing=False))
    found = made(TestVendor("nvidia", card("a")), policies=policies)
    await found.refresh()
    policies.now = ConfigError("not YAML")
    await found.refresh()
    assert not found.cards()["a"].shareable
    assert found.snapshot is not None
    assert found.snapshot.problems == ("not YAML",)


async def test_vendors_that_became_unreadable_leave_their_cards() -> None:
    answers: list[Sequence[TestVendor] | ConfigError] = [
        [TestVendor("nvidia", card("a"))],
        ConfigError("gone"),
    ]

    def vendors() -> Sequence[TestVendor]:
        answer = answers.pop(0)
        if isinstance(answer, ConfigError):
            raise answer
        return answer

    found = Inventory(
        vendors=vendors,
        methods={},
        host=MemoryHost({}),
        policies=Policies(),
        metrics=Metrics(),
    )
    await found.refresh()
    await found.refresh()
    assert set(found.cards()) == {"a"}
    assert found.snapshot is not None
    assert found.snapshot.problems == ("gone",)


async def test_a_card_is_reached_through_the_vendor_that_found_it() -> None:
    # Simulated cards carry the names of real vendors, so the card's own word does not count.
    found = made(TestVendor("simulation", card("a")))
    await found.refresh()
    assert found.vendor_edits(found.cards()["a"]).env == {"FOUND_BY": "simulation"}


async def test_a_card_that_nobody_found_cannot_be_reached() -> None:
    found = made(TestVendor("nvidia"))
    await found.refresh()
    with pytest.raises(DeviceGoneError):
        found.vendor_edits(card("a"))


async def test_shares_are_held_in_the_order_of_the_policy() -> None:
    found = made(TestVendor("nvidia", card("a")))
    await found.refresh()
    share = Share(claim_uid="u", request="r", device="a", memory_mib=10)
    chosen = found.choose(share, card=found.cards()["a"], config=ShareConfig())
    assert chosen.memory is IsolationLevel.NONE
    edits = found.isolation_edits(share, card=card("a"), chosen=chosen, index=0, core_policy="force")
    assert edits == ContainerEdits()
    found.undo(share, chosen=chosen)


async def test_cards_are_told_by_their_vendors() -> None:
    found = made(TestVendor("nvidia", card("a"), card("c")), TestVendor("ascend", card("b")))
    await found.refresh()
    told = {vendor.name: [one.name for one in cards] for vendor, cards in found.by_vendor()}
    assert told == {"nvidia": ["a", "c"], "ascend": ["b"]}


async def test_a_look_that_is_asked_for_happens_before_the_interval_is_over() -> None:
    vendor = TestVendor("nvidia", card("a"))
    found = made(vendor)
    heard = asyncio.Event()
    running = asyncio.create_task(found.run(interval_s=3600))
    await asyncio.wait_for(found.ready.wait(), 60)
    found.subscribe(lambda _snapshot: heard.set())
    vendor.found = Discovery(cards=(card("b"),))
    found.look()
    await asyncio.wait_for(heard.wait(), 60)
    running.cancel()
    assert "b" in found.cards()
