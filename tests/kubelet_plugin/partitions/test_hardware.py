from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from driver.cards import Card, IsolationLevel
from driver.errors import DeviceGoneError
from driver.isolation.base import ShareContext
from driver.isolation.hardware import (
    REMEMBERED_S,
    Hardware,
    PartitionGoneError,
    PartitionsUnknownError,
    PartitionUnusableError,
)
from driver.isolation.partition_notes import Note
from driver.partitions.base import Instance, PartitionBusyError, PartitionNoRoomError
from driver.shares import Share
from driver.vendors.nvidia import Nvidia
from driver.vendors.nvidia_files import DriverNotReadyError
from driver.vendors.nvml import PynvmlNvml
from kubelet_plugin.partitions.notes import (
    FileNotes,
    PartitionNoteDamagedError,
    PartitionsBusyError,
)
from kubelet_plugin.prepare.durable import NodeStorageError
from tests.driver.vendors.driver_root import add_device_nodes, recorded_root
from tests.driver.vendors.mig_world import P_1G, P_3G, P_4G, add_capabilities, gpu_instances, part, state
from tests.driver.vendors.nvml_world import UUIDS, NvmlWorld, loader
from tests.support.folder_host import FolderHost

HALF, OTHER_HALF = part(UUIDS[0], P_3G, 4, 4), part(UUIDS[0], P_3G, 0, 4)
CLAIM = "0e2f8c9a-0000-4000-8000-000000000001"


class Node:
    """A card, and an agent that may be another one each time."""

    def __init__(self, tmp_path: Path, world: NvmlWorld) -> None:
        world.card(0, mig="1")
        self.world = world
        self.host = FolderHost(tmp_path / "root")
        add_device_nodes(self.host, 0)
        add_capabilities(self.host)
        recorded_root(self.host)
        self.boot = tmp_path / "boot_id"
        self.boot.write_text("first\n")
        self.notes = FileNotes(tmp_path / "notes", lock_wait_s=0.05, boot_id=self.boot)
        self.nvml = PynvmlNvml(loader())
        self.vendor: Nvidia | None = Nvidia(nvml=self.nvml)
        self.now = 0.0
        self.withdrawn: list[str] = []
        self.withdraw: Callable[[str], None] = self.withdrawn.append
        self.hardware = Hardware(
            lambda _card, _vendor: self.vendor,
            notes=self.notes,
            withdraw=lambda uid: self.withdraw(uid),  # noqa: PLW0108 - tests set another one
            clock=lambda: self.now,
        )

    def card(self, name: str = HALF, *, on_demand: bool = True) -> Card:
        assert self.vendor is not None
        (found,) = (card for card in self.vendor.discover(self.host).cards if card.name == name)
        return found if on_demand else replace(found, counters={})

    def prepare(self, name: str = HALF, *, claim: str = CLAIM, on_demand: bool = True) -> list[str]:
        card = self.card(name, on_demand=on_demand)
        edits = self.hardware.edits(share(card, claim=claim), context=context(card), host=self.host)
        return [node.path for node in edits.device_nodes]

    def unprepare(self, name: str = HALF, *, claim: str = CLAIM) -> None:
        gone = Share(claim_uid=claim, request="r", device=name, memory_mib=1, whole=True)
        self.hardware.undo(gone, context=None, host=self.host)

    @property
    def there(self) -> list[tuple[int, int]]:
        return [(one.profile, one.start) for one in gpu_instances(self.world)]

    def made_by_hand(self, *lines: str) -> None:
        state(self.world).write_text("".join(f"{line}\n" for line in lines))

    def reboot(self) -> None:
        state(self.world).unlink(missing_ok=True)
        self.boot.write_text("second\n")


def share(card: Card, *, claim: str = CLAIM) -> Share:
    return Share(claim_uid=claim, request="r", device=card.name, memory_mib=card.memory_mib, whole=True)


def context(card: Card) -> ShareContext:
    return ShareContext(
        card=card, index=0, core_policy="force", claim_uid=CLAIM, holds_memory=True, holds_cores=True
    )


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> NvmlWorld:
    monkeypatch.setenv("MOCK_NVML_FILE", "")
    return NvmlWorld(tmp_path / "nvml.txt")


@pytest.fixture
def node(tmp_path: Path, world: NvmlWorld) -> Iterator[Node]:
    found = Node(tmp_path, world)
    yield found
    found.nvml.close()


HALF_BY_HAND = (f"gi {UUIDS[0]} 1 {P_3G} 4 4", f"ci {UUIDS[0]} 1 0 2 77")


def test_an_instance_is_made_for_a_claim_and_goes_with_it(node: Node) -> None:
    nodes = node.prepare()
    assert node.there == [(P_3G, 4)]
    assert nodes == ["/dev/nvidia-caps/nvidia-cap13", "/dev/nvidia-caps/nvidia-cap14"]
    assert node.prepare() == nodes
    assert node.hardware.claims(host=node.host) == {CLAIM}
    assert node.hardware.ours() == {HALF}
    node.unprepare()
    assert node.there == []
    assert node.hardware.claims(host=node.host) == frozenset()
    node.unprepare()


def test_one_that_was_removed_a_moment_ago_is_not_taken_for_somebody_elses(node: Node) -> None:
    node.prepare()
    node.unprepare()
    assert node.hardware.ours() == {HALF}
    node.now += REMEMBERED_S
    assert node.hardware.ours() == frozenset()


def test_what_somebody_else_made_is_used_and_never_removed(node: Node) -> None:
    node.made_by_hand(*HALF_BY_HAND)
    assert node.prepare()
    node.unprepare()
    assert node.there == [(P_3G, 4)]
    assert node.hardware.claims(host=node.host) == frozenset()


def test_a_static_partition_that_is_gone_is_not_made(node: Node) -> None:
    with pytest.raises(PartitionGoneError, match="not there any more"):
        node.prepare(on_demand=False)
    assert node.there == []


def test_a_partition_that_has_no_room_is_refused_for_good_and_made_once_there_is_some(node: Node) -> None:
    node.made_by_hand(f"gi {UUIDS[0]} 1 {P_4G} 0 4", f"ci {UUIDS[0]} 1 0 3 77")
    for _ in range(2):
        with pytest.raises(PartitionNoRoomError, match="has no room") as refused:
            node.prepare(OTHER_HALF)
        assert not refused.value.retriable
        assert node.there == [(P_4G, 0)]
    node.unprepare(OTHER_HALF)
    assert node.there == [(P_4G, 0)]
    assert node.hardware.claims(host=node.host) == frozenset()
    node.made_by_hand()
    assert node.prepare(OTHER_HALF)
    node.unprepare(OTHER_HALF)
    assert node.there == []


def test_an_instance_that_cannot_be_used_is_refused_and_left_alone(node: Node) -> None:
    node.made_by_hand(HALF_BY_HAND[0], f"ci {UUIDS[0]} 1 0 0 1", f"ci {UUIDS[0]} 1 1 0 2")
    with pytest.raises(PartitionUnusableError, match="divided"):
        node.prepare()
    node.unprepare()
    assert node.there == [(P_3G, 4)]


def test_an_intention_is_carried_out_after_a_kill(node: Node) -> None:
    # As a kill between the two halves leaves it.
    node.prepare()
    node.unprepare()
    half_made = node.notes
    card = node.card()
    made = node.prepare()
    note = half_made.find(CLAIM, HALF)
    assert note is not None
    half_made.put(replace(note, instance=""))
    node.made_by_hand(HALF_BY_HAND[0])
    assert node.prepare() == made
    assert len(node.there) == 1
    node.unprepare()
    assert node.there == []
    assert card.name == HALF


def test_an_intention_that_came_to_nothing_goes(node: Node) -> None:
    node.prepare()
    note = node.notes.find(CLAIM, HALF)
    assert note is not None
    node.unprepare()
    node.notes.put(replace(note, instance=""))
    node.unprepare()
    assert node.hardware.claims(host=node.host) == frozenset()


def test_after_a_boot_the_instance_is_made_anew(node: Node) -> None:
    before = node.prepare()
    node.reboot()
    assert node.prepare() == before
    assert node.there == [(P_3G, 4)]
    node.unprepare()
    assert node.there == []


def test_after_a_boot_what_stands_in_its_place_is_somebody_elses(node: Node) -> None:
    node.prepare()
    node.reboot()
    node.made_by_hand(*HALF_BY_HAND)
    node.unprepare()
    assert node.there == [(P_3G, 4)]


def test_after_a_boot_a_claim_uses_what_an_administrators_tool_made_in_its_place(node: Node) -> None:
    before = node.prepare()
    node.reboot()
    node.made_by_hand(*HALF_BY_HAND)
    assert node.prepare() == before
    node.unprepare()
    assert node.there == [(P_3G, 4)]


def test_one_that_was_made_anew_by_hand_in_the_same_boot_is_not_removed(node: Node) -> None:
    node.prepare()
    node.made_by_hand(*HALF_BY_HAND)
    node.unprepare()
    assert node.there == [(P_3G, 4)]


@pytest.mark.parametrize(
    "made",
    [
        [f"gi {UUIDS[0]} 3 {P_3G} 4 4", f"ci {UUIDS[0]} 3 0 0 801", f"ci {UUIDS[0]} 3 1 0 802"],
        [f"gi {UUIDS[0]} 3 {P_3G} 4 4"],
        [f"gi {UUIDS[0]} 1 {P_3G} 4 4"],
    ],
    ids=["divided", "by half", "by half under our number"],
)
def test_one_without_a_uuid_that_was_made_by_hand_in_the_place_of_ours_is_not_removed(
    node: Node, made: list[str]
) -> None:
    node.prepare()
    node.made_by_hand(f"mode {UUIDS[0]} 1", *made)
    node.unprepare()
    assert node.there == [(P_3G, 4)]
    assert node.hardware.claims(host=node.host) == frozenset()


def test_what_a_kill_in_the_middle_of_a_removal_left_is_still_ours(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    def dies(found: Instance, *, host: FolderHost) -> None:
        node.made_by_hand(f"mode {UUIDS[0]} 1", HALF_BY_HAND[0])
        raise KilledError

    node.prepare()
    with monkeypatch.context() as patch:
        patch.setattr(node.vendor, "remove_instance", dies)
        with pytest.raises(KilledError):
            node.unprepare()
    assert node.there == [(P_3G, 4)]
    node.unprepare()
    assert node.there == []
    assert node.hardware.claims(host=node.host) == frozenset()


def test_one_that_was_to_be_removed_and_is_prepared_again_is_known_by_its_uuid_again(node: Node) -> None:
    node.prepare()
    note = node.notes.find(CLAIM, HALF)
    assert note is not None
    node.notes.put(replace(note, removing="1"))
    node.prepare()
    assert node.notes.find(CLAIM, HALF) == note


def test_on_a_full_disk_an_instance_is_removed(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_note: Note) -> None:
        raise NodeStorageError("no space left on device")

    node.prepare()
    monkeypatch.setattr(node.notes, "put", full)
    node.unprepare()
    assert node.there == []


def test_a_note_of_a_version_that_noted_no_removals_is_read(node: Node, tmp_path: Path) -> None:
    node.prepare()
    (path,) = (tmp_path / "notes").glob("*.json")
    document = json.loads(path.read_bytes())
    del document["removing"]
    path.write_text(json.dumps(document))
    node.unprepare()
    assert node.there == []


def test_before_a_lost_instances_number_is_used_again_its_claim_is_withdrawn(node: Node) -> None:
    lost = node.prepare()
    node.made_by_hand(f"mode {UUIDS[0]} 1")
    seen: list[tuple[str, int]] = []
    node.withdraw = lambda uid: seen.append((uid, len(node.there)))
    assert node.prepare(OTHER_HALF, claim="another") == lost
    assert seen == [(CLAIM, 0)]


def test_a_claim_whose_instance_was_made_anew_by_hand_is_withdrawn_before_another_is_prepared(
    node: Node,
) -> None:
    node.prepare()
    node.made_by_hand(f"gi {UUIDS[0]} 2 {P_3G} 4 4", f"ci {UUIDS[0]} 2 0 2 77")
    node.prepare(OTHER_HALF, claim="another")
    assert node.withdrawn == [CLAIM]


def test_a_claim_whose_instance_is_there_is_not_withdrawn(node: Node, tmp_path: Path) -> None:
    node.prepare()
    node.prepare(part(UUIDS[0], P_1G, 0, 1), claim="another")
    next((tmp_path / "notes").glob(f"{CLAIM}.*.json")).write_bytes(b"damaged")
    node.prepare(part(UUIDS[0], P_1G, 1, 1), claim="a third")
    assert node.withdrawn == []


def test_edits_stand_as_long_as_they_lead_to_the_instance(node: Node) -> None:
    card, whole = node.card(), node.card(HALF.partition("-mig-")[0])

    def stands() -> bool:
        return node.hardware.stands(card, edits, host=node.host)

    edits = node.hardware.edits(share(card), context=context(card), host=node.host)
    assert stands()
    node.made_by_hand(f"gi {UUIDS[0]} 2 {P_3G} 4 4", f"ci {UUIDS[0]} 2 0 2 77")
    assert not stands()
    node.made_by_hand(*HALF_BY_HAND)
    assert stands()
    node.made_by_hand(HALF_BY_HAND[0])
    assert not stands()
    node.made_by_hand(f"mode {UUIDS[0]} 1")
    assert not stands()
    assert node.hardware.stands(whole, edits, host=node.host)
    node.world.card(0, error="9")
    with pytest.raises(DriverNotReadyError):
        stands()


def test_partitions_can_be_asked_for_while_others_go(node: Node) -> None:
    class Instant(float):
        """When it is compared, that is, in the middle of a look, another claim goes."""

        def __sub__(self, other: float) -> Instant:
            return Instant(float(self) - other)

        def __lt__(self, other: float) -> bool:
            wait([pool.submit(node.hardware.undo_claim, "another", host=node.host)], timeout=0.1)
            return float(self) < other

    node.prepare()
    node.prepare(OTHER_HALF, claim="another")
    node.unprepare()
    node.now = Instant(1.0)
    with ThreadPoolExecutor(1) as pool:
        seen = node.hardware.ours()
    node.now = 1.0
    assert seen == node.hardware.ours() == {HALF, OTHER_HALF}


def test_one_that_was_removed_by_hand_is_made_again(node: Node) -> None:
    node.prepare()
    node.made_by_hand()
    node.prepare()
    assert node.there == [(P_3G, 4)]
    node.unprepare()
    assert node.there == []


def test_an_instance_in_use_stays_with_its_note(node: Node) -> None:
    node.prepare()
    node.world.card(0, busy="1")
    with pytest.raises(PartitionBusyError):
        node.unprepare()
    assert node.hardware.claims(host=node.host) == {CLAIM}
    node.world.card(0, busy="0")
    node.unprepare()
    assert node.there == []


def test_a_card_that_is_lost_keeps_nobody_from_going(node: Node) -> None:
    node.prepare()
    node.world.card(0, lost="1")
    node.unprepare()
    assert node.hardware.claims(host=node.host) == frozenset()


def test_without_a_driver_nothing_is_forgotten(node: Node) -> None:
    node.prepare()
    node.vendor = None
    with pytest.raises(PartitionsUnknownError) as refused:
        node.unprepare()
    assert refused.value.retriable
    assert node.hardware.claims(host=node.host) == {CLAIM}


def test_hardware_that_was_taken_out_before_a_boot_keeps_nobody_from_going(node: Node) -> None:
    node.prepare()
    node.vendor = None
    node.reboot()
    node.unprepare()
    assert node.hardware.claims(host=node.host) == frozenset()


def test_all_of_a_claim_is_undone_where_nobody_knows_its_shares(node: Node) -> None:
    node.prepare()
    node.prepare(part(UUIDS[0], P_1G, 0, 1))
    node.prepare(part(UUIDS[0], P_1G, 1, 1), claim="another")
    node.hardware.undo_claim(CLAIM, host=node.host)
    assert node.there == [(P_1G, 1)]
    assert node.hardware.claims(host=node.host) == {"another"}


def test_a_card_is_whole_again_when_its_last_instance_is_gone(node: Node) -> None:
    whole = node.card(HALF.partition("-mig-")[0])
    node.prepare()
    with pytest.raises(PartitionBusyError):
        node.hardware.prepare_card(whole, host=node.host)
    node.unprepare()
    node.hardware.prepare_card(whole, host=node.host)
    assert not node.card(whole.name).unpublished


def test_two_agents_that_prepare_one_claim_at_the_same_time_make_one_instance(
    node: Node, tmp_path: Path
) -> None:
    card = node.card()
    agents = [
        Hardware(
            lambda _card, _vendor: node.vendor,
            notes=FileNotes(tmp_path / "notes", lock_wait_s=20.0, boot_id=node.boot),
        )
        for _ in range(2)
    ]
    for _ in range(5):
        with ThreadPoolExecutor(2) as pool:
            asked = [
                pool.submit(one.edits, share(card), context=context(card), host=node.host) for one in agents
            ]
            edits = [one.result() for one in asked]
        assert edits[0] == edits[1]
        assert node.there == [(P_3G, 4)]
        with ThreadPoolExecutor(2) as pool:
            gone = [pool.submit(one.undo, share(card), context=None, host=node.host) for one in agents]
            assert [one.result() for one in gone] == [None, None]
        assert node.there == []


def test_an_agent_that_comes_late_removes_what_is_noted_now_and_not_what_it_had_read(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    node.prepare()
    old = node.notes.find(CLAIM, HALF)
    node.unprepare()
    node.prepare()
    find, answers = node.notes.find, iter([old])
    monkeypatch.setattr(node.notes, "find", lambda uid, device: next(answers, None) or find(uid, device))
    node.unprepare()
    assert node.there == []
    assert node.hardware.claims(host=node.host) == frozenset()


def test_the_cards_lock_is_waited_for_and_not_for_ever(node: Node, tmp_path: Path) -> None:
    other = FileNotes(tmp_path / "notes", boot_id=node.boot)
    with other.lock(HALF.partition("-mig-")[0]), pytest.raises(PartitionsBusyError) as refused:
        node.prepare()
    assert refused.value.retriable
    assert node.prepare()


@pytest.mark.parametrize("content", [b"", b"{}", b"[1]", b'{"claim_uid": 1}', b"\xff"])
def test_a_damaged_note_is_kept_and_nothing_is_removed(node: Node, tmp_path: Path, content: bytes) -> None:
    node.prepare()
    (note,) = (tmp_path / "notes").glob("*.json")
    note.write_bytes(content)
    with pytest.raises(PartitionNoteDamagedError, match="cannot be read"):
        node.unprepare()
    with pytest.raises(PartitionNoteDamagedError):
        node.hardware.undo_claim(CLAIM, host=node.host)
    assert note.exists()
    assert node.there == [(P_3G, 4)]


def test_what_a_killed_agent_left_half_written_is_removed(node: Node, tmp_path: Path) -> None:
    node.prepare()
    left = tmp_path / "notes" / f".{CLAIM}.x.json.abc.tmp"
    left.write_text("half")
    node.notes.clean()
    assert not left.exists()
    assert node.hardware.claims(host=node.host) == {CLAIM}
    FileNotes(tmp_path / "nowhere").clean()


def test_notes_are_for_the_agent_alone(node: Node, tmp_path: Path) -> None:
    node.prepare()
    assert {oct(path.stat().st_mode & 0o077) for path in (tmp_path / "notes").iterdir()} == {"0o0"}
    assert not (tmp_path / "notes").stat().st_mode & 0o077


def test_the_card_holds_its_partitions_and_no_shares(node: Node) -> None:
    half, whole = node.card(), node.card(HALF.partition("-mig-")[0])
    assert node.hardware.level is IsolationLevel.HARDWARE
    assert node.hardware.available(card=half, host=node.host).memory
    assert not node.hardware.available(card=whole, host=node.host).cores
    with pytest.raises(PartitionUnusableError, match="no partition"):
        node.hardware.edits(share(whole), context=context(whole), host=node.host)


def test_in_force_is_that_the_instance_is_there(node: Node) -> None:
    card = node.card()

    def told() -> tuple[bool, bool, str]:
        found = node.hardware.in_force(share(card), context=context(card), host=node.host, pid=1)
        return found.holds, found.known, found.reason

    assert told() == (False, True, "PartitionGone")
    given = node.prepare()
    # Nobody may look into the container.
    assert told() == (False, False, "PartitionsUnknown")
    for path in given:
        node.host.add(f"/proc/1/root{path}")
    assert told() == (True, True, "")
    node.world.card(0, error="9")
    assert told() == (False, False, "PartitionsUnknown")
    node.world.card(0, error="15")
    assert told() == (False, True, DeviceGoneError.reason)
    node.vendor = None
    assert told() == (False, False, "PartitionsUnknown")


class KilledError(BaseException):
    """The agent dies."""


class Dying:
    """An agent that dies after its N-th question to NVML."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.left = 0
        self.died = False
        real = PynvmlNvml.on_card

        def ask(nvml: PynvmlNvml, uuid: str, work: Callable[[Any, Any], Any]) -> Any:
            answer = real(nvml, uuid, work)
            self.left -= 1
            if self.left == 0:
                raise KilledError
            return answer

        monkeypatch.setattr(PynvmlNvml, "on_card", ask)

    def dies(self, work: Callable[[], object], *, after: int) -> bool:
        self.left = after
        try:
            work()
        except KilledError:
            return True
        finally:
            self.left = 0
        return False


@pytest.mark.parametrize("again", [False, True], ids=["given up", "prepared again"])
@pytest.mark.parametrize("verb", ["prepare", "unprepare"])
def test_a_kill_after_any_call_of_the_driver_leaves_nothing_that_nobody_knows(
    node: Node, monkeypatch: pytest.MonkeyPatch, verb: str, again: bool
) -> None:
    agent = Dying(monkeypatch)
    number = 1
    while True:
        if verb == "unprepare":
            node.prepare()
        died = agent.dies(node.prepare if verb == "prepare" else node.unprepare, after=number)
        assert len(node.there) <= len(node.hardware.claims(host=node.host))
        if again:
            node.prepare()
            assert node.there == [(P_3G, 4)]
        node.unprepare()
        assert node.there == []
        assert node.hardware.claims(host=node.host) == frozenset()
        if not died:
            break
        number += 1
    assert number > 3
