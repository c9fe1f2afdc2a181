"""The supervisor's loop against a daemon in memory: what is wanted holds, or is told as not held."""

from __future__ import annotations

import errno
import itertools
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from driver.isolation.service import MpsState
from driver.isolation.service_shares import MpsShare, server_name
from kubelet_plugin.mps.control import MpsCommandError
from kubelet_plugin.mps.files import ShareFiles, Wanted
from kubelet_plugin.mps.reconcile import IDLE_S, KEPT_S, MISSED_ANSWERS, START_S, Reconciler
from tests.support.mps_model import ModelControl, ModelDaemon, MpsModel

CARDS = ("GPU-0", "GPU-1")


def share(name: str = "a", *, card: str = CARDS[0], memory: int = 4096, cores: int = 30) -> MpsShare:
    return MpsShare(
        claim_uid=f"uid-{name}",
        name=f"n_{name}",
        server=server_name(card),
        card=card,
        memory_mib=memory,
        cores_percent=cores,
    )


class Node:
    """A folder, a daemon in memory, and one life of the supervisor after the other."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.now = 1000.0
        self.model = MpsModel(folder / "pipe")
        self.files = ShareFiles(folder)
        self.begin()

    def begin(self) -> None:
        self.reconciler = Reconciler(
            self.folder,
            control=ModelControl(self.model, log_dir=self.folder / "log"),
            daemon=ModelDaemon(self.model),
            clock=lambda: self.now,
            sleep=self.pass_by,
        )
        self.reconciler.start()

    def pass_by(self, seconds: float) -> None:
        self.now += seconds

    def sync(self) -> MpsState:
        self.now += 1.0
        return self.reconciler.sync()

    def held(self, one: MpsShare) -> tuple[str, str] | None:
        return self.model.limits(one.server, one.name)


@pytest.fixture
def node(tmp_path: Path) -> Node:
    return Node(tmp_path)


def test_no_daemon_runs_while_no_share_needs_it(node: Node) -> None:
    assert node.sync() == MpsState()
    assert node.model.starts == 0


def test_the_first_share_starts_the_daemon_with_its_limits_in_the_file_that_it_starts_with(
    node: Node,
) -> None:
    node.files.put(share())
    state = node.sync()
    assert state.why_not("n_a") == ""
    assert state.folders == {"n_a": str(node.folder / "joins" / "n_a")}
    assert node.held(share()) == ("4096M", "30")
    assert node.model.ran == []


def test_a_further_share_is_set_in_the_running_daemon_in_a_namespace_of_its_own(node: Node) -> None:
    node.files.put(share())
    node.sync()
    other = share("b", memory=1500, cores=0)
    node.files.put(other)
    assert node.sync().why_not("n_b") == ""
    assert (node.held(share()), node.held(other)) == (("4096M", "30"), ("1500M", "-"))
    assert node.model.starts == 1


def test_each_card_has_a_server_that_sees_no_other(node: Node) -> None:
    node.files.put(share())
    node.files.put(share("b", card=CARDS[1]))
    node.sync()
    assert {name: one["devices"] for name, one in node.model.servers.items()} == {
        server_name(card): card for card in CARDS
    }


def test_a_share_that_is_given_back_leaves_no_namespace_and_a_card_without_shares_no_server(
    node: Node,
) -> None:
    node.files.put(share())
    node.files.put(share("b", card=CARDS[1]))
    node.sync()
    node.files.drop("uid-b", "n_b")
    node.sync()
    assert list(node.model.servers) == [share().server]
    node.files.put(share("c"))
    node.sync()
    node.files.drop("uid-a", "n_a")
    node.sync()
    assert sorted(node.model.servers[share().server]["namespaces"]) == ["default", "n_c"]


def test_the_daemon_goes_some_time_after_the_last_share_and_not_at_once(node: Node) -> None:
    node.files.put(share())
    node.sync()
    node.files.drop("uid-a", "n_a")
    node.sync()
    assert node.model.alive
    node.pass_by(IDLE_S)
    node.sync()
    assert not node.model.alive


def test_a_daemon_that_crashed_is_back_at_once_with_the_limits_of_all_shares(node: Node) -> None:
    node.files.put(share())
    node.files.put(share("b", card=CARDS[1], cores=0))
    node.sync()
    node.model.crash()
    state = node.sync()
    assert (state.why_not("n_a"), state.why_not("n_b"), state.restarts) == ("", "", 1)
    assert (node.held(share()), node.held(share("b", card=CARDS[1]))) == (("4096M", "30"), ("4096M", "-"))
    assert node.model.ran == []


def test_a_daemon_that_keeps_ending_is_started_after_growing_pauses(node: Node) -> None:
    node.files.put(share())
    node.model.startable = False
    began = []
    for _ in range(2000):
        before = node.model.starts
        state = node.sync()
        if node.model.starts > before:
            began.append(node.now)
        assert state.why_not("n_a")
    pauses = [round(later - earlier) for earlier, later in itertools.pairwise(began)]
    assert pauses[:7] == [1, 1, 2, 4, 8, 16, 32]
    assert set(pauses[7:]) == {60}
    node.model.startable = True
    node.pass_by(60)
    assert node.sync().why_not("n_a") == ""


def test_what_it_says_while_the_daemon_is_away_names_when_it_is_tried_again(node: Node) -> None:
    node.files.put(share())
    node.model.startable = False
    problems = {node.sync().problem for _ in range(8)}
    assert "The MPS daemon ended 4 times (without a word) and is started again 4 s after its end." in problems


def test_a_daemon_that_does_not_answer_is_ended_and_started_again(node: Node) -> None:
    node.files.put(share())
    node.sync()
    node.model.answers = False
    for _ in range(MISSED_ANSWERS):
        assert node.sync().why_not("n_a")
    assert not node.model.alive
    node.model.answers = True
    assert node.sync().why_not("n_a") == ""
    assert node.model.starts == 2


def test_a_daemon_that_misses_an_answer_now_and_then_is_left_to_run(node: Node) -> None:
    node.files.put(share())
    node.sync()
    for _ in range(3 * MISSED_ANSWERS):
        node.model.answers = False
        for _ in range(MISSED_ANSWERS - 1):
            assert node.sync().why_not("n_a")
        node.model.answers = True
        assert node.sync().why_not("n_a") == ""
    assert node.model.starts == 1


def test_commands_that_the_node_kills_are_told_and_end_no_daemon(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Each end of a daemon is one of all programs under it.
    def killed(_arguments: Sequence[str]) -> str:
        raise ChildProcessError("the command server list was ended by signal 9")

    node.files.put(share())
    node.sync()
    with monkeypatch.context() as patch:
        patch.setattr(node.model, "run", killed)
        for _ in range(3 * MISSED_ANSWERS):
            assert "ended by signal 9" in node.sync().problem
    assert node.sync().why_not("n_a") == ""
    assert node.model.starts == 1


def test_a_daemon_that_never_answers_after_its_start_is_given_up_in_time(node: Node) -> None:
    node.files.put(share())
    node.model.answers = False
    before = node.now
    assert "did not answer" in node.sync().problem
    assert node.now - before < START_S + 3
    assert not node.model.alive


def test_limits_that_somebody_changed_by_hand_are_set_again(node: Node) -> None:
    node.files.put(share())
    node.sync()
    node.model.servers[share().server]["namespaces"]["n_a"]["pinned-memory-limit"] = "80G"
    assert node.sync().why_not("n_a") == ""
    assert node.held(share()) == ("4096M", "30")


@pytest.mark.parametrize(
    ("wanted", "more", "held"),
    [
        (share(memory=0), {"pinned-memory-limit": "999G"}, ("-", "30")),
        (share(cores=0), {"active-thread-percentage": "7"}, ("4096M", "-")),
    ],
    ids=["memory", "compute"],
)
def test_a_limit_that_the_share_does_not_have_is_taken_away(
    node: Node, wanted: MpsShare, more: dict[str, str], held: tuple[str, str]
) -> None:
    node.files.put(wanted)
    node.sync()
    node.model.servers[wanted.server]["namespaces"]["n_a"] |= more
    assert node.sync().why_not("n_a") == ""
    assert node.held(wanted) == held


def test_a_limit_too_many_ends_no_program_and_is_told(node: Node) -> None:
    wanted = share(memory=0)
    node.files.put(wanted)
    node.sync()
    node.model.servers[wanted.server]["namespaces"]["n_a"]["pinned-memory-limit"] = "999G"
    node.model.clients.append((7, wanted.server, "n_a"))
    assert "its limits are 999G of memory" in node.sync().why_not("n_a")
    assert not any(command.startswith("namespace delete") for command in node.model.ran)


def test_a_namespace_that_somebody_made_by_hand_goes(node: Node) -> None:
    node.files.put(share())
    node.sync()
    node.model.servers[share().server]["namespaces"]["theirs"] = {}
    node.sync()
    assert "theirs" not in node.model.servers[share().server]["namespaces"]


OTHER_CARDS = ["all", "", CARDS[1], f"{CARDS[0]},{CARDS[1]}", f"{CARDS[0]},GPU-nobody-sees", f"{CARDS[0]}1"]
"""With a card in its list that the server cannot see, MPS drops all limits of it without a word."""


@pytest.mark.parametrize("cards", OTHER_CARDS)
def test_a_server_that_sees_another_card_is_made_anew(node: Node, cards: str) -> None:
    node.files.put(share())
    node.sync()
    node.model.servers[share().server]["devices"] = cards
    assert node.sync().why_not("n_a") == ""
    assert node.model.servers[share().server]["devices"] == CARDS[0]


@pytest.mark.parametrize("cards", OTHER_CARDS)
def test_a_share_whose_server_sees_another_card_again_is_not_held(
    node: Node, monkeypatch: pytest.MonkeyPatch, cards: str
) -> None:
    node.files.put(share())
    node.sync()
    made = node.model._create_server
    monkeypatch.setattr(node.model, "_create_server", lambda name, _: made(name, cards))
    node.model.servers[share().server]["devices"] = cards
    assert f"has the cards {cards}, not {CARDS[0]} alone" in node.sync().why_not("n_a")


def test_a_share_whose_server_failed_is_told_and_the_others_hold(node: Node) -> None:
    node.files.put(share())
    node.files.put(share("b", card=CARDS[1]))
    node.sync()
    node.model.servers[server_name(CARDS[1])]["status"] = "Failed"
    state = node.sync()
    assert state.why_not("n_a") == ""
    assert "Failed" in state.why_not("n_b")
    assert CARDS[1] in state.why_not("n_b")


def test_a_share_that_the_daemon_refuses_is_told_and_never_called_held(node: Node) -> None:
    node.files.put(share())
    node.sync()
    node.files.put(share("b"))
    node.model.fail_in = 1  # the namespace is made, and its limits are refused
    state = node.sync()
    assert node.held(share("b")) == ("-", "-")
    assert "limits are -" in state.why_not("n_b")
    assert state.why_not("n_a") == ""


def _joined(node: Node) -> str:
    """What a container of the first share finds in the folder that it got when it was started."""
    return (node.folder / "joins" / "n_a" / "control").read_text()


@pytest.mark.parametrize("tidy", [True, False])
def test_running_containers_find_the_sockets_of_every_later_daemon_whatever_it_did_with_its_own_folders(
    node: Node, tidy: bool
) -> None:
    node.files.put(share())
    node.sync()
    node.model.fresh_folders = tidy
    before = (node.folder / "joins" / "n_a").stat().st_ino
    for start in (1, 2, 3):
        assert _joined(node) == f"socket of start {start}"
        node.model.crash()
        node.sync()
        node.pass_by(60)
        assert node.sync().why_not("n_a") == ""
    node.begin()
    assert node.sync().why_not("n_a") == ""
    assert (node.folder / "joins" / "n_a").stat().st_ino == before


def test_running_containers_reach_a_daemon_that_was_started_anew_before_its_lists_can_be_read(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who starts without finding it has the whole card."""
    node.files.put(share())
    node.sync()
    node.model.crash()

    def refuse() -> Sequence[Any]:
        raise MpsCommandError("The MPS daemon cannot be asked.")

    monkeypatch.setattr(node.reconciler._control, "namespaces", refuse)
    assert node.sync().why_not("n_a") == "The MPS daemon cannot be asked."
    assert _joined(node) == "socket of start 2"
    assert node.held(share()) == ("4096M", "30")


def test_a_folder_of_ours_that_was_made_anew_is_told_until_a_program_gets_through(node: Node) -> None:
    node.files.put(share())
    node.sync()
    shutil.rmtree(node.folder / "joins")
    (node.folder / "joins").mkdir()
    assert "Delete the pod" in node.sync().why_not("n_a")
    node.begin()
    assert "Delete the pod" in node.sync().why_not("n_a")
    node.model.clients.append((7, share().server, "n_a"))
    assert node.sync().why_not("n_a") == ""
    node.model.clients.clear()
    assert node.sync().why_not("n_a") == ""


def test_a_share_that_is_given_back_leaves_no_folder_and_is_new_when_it_comes_again(node: Node) -> None:
    node.files.put(share())
    node.files.put(share("b"))
    node.sync()
    node.files.drop("uid-a", "n_a")
    node.sync()
    node.pass_by(KEPT_S)
    node.sync()
    assert [path.name for path in (node.folder / "joins").iterdir()] == ["n_b"]
    node.files.put(share())
    assert node.sync().why_not("n_a") == ""


def test_nobody_else_on_the_node_reaches_the_daemon_and_containers_reach_no_other_share(node: Node) -> None:
    node.files.put(share())
    node.sync()
    modes = {name: (node.folder / name).stat().st_mode & 0o777 for name in ("pipe", "joins", "log")}
    assert modes == {"pipe": 0o700, "joins": 0o700, "log": 0o700}
    assert sorted(path.name for path in (node.folder / "joins" / "n_a").iterdir()) == [".made", "control"]
    assert (node.folder / "joins" / "n_a").stat().st_mode & 0o777 == 0o755


def test_a_namespace_without_its_socket_is_not_held(node: Node) -> None:
    node.files.put(share())
    node.sync()
    (node.folder / "pipe" / share().server / "n_a" / "control").unlink()
    assert "control is missing" in node.sync().why_not("n_a")


def test_clients_are_told_by_the_nodes_process_numbers(node: Node) -> None:
    node.files.put(share())
    node.sync()
    node.model.clients += [(51023, share().server, "n_a"), (7, share().server, "default")]
    found = node.sync().clients
    assert [(one.pid, one.namespace) for one in found] == [(51023, "n_a"), (7, "default")]


def test_a_file_that_cannot_be_read_takes_nothing_from_anybody_and_is_told(node: Node) -> None:
    node.files.put(share())
    node.files.put(share("b"))
    node.sync()
    path = node.folder / "shares" / "uid-a" / "n_a.json"
    path.write_text(
        path.read_text().replace("4096", "0").replace('"cores_percent": 30', '"cores_percent": 0')
    )
    state = node.sync()
    assert "cannot be read" in state.why_not("n_a")
    assert state.why_not("n_b") == ""
    assert node.held(share()) == ("4096M", "30")
    folder = (node.folder / "joins" / "n_a").stat().st_ino
    node.pass_by(2 * KEPT_S)
    node.sync()
    node.files.put(share())
    assert node.sync().why_not("n_a") == ""
    # Containers that run have it mounted.
    assert (node.folder / "joins" / "n_a").stat().st_ino == folder


@pytest.fixture(params=["alone", "beside another share", "beside a share of another card"])
def vanished(node: Node, request: pytest.FixtureRequest) -> Node:
    """A share with a program in it, whose file somebody removed."""
    node.files.put(share())
    if request.param != "alone":
        node.files.put(share("b", card=CARDS[request.param.endswith("card")]))
    node.sync()
    node.model.clients.append((4711, share().server, "n_a"))
    (node.folder / "shares" / "uid-a" / "n_a.json").unlink()
    return node


def test_a_file_that_vanished_costs_no_running_program_anything_before_it_is_written_again(
    vanished: Node,
) -> None:
    folder = (vanished.folder / "joins" / "n_a").stat().st_ino
    for _ in range(int(KEPT_S) - 3):
        assert vanished.sync().why_not("n_a") == "The MPS daemon does not know this share."
    assert vanished.held(share()) == ("4096M", "30")
    vanished.files.put(share())
    assert vanished.sync().why_not("n_a") == ""
    assert vanished.model.ran == []
    assert (vanished.folder / "joins" / "n_a").stat().st_ino == folder


def test_a_program_of_a_share_that_stays_unwanted_is_ended_in_the_end(vanished: Node) -> None:
    vanished.sync()
    vanished.pass_by(max(KEPT_S, IDLE_S))
    vanished.sync()
    assert vanished.held(share()) is None
    assert not (vanished.folder / "joins" / "n_a").exists()


def test_a_program_between_two_looks_at_the_card_keeps_its_way_to_the_daemon(vanished: Node) -> None:
    vanished.model.clients.clear()
    folder = (vanished.folder / "joins" / "n_a").stat().st_ino
    vanished.sync()
    vanished.begin()
    vanished.sync()
    vanished.files.put(share())
    assert vanished.sync().why_not("n_a") == ""
    assert (vanished.folder / "joins" / "n_a").stat().st_ino == folder
    assert (vanished.folder / "joins" / "n_a" / "control").exists()


def test_a_supervisor_that_takes_over_starts_a_daemon_of_its_own(node: Node) -> None:
    node.files.put(share())
    node.sync()
    node.begin()
    assert not node.model.alive
    assert node.sync().why_not("n_a") == ""


@pytest.mark.parametrize("written", ["joins.new", ".made", "config.toml"])
def test_a_full_disk_is_told_counts_as_no_miss_and_is_over_when_there_is_room(
    node: Node, monkeypatch: pytest.MonkeyPatch, written: str
) -> None:
    node.files.put(share())
    if written != "config.toml":
        node.sync()
    node.files.put(share("b"))
    write = Path.write_text

    def full(path: Path, content: str) -> int:
        if path.name == written:
            write(path, "")
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(path, content)

    with monkeypatch.context() as patched:
        patched.setattr(Path, "write_text", full)
        for _ in range(MISSED_ANSWERS + 1):
            assert "No space left" in node.sync().why_not("n_b")
    assert node.model.starts == (0 if written == "config.toml" else 1)
    assert node.sync().why_not("n_b") == ""
    assert (node.folder / "joins" / "n_b" / ".made").read_text()
    node.begin()
    assert node.sync().why_not("n_b") == ""


def test_a_folder_of_shares_that_cannot_be_read_takes_nothing_from_anybody(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    node.files.put(share())
    node.sync()
    node.pass_by(2 * IDLE_S)

    def broken(_: ShareFiles) -> Wanted:
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patched:
        patched.setattr(ShareFiles, "read", broken)
        assert "Input/output error" in node.sync().why_not("n_a")
    assert node.model.alive
    assert node.model.ran == []
    assert node.sync().why_not("n_a") == ""


def test_a_folder_of_logs_that_the_daemon_takes_away_meanwhile_is_passed_over(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kubelet_plugin.mps.reconcile.MAX_LOG_BYTES", 10)
    node.files.put(share())
    node.sync()
    kept, taken = (node.folder / "log" / name for name in ("kept", "taken"))
    for folder in (kept, taken):
        folder.mkdir()
        (folder / "server.log").write_bytes(b"x" * 11)
    listed = os.scandir

    def gone(path: Any) -> Any:
        if str(path) == str(taken):
            raise FileNotFoundError(path)
        return listed(path)

    monkeypatch.setattr(os, "scandir", gone)
    assert node.sync().problem == ""
    assert (kept / "server.log").stat().st_size == 0


def test_logs_do_not_grow_for_ever(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kubelet_plugin.mps.reconcile.MAX_LOG_BYTES", 10)
    node.files.put(share())
    node.sync()
    log = node.folder / "log" / "card" / "server.log"
    log.parent.mkdir()
    log.write_bytes(b"x" * 11)
    node.sync()
    assert log.stat().st_size == 0
