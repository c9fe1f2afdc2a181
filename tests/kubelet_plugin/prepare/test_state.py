"""Records on disk, two agents beside each other, and what happens to damaged files."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import threading
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from driver.shares import Share
from kubelet_plugin.prepare.folder_lock import StateBusyError
from kubelet_plugin.prepare.ledger import CardFullError, ReservationInDoubtError
from kubelet_plugin.prepare.phases import Phases
from kubelet_plugin.prepare.records import ClaimRecord, ShareRecord, StateNewerError, encode
from kubelet_plugin.prepare.state import StateFolder
from tests.support.node_world import POOL, card

if TYPE_CHECKING:
    from pathlib import Path

CARDS = {name: card(name, mib=1000) for name in ("card-0", "card-1")}


def record(uid: str, mib: int = 100, *, device: str = "card-0") -> ClaimRecord:
    share = Share(claim_uid=uid, request="r", device=device, share_id="s", memory_mib=mib)
    return ClaimRecord(
        uid=uid,
        namespace="default",
        name=f"claim-{uid}",
        allocation="sha256:1",
        shares=(ShareRecord(share=share, pool=POOL, cdi_device=f"{uid}.r.{device}.s"),),
    )


def opened(folder: Path, *, lock_wait_s: float = 5.0) -> StateFolder:
    state = StateFolder(folder, phases=Phases(), lock_wait_s=lock_wait_s)
    state.open()
    return state


def reserve(state: StateFolder, found: ClaimRecord) -> bool:
    return state.reserve(found, cards=CARDS)[1]


def path(folder: Path, uid: str) -> Path:
    return folder / "claims" / f"{uid}.json"


def test_a_reservation_is_there_after_a_restart(tmp_path: Path) -> None:
    reserve(opened(tmp_path), record("a", 600))
    again = opened(tmp_path)
    assert again.find("a") == record("a", 600)
    with pytest.raises(CardFullError):
        reserve(again, record("b", 401))


def test_a_release_is_there_after_a_restart(tmp_path: Path) -> None:
    state = opened(tmp_path)
    reserve(state, record("a"))
    state.release("a")
    assert opened(tmp_path).records == {}
    assert list((tmp_path / "claims").iterdir()) == []


def test_a_refused_reservation_leaves_no_file(tmp_path: Path) -> None:
    state = opened(tmp_path)
    reserve(state, record("a", 1000))
    with pytest.raises(CardFullError):
        reserve(state, record("b", 1))
    assert [found.name for found in (tmp_path / "claims").iterdir()] == ["a.json"]


def test_the_same_claim_again_finds_its_record(tmp_path: Path) -> None:
    state = opened(tmp_path)
    assert reserve(state, record("a")) is True
    assert reserve(state, record("a")) is False


def test_what_one_agent_reserved_the_other_one_counts(tmp_path: Path) -> None:
    first, second = opened(tmp_path), opened(tmp_path)
    reserve(first, record("a", 600))
    with pytest.raises(CardFullError):
        reserve(second, record("b", 401))
    reserve(second, record("c", 400))
    first.refresh()
    assert first.use("card-0").memory_mib == 1000


def test_what_one_agent_released_the_other_one_gives_out(tmp_path: Path) -> None:
    first, second = opened(tmp_path), opened(tmp_path)
    reserve(first, record("a", 1000))
    second.release("a")
    assert reserve(first, record("b", 1000))
    assert first.find("a") is None


def test_an_agent_reads_again_only_what_the_other_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = opened(tmp_path), opened(tmp_path)
    for uid in "abcdef":
        reserve(first, record(uid, 1))
    second.refresh()
    reserve(first, record("g", 1))
    read: list[str] = []
    monkeypatch.setattr(second, "_reread", read.append)
    second.refresh()
    assert read == ["g"]


def test_a_lost_list_of_changes_makes_both_agents_read_everything(tmp_path: Path) -> None:
    first, second = opened(tmp_path), opened(tmp_path)
    (tmp_path / "changes").unlink()
    reserve(first, record("a", 600))
    with pytest.raises(CardFullError):
        reserve(second, record("b", 401))


def test_a_long_list_of_changes_is_begun_anew_without_losing_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kubelet_plugin.prepare.changes._LARGE", 20)
    first, second = opened(tmp_path), opened(tmp_path)
    for number in range(30):
        reserve(first if number % 2 else second, record(f"uid-{number}", 10))
    first.refresh()
    second.refresh()
    assert (tmp_path / "changes").stat().st_size < 40
    assert first.use("card-0").memory_mib == second.use("card-0").memory_mib == 300


def test_a_change_that_a_full_disk_cut_off_does_not_hide_the_next_one(tmp_path: Path) -> None:
    first, second = opened(tmp_path), opened(tmp_path)
    with (tmp_path / "changes").open("a") as changes:
        changes.write("\nhalf-a-u")
    reserve(first, record("a", 600))
    second.refresh()
    assert second.find("a") is not None


def test_two_agents_and_many_threads_never_exceed_the_card(tmp_path: Path) -> None:
    agents = [opened(tmp_path), opened(tmp_path)]
    made: list[str] = []

    def work(number: int) -> None:
        for step in range(12):
            uid = f"uid-{number}-{step}"
            try:
                reserve(agents[number % 2], record(uid, 70))
            except CardFullError:
                continue
            made.append(uid)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 1000 // 70
    assert {f"{uid}.json" for uid in made} == {found.name for found in (tmp_path / "claims").iterdir()}


def test_a_lock_that_is_never_let_go_is_refused_in_time_and_waiting_helps(tmp_path: Path) -> None:
    state = opened(tmp_path, lock_wait_s=0.05)
    other = os.open(tmp_path / "lock", os.O_RDWR)
    try:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(StateBusyError) as busy:
            reserve(state, record("a"))
    finally:
        os.close(other)
    assert (busy.value.reason, busy.value.retriable) == ("StateBusy", True)
    assert reserve(state, record("a"))


def test_leftovers_of_a_killed_writer_are_removed_at_start(tmp_path: Path) -> None:
    opened(tmp_path)
    (tmp_path / "claims" / ".a.json.0123.tmp").write_text("half")
    opened(tmp_path)
    assert list((tmp_path / "claims").iterdir()) == []


def test_a_temporary_file_of_a_running_writer_stays(tmp_path: Path) -> None:
    opened(tmp_path)
    leftover = tmp_path / "claims" / ".a.json.0123.tmp"
    with leftover.open("w") as writer:
        fcntl.flock(writer, fcntl.LOCK_EX)
        opened(tmp_path)
        assert leftover.exists()


def damage(folder: Path, uid: str, content: bytes) -> None:
    path(folder, uid).write_bytes(content)


def test_a_damaged_record_is_set_aside_and_reported(tmp_path: Path) -> None:
    reserve(opened(tmp_path), record("a", 1, device="card-0"))
    damage(tmp_path, "a", encode(record("a", 1)).replace(b'"memoryMiB":1', b'"memoryMiB":2'))
    state = opened(tmp_path)
    assert [found.name for found in (tmp_path / "claims").iterdir()] == ["a.json.unreadable-1"]
    assert "claim a does not match its checksum" in state.problems[0]


@pytest.mark.parametrize(
    "content",
    [b"", encode(record("a", 1, device="card-0")).replace(b'"card-0"', b'"card-1"')],
    ids=["empty", "another card"],
)
def test_a_damaged_record_keeps_all_cards_whatever_it_names(tmp_path: Path, content: bytes) -> None:
    reserve(opened(tmp_path), record("a", 1, device="card-0"))
    damage(tmp_path, "a", content)
    state = opened(tmp_path)
    for device in CARDS:
        with pytest.raises(ReservationInDoubtError):
            reserve(state, record("b", 1, device=device))


def cannot_be_read(path: Path, *, how: str) -> None:
    """Makes a file of which the operating system gives nothing back, whoever asks."""
    path.unlink(missing_ok=True)
    if how == "folder":
        path.mkdir()
        (path / "something").touch()
    else:
        path.symlink_to(path.name)


@pytest.mark.parametrize("how", ["folder", "error"])
def test_a_record_that_the_disk_does_not_give_back_keeps_all_cards_and_stops_nobody(
    tmp_path: Path, how: str
) -> None:
    reserve(opened(tmp_path), record("a", 1))
    cannot_be_read(path(tmp_path, "a"), how=how)
    state = opened(tmp_path)
    assert "The record of claim a cannot be read" in state.problems[0]
    for device in CARDS:
        with pytest.raises(ReservationInDoubtError):
            reserve(state, record("b", 1, device=device))


@pytest.mark.parametrize("how", ["folder", "error"])
def test_a_record_that_the_disk_does_not_give_back_is_replaced_by_a_new_one(tmp_path: Path, how: str) -> None:
    opened(tmp_path)
    cannot_be_read(path(tmp_path, "a"), how=how)
    assert reserve(opened(tmp_path), record("a", 1))
    state = opened(tmp_path)
    assert (list(state.records), state.problems) == (["a"], ())


@pytest.mark.parametrize("how", ["folder", "error"])
def test_a_record_that_the_disk_does_not_give_back_goes_with_its_claim(tmp_path: Path, how: str) -> None:
    opened(tmp_path)
    cannot_be_read(path(tmp_path, "a"), how=how)
    opened(tmp_path).release("a")
    assert list((tmp_path / "claims").iterdir()) == []


def test_the_doubt_about_a_damaged_record_outlives_restarts(tmp_path: Path) -> None:
    reserve(opened(tmp_path), record("a", 1))
    damage(tmp_path, "a", b"")
    opened(tmp_path)
    state = opened(tmp_path)
    assert [doubt.uid for doubt in state.doubts] == ["a"]
    with pytest.raises(ReservationInDoubtError):
        reserve(state, record("b", 1))


def test_preparing_the_claim_again_resolves_the_doubt(tmp_path: Path) -> None:
    reserve(opened(tmp_path), record("a", 1))
    damage(tmp_path, "a", b"")
    state = opened(tmp_path)
    assert reserve(state, record("a", 1))
    assert state.problems == ()
    assert reserve(state, record("b", 999))


@pytest.mark.parametrize("allocation", ["sha256:1", "sha256:2"])
def test_of_two_damaged_records_one_is_made_anew_only_if_its_allocation_is_the_same(
    tmp_path: Path, allocation: str
) -> None:
    for uid in ("a", "b"):
        reserve(opened(tmp_path), record(uid, 1))
    for uid in ("a", "b"):
        damage(tmp_path, uid, encode(record(uid, 1))[:-9])
    state = opened(tmp_path)
    wanted = replace(record("a", 900), allocation=allocation)
    if allocation == record("a").allocation:
        assert reserve(state, wanted)
        return
    with pytest.raises(ReservationInDoubtError):
        reserve(state, wanted)


def test_unpreparing_the_claim_resolves_the_doubt_and_removes_all_its_files(tmp_path: Path) -> None:
    reserve(opened(tmp_path), record("a", 1))
    damage(tmp_path, "a", b"")
    opened(tmp_path)
    damage(tmp_path, "a", b"again")
    state = opened(tmp_path)
    assert len(list((tmp_path / "claims").iterdir())) == 2
    state.release("a")
    assert list((tmp_path / "claims").iterdir()) == []
    assert reserve(state, record("b", 1000))


def newer(found: ClaimRecord) -> bytes:
    body = json.dumps(json.loads(encode(found))["record"] | {"schemaVersion": 9, "minReader": 9}).encode()
    return b'{"checksum":"sha256:%s","record":%s}\n' % (hashlib.sha256(body).hexdigest().encode(), body)


def test_a_record_of_a_newer_version_stays_where_it_is_and_keeps_its_cards(tmp_path: Path) -> None:
    opened(tmp_path)
    damage(tmp_path, "a", newer(record("a", 1)))
    state = opened(tmp_path)
    assert path(tmp_path, "a").read_bytes() == newer(record("a", 1))
    assert "newer version" in state.problems[0]
    with pytest.raises(ReservationInDoubtError):
        reserve(state, record("b", 1, device="card-0"))
    assert reserve(state, record("c", 1, device="card-1"))
    with pytest.raises(StateNewerError):
        reserve(state, record("a", 1))
    assert path(tmp_path, "a").read_bytes() == newer(record("a", 1))


def test_a_file_that_is_no_record_is_reported_and_left_alone(tmp_path: Path) -> None:
    opened(tmp_path)
    (tmp_path / "claims" / "notes.txt").write_text("mine")
    state = opened(tmp_path)
    assert state.problems == ("notes.txt in the state folder is no record of a claim.",)
    assert reserve(state, record("a"))


def test_a_record_that_is_gone_without_a_word_keeps_its_cards_and_no_others(tmp_path: Path) -> None:
    state = opened(tmp_path)
    reserve(state, record("a", 1, device="card-0"))
    path(tmp_path, "a").unlink()
    state.look()
    assert "The record of claim a is gone" in state.problems[0]
    with pytest.raises(ReservationInDoubtError):
        reserve(state, record("b", 1, device="card-0"))
    assert reserve(state, record("c", 1, device="card-1"))


def test_a_state_folder_that_was_wiped_frees_nothing(tmp_path: Path) -> None:
    state = opened(tmp_path)
    reserve(state, record("a", 1))
    shutil.rmtree(tmp_path / "claims")
    (tmp_path / "changes").unlink()
    for _ in range(2):
        state.refresh()
        with pytest.raises(ReservationInDoubtError):
            reserve(state, record("b", 1))
    assert [doubt.uid for doubt in state.doubts] == ["a"]


def test_what_another_agent_released_is_not_missed(tmp_path: Path) -> None:
    one, other = opened(tmp_path), opened(tmp_path)
    reserve(one, record("a", 1))
    other.look()
    one.release("a")
    other.look()
    assert (other.problems, other.use("card-0").claims) == ((), frozenset())


def test_what_was_released_while_the_list_of_changes_was_begun_anew_is_not_missed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = opened(tmp_path), opened(tmp_path)
    for uid in "abc":
        reserve(one, record(uid, 1))
    other.refresh()
    one.release("a")
    monkeypatch.setattr("kubelet_plugin.prepare.changes._LARGE", 0)
    one.release("b")
    monkeypatch.undo()
    one.release("c")
    other.look()
    assert other.problems == ()


@pytest.mark.parametrize("resolve", ["prepare", "release", "release by the other agent"])
def test_a_record_that_is_gone_is_a_doubt_until_somebody_knows(tmp_path: Path, resolve: str) -> None:
    state, other = opened(tmp_path), opened(tmp_path)
    reserve(state, record("a", 1))
    other.refresh()
    path(tmp_path, "a").unlink()
    state.look()
    assert state.problems
    if resolve == "prepare":
        assert reserve(state, record("a", 1))
    else:
        (state if resolve == "release" else other).release("a")
    state.look()
    assert state.problems == ()
    assert reserve(state, record("b", 1))
