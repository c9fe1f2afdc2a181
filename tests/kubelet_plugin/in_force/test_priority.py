from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from driver.cards import Card, IsolationLevel
from driver.isolation import region as layout
from driver.isolation.preload import Preload, PreloadSettings
from driver.isolation.region import Region
from driver.shares import Share
from kubelet_plugin.host import NodeHost
from kubelet_plugin.in_force.looks import LookGivenUpError
from kubelet_plugin.in_force.priority import THROUGH_S, Turns, Waiting, waits
from kubelet_plugin.in_force.usage import ACTIVE_S, Place, Use, read_uses
from kubelet_plugin.prepare.records import ShareRecord
from tests.driver.isolation import regions
from tests.kubelet_plugin.in_force.hanging import HangingRound

NOW = 1_700_000_000.0
"""The last launch in the regions that tests make."""

PLACE = Place(namespace="ns", pod="pod", container="app", claim="claim", device="card-0")
REGION = Region(
    version=(1, 2),
    uuids=(),
    memory=(),
    cores=(),
    processes=(),
    utilization_switch=1,
    recent_kernel=2,
    priority=1,
    last_kernel=int(NOW),
)


def card(name: str = "card-0", *, allowed: bool = True, percent: int = 5) -> Card:
    return Card(
        name=name,
        vendor="nvidia",
        model="m",
        memory_bytes=1 << 34,
        allow_high_priority=allowed,
        low_priority_percent=percent,
    )


def share(claim: str, *, priority: str = "", device: str = "card-0", cores: int = 30) -> ShareRecord:
    return ShareRecord(
        share=Share(claim_uid=claim, request="gpu", device=device, memory_mib=64, cores_percent=cores),
        pool="n/dragoman",
        cdi_device="d",
        priority=priority,
        memory_level=IsolationLevel.PRELOAD,
        cores_level=IsolationLevel.PRELOAD if cores else None,
    )


def use(record: ShareRecord, *, idle_s: float = 0, claims: int = 1) -> Use:
    """A share and its region.

    Args:
        record: The share.
        idle_s: How long ago it launched a kernel.
        claims: What its region claims its priority is.
    """
    region = replace(REGION, last_kernel=int(NOW - idle_s), priority=claims)
    return Use(place=PLACE, record=record, region=region, path=record.share.claim_uid)


def waiting(*uses: Use, cards: Mapping[str, Card] | None = None) -> set[str]:
    return set(waits(uses, cards={"card-0": card()} if cards is None else cards, now=NOW))


HIGH, LOW = share("high", priority="high"), share("low")


def test_who_does_not_say_that_he_goes_first_waits_while_one_of_high_priority_computes() -> None:
    assert waiting(use(HIGH), use(LOW), use(share("said", priority="low"))) == {"low", "said"}


@pytest.mark.parametrize("idle_s", [ACTIVE_S + 1, 3600, -ACTIVE_S - 1])
def test_nobody_waits_for_one_that_launched_nothing_lately_or_claims_to_in_future(idle_s: float) -> None:
    assert waiting(use(HIGH, idle_s=idle_s), use(LOW)) == set()


def test_two_of_high_priority_do_not_wait_for_each_other() -> None:
    assert waiting(use(HIGH), use(share("other", priority="high"))) == set()


def test_one_of_high_priority_that_is_not_seen_makes_nobody_wait() -> None:
    assert waiting(use(LOW), use(share("other"))) == set()


def test_what_a_container_says_in_its_region_is_no_priority() -> None:
    assert waiting(use(share("liar"), claims=0), use(LOW)) == set()
    assert waiting(use(HIGH, claims=1), use(share("liar"), claims=0)) == {"liar"}


@pytest.mark.parametrize("cards", [{"card-0": card(allowed=False)}, {}])
def test_without_a_policy_that_allows_it_high_counts_as_low(cards: Mapping[str, Card]) -> None:
    assert waiting(use(HIGH), use(LOW), cards=cards) == set()


def test_one_of_high_priority_whose_own_card_does_not_allow_it_waits_like_all_others() -> None:
    cards = {"card-0": card(), "card-1": card("card-1", allowed=False)}
    elsewhere = [share("two", priority="high", device="card-1"), share("two", device="card-0")]
    assert waiting(use(HIGH), *map(use, elsewhere), cards=cards) == {"two"}


def test_a_share_on_another_card_does_not_wait() -> None:
    cards = {"card-0": card(), "card-1": card("card-1")}
    assert waiting(use(HIGH), use(share("far", device="card-1")), cards=cards) == set()


def test_one_of_high_priority_without_a_cap_is_waited_for_and_one_without_a_cap_cannot_wait() -> None:
    uncapped = share("high", priority="high", cores=0)
    assert waiting(use(uncapped), use(LOW), use(share("free", cores=0))) == {"low"}


@pytest.mark.parametrize("level", [IsolationLevel.KERNEL, IsolationLevel.SERVICE, IsolationLevel.NONE, None])
def test_whose_cap_another_method_holds_or_nobody_does_not_wait(level: IsolationLevel | None) -> None:
    assert waiting(use(HIGH), use(replace(LOW, cores_level=level))) == set()


def test_a_region_with_two_cards_waits_if_one_of_them_has_a_busy_share_of_high_priority() -> None:
    cards = {"card-0": card(percent=5), "card-1": card("card-1", percent=20)}
    both = [use(LOW), use(share("low", device="card-1"))]
    assert waits([use(HIGH), *both], cards=cards, now=NOW) == {"low": 5}
    on_both = [use(HIGH), use(share("high", priority="high", device="card-1"))]
    assert waits([*on_both, *both], cards=cards, now=NOW) == {"low": 20}


STEP = 5.0


@dataclass
class Told:
    """For how long one waited and computed, step by step."""

    held_s: float = 0
    free_s: float = 0
    longest_s: float = 0
    _run_s: float = 0

    def step(self, held: bool) -> None:
        self.held_s += STEP * held
        self.free_s += STEP * (not held)
        self._run_s = self._run_s + STEP if held else 0
        self.longest_s = max(self.longest_s, self._run_s)


@pytest.mark.parametrize("percent", [1, 5, 10, 50, 90, 99])
def test_who_always_has_to_wait_computes_for_its_percent_of_the_time(percent: int) -> None:
    turns, told = Turns(), Told()
    for number in range(20_000):
        told.step("low" in turns.step({"low": percent}, now=number * STEP))
    assert abs(100 * told.free_s / (told.held_s + told.free_s) - percent) < 0.5
    assert told.longest_s <= THROUGH_S * (100 - percent) / percent + STEP


def test_at_no_percent_who_has_to_wait_waits() -> None:
    turns = Turns()
    assert all(turns.step({"low": 0}, now=number * STEP) for number in range(20_000))


def test_who_computes_anyhow_is_owed_nothing_more() -> None:
    turns = Turns()
    for number in range(20):
        turns.step({"low": 5}, now=number * STEP)
    for number in range(20, 24):
        turns.step({}, now=number * STEP)
    assert turns.step({"low": 5}, now=24 * STEP)
    assert all(turns.step({"low": 5}, now=number * STEP) for number in range(25, 60))


@settings(deadline=None)
@given(steps=st.lists(st.tuples(st.booleans(), st.floats(1, 60)), max_size=300), percent=st.integers(1, 99))
def test_however_work_comes_and_goes_nobody_waits_longer_than_is_said(
    steps: list[tuple[bool, float]], percent: int
) -> None:
    turns, now, since = Turns(), 0.0, None
    for busy, passes in steps:
        held = turns.step({"low": percent} if busy else {}, now=now)
        assert not held or busy
        since = (now if since is None else since) if held else None
        if since is not None:
            assert now - since <= THROUGH_S * (100 - percent) / percent + 60
        now += passes


class Node:
    """Shares of a node with their regions, and who makes them wait."""

    def __init__(self, root: Path) -> None:
        self.host = NodeHost(root)
        self.root = root
        self.cards = {"card-0": card()}
        self.preload = Preload(
            PreloadSettings(library="/lib.so", files_dir="/files", region_dir="/run/dragoman")
        )
        self.made = self.starts()
        self.clock = 0.0

    def starts(self) -> Waiting:
        self.made = Waiting(self.preload, cards=lambda: self.cards, host=self.host)
        return self.made

    def adds(self, *records: ShareRecord, recent: int = 2) -> None:
        for record in records:
            path = self.root / self.preload.region_of(record.share).lstrip("/")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(regions.made(recent=recent))

    def uses(self, *records: ShareRecord) -> list[Use]:
        return read_uses([(PLACE, one, self.preload.region_of(one.share)) for one in records], host=self.host)

    def round(self, *records: ShareRecord, busy: bool = True) -> dict[str, bool]:
        self.clock += STEP
        now = NOW if busy else NOW + 60
        told = self.made.round(self.uses(*records), now=now, clock=self.clock)
        return {path.split("/")[3]: waits for path, waits in told.items()}

    def waits(self) -> set[str]:
        """Whose regions say that their processes wait."""
        found = set()
        for path in self.preload.regions(host=self.host):
            number = self.host.read_part(path, offset=layout.RECENT_KERNEL, length=4)
            if int.from_bytes(number, "little", signed=True) < 0:
                found.add(path.split("/")[3])
        return found


@pytest.fixture
def node(tmp_path: Path) -> Node:
    found = Node(tmp_path)
    found.adds(HIGH, LOW)
    return found


def test_the_region_of_who_waits_says_so_until_the_other_has_done(node: Node) -> None:
    assert node.round(HIGH, LOW) == {"low": True, "high": False}
    assert node.waits() == {"low"}
    assert node.round(HIGH, LOW, busy=False) == {"low": False, "high": False}
    assert node.waits() == set()


def test_a_round_writes_the_one_number_and_nothing_else(node: Node) -> None:
    path = node.root / "run/dragoman/low/gpu/region/shared.cache"
    before = path.read_bytes()
    node.round(HIGH, LOW)
    after = path.read_bytes()
    assert before[: layout.RECENT_KERNEL] == after[: layout.RECENT_KERNEL]
    assert before[layout.RECENT_KERNEL + 4 :] == after[layout.RECENT_KERNEL + 4 :]


def test_a_policy_that_no_longer_allows_it_lets_everybody_go_in_the_next_round(node: Node) -> None:
    node.round(HIGH, LOW)
    node.cards = {"card-0": card(allowed=False)}
    assert node.round(HIGH, LOW) == {}
    assert node.waits() == set()


@pytest.mark.parametrize("seen", [(HIGH,), (LOW,), ()])
def test_who_is_not_seen_neither_waits_nor_makes_wait(node: Node, seen: tuple[ShareRecord, ...]) -> None:
    node.round(HIGH, LOW)
    node.round(*seen)
    assert node.waits() == set()


def test_who_waits_that_nobody_knows_of_is_let_go_in_any_round(node: Node) -> None:
    node.adds(share("stranger"), recent=-1)
    node.round()
    assert node.waits() == set()


def test_who_began_to_launch_in_that_moment_waits_all_the_same(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = NodeHost.write_part
    written: list[str] = []

    def overwritten_once(self: NodeHost, path: str, content: bytes, *, offset: int) -> None:
        write(self, path, content, offset=offset)
        if not written:
            # A process that had looked before notes its launch.
            write(self, path, (2).to_bytes(4, "little"), offset=offset)
        written.append(path)

    monkeypatch.setattr(NodeHost, "write_part", overwritten_once)
    node.round(HIGH, LOW)
    assert (len(written), node.waits()) == (2, {"low"})


def test_a_round_that_is_given_up_or_overtaken_by_the_end_writes_nothing(node: Node) -> None:
    def given_up() -> None:
        raise LookGivenUpError

    with pytest.raises(LookGivenUpError):
        node.made.round(node.uses(HIGH, LOW), now=NOW, clock=0, goes_on=given_up)
    assert node.waits() == set()
    node.made.end()
    assert node.round(HIGH, LOW) == {}
    assert node.waits() == set()


def test_the_end_waits_for_a_round_under_way_and_leaves_nobody_waiting(node: Node) -> None:
    inside, goes_on = threading.Event(), threading.Event()

    def slow() -> None:
        inside.set()
        assert goes_on.wait(10)

    uses = node.uses(HIGH, LOW)
    late = threading.Thread(target=lambda: node.made.round(uses, now=NOW, clock=0, goes_on=slow))
    late.start()
    assert inside.wait(10)
    ends = threading.Thread(target=node.made.end)
    ends.start()
    goes_on.set()
    late.join(10)
    ends.join(10)
    assert not late.is_alive()
    assert not ends.is_alive()
    assert node.waits() == set()


def test_for_the_time_in_which_nobody_knew_who_computes_nobody_is_owed_anything(node: Node) -> None:
    node.round(HIGH, LOW)
    node.made.let_go(clock=node.clock)
    node.clock += 1000
    node.round(HIGH, LOW)
    assert node.waits() == {"low"}


@pytest.mark.parametrize("how", ["let go", "end"])
def test_a_round_that_hangs_keeps_nobody_from_being_let_go_and_writes_nothing_after_that(
    node: Node, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    node.round(HIGH, LOW)
    uses = node.uses(HIGH, LOW)
    late = HangingRound(
        lambda goes_on: node.made.round(uses, now=NOW, clock=STEP, goes_on=goes_on),
        owner=Preload,
        method="let_go",
        monkeypatch=monkeypatch,
    )
    if how == "end":
        node.made.end()
    else:
        late.give_up()
        node.made.let_go(clock=STEP)
    assert node.waits() == set()
    late.answer()
    assert node.waits() == set()


@pytest.mark.parametrize("how", ["let go", "end"])
def test_a_round_that_hangs_while_it_makes_somebody_wait_leaves_nobody_waiting_after_that(
    node: Node, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    uses = node.uses(HIGH, LOW)
    late = HangingRound(
        lambda goes_on: node.made.round(uses, now=NOW, clock=0, goes_on=goes_on),
        owner=NodeHost,
        method="write_part",
        monkeypatch=monkeypatch,
    )
    if how == "end":
        node.made.end()
    else:
        late.give_up()
        node.made.let_go(clock=STEP)
    late.answer()
    assert node.waits() == set()


def test_where_no_share_has_a_region_nothing_is_done(tmp_path: Path) -> None:
    none = Waiting(None, cards=dict, host=NodeHost(tmp_path))
    assert none.round([], now=NOW, clock=0) == {}
    none.let_go(clock=0)
    none.end()


@settings(max_examples=40, deadline=None)
@given(events=st.lists(st.integers(0, 9), max_size=30))
def test_whatever_happens_no_share_of_high_priority_waits_and_after_the_end_nobody_does(
    events: list[int], tmp_path_factory: pytest.TempPathFactory
) -> None:
    node = Node(tmp_path_factory.mktemp("node"))
    everybody = [HIGH, share("other", priority="high"), LOW, share("more")]
    node.adds(*everybody)
    lost = "run/dragoman/high/gpu/region/shared.cache"

    def policy() -> None:
        node.cards = {"card-0": card(allowed=not node.cards["card-0"].allow_high_priority)}

    def killed() -> None:
        # What its successor does first.
        node.preload.let_go(host=node.host)
        node.starts()

    def stopped() -> None:
        node.made.end()
        node.starts()

    happens: dict[str, Callable[[], object]] = {
        "round": lambda: node.round(*everybody),
        "idle": lambda: node.round(*everybody, busy=False),
        "high is not seen": lambda: node.round(*everybody[1:]),
        "low is not seen": lambda: node.round(*everybody[:-1]),
        "nothing is known": lambda: node.made.let_go(clock=node.clock),
        "policy": policy,
        "killed": killed,
        "stopped": stopped,
        "a container writes its region": lambda: node.adds(LOW, recent=-1),
        "a region is lost": lambda: node.root.joinpath(lost).write_bytes(b""),
    }
    for number in events:
        happens[list(happens)[number % len(happens)]]()
        assert not node.waits() & {"high", "other"}
    node.made.end()
    assert node.waits() == set()
