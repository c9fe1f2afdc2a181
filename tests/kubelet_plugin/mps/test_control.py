"""The daemon's command line, against the stand-in as a real process."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from kubelet_plugin.mps import __main__ as entry
from kubelet_plugin.mps.client import MpsSupervised
from kubelet_plugin.mps.control import Control, MpsCommandError, config_text
from kubelet_plugin.mps.reconcile import Reconciler
from kubelet_plugin.mps.supervisor import MpsBusyError, Supervisor
from kubelet_plugin.mps.wire import decode
from tests.kubelet_plugin.mps.test_reconcile import CARDS, share
from tests.support.mps_node import MpsProcesses, install_program


@pytest.fixture
def control(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Control]:
    # What an administrator exports in a shell must neither hide cards nor limit a daemon of ours.
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "7")
    monkeypatch.setenv("CUDA_MPS_PINNED_DEVICE_MEM_LIMIT", "7=1G")
    found = Control(str(install_program(tmp_path)), pipe_dir=tmp_path / "pipe", log_dir=tmp_path)
    config = tmp_path / "config.toml"
    config.write_text(config_text([share(), share("b", card=CARDS[1], memory=0)]))
    process = subprocess.Popen(found.daemon_command(config), env=found.environment, start_new_session=True)
    try:
        until = time.monotonic() + 60
        while not found.answers():
            assert time.monotonic() < until
            time.sleep(0.01)
        yield found
    finally:
        os.killpg(process.pid, 9)
        process.wait()


@pytest.fixture(autouse=True)
def _own_logs(monkeypatch: pytest.MonkeyPatch) -> None:
    # Set up once in a process, and for good.
    monkeypatch.setattr(entry, "configure_logs", lambda _level: None)


def test_nothing_that_hides_cards_or_limits_a_daemon_reaches_it(control: Control) -> None:
    assert {key for key in control.environment if key.startswith("CUDA_")} == {
        "CUDA_MPS_PROTOCOL_VERSION",
        "CUDA_MPS_PIPE_DIRECTORY",
        "CUDA_MPS_LOG_DIRECTORY",
    }


@pytest.mark.parametrize("name", ["a\x0bb", "a\x1eb", "a\u2028b", '"a', "a,b", "\n", "a\n\nb"])
def test_no_name_of_a_program_hides_another_one_or_looks_like_a_daemon_that_does_not_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    control = Control("/unused", pipe_dir=tmp_path, log_dir=tmp_path)
    printed = f"41,server,0,mine,{name}\n{'9' * 5000},server,0,mine,x\n42,server,0,other,python\n"
    monkeypatch.setattr(control, "_run", lambda *_arguments: printed)
    assert [(one.pid, one.namespace) for one in control.clients()] == [(41, "mine"), (42, "other")]


def test_a_daemon_starts_with_all_that_its_file_says_and_takes_and_gives_back_more(control: Control) -> None:
    def found() -> dict[str, tuple[str, str]]:
        return {one.name: (one.memory, one.cores) for one in control.namespaces() if one.name != "default"}

    assert found() == {"n_a": ("4096M", "30"), "n_b": ("-", "30")}
    assert {one.name: one.devices for one in control.servers()} == {
        share("x", card=card).server: card for card in CARDS
    }
    more = share("c", memory=1500, cores=0)
    control.create_namespace(more)
    control.set_limits(more)
    assert found()["n_c"] == ("1500M", "-")
    control.delete_namespace("n_a", server=share().server)
    control.delete_server(share("b", card=CARDS[1]).server)
    assert found() == {"n_c": ("1500M", "-")}
    assert control.clients() == ()
    with pytest.raises(MpsCommandError, match="not found"):
        control.set_limits(share())
    control.quit()
    assert not control.answers()


def test_a_program_that_is_not_there_is_said(tmp_path: Path) -> None:
    control = Control("/does/not/exist", pipe_dir=tmp_path, log_dir=tmp_path)
    with pytest.raises(FileNotFoundError, match="/does/not/exist"):
        control.servers()
    assert not control.answers()


def test_a_command_that_was_ended_by_a_signal_is_no_answer_of_the_daemons(tmp_path: Path) -> None:
    killed = tmp_path / "killed"
    killed.write_text("#!/bin/sh\nkill -9 $$\n")
    killed.chmod(0o755)
    with pytest.raises(ChildProcessError, match="server list was ended by signal 9"):
        Control(str(killed), pipe_dir=tmp_path, log_dir=tmp_path).servers()


@pytest.mark.parametrize(
    ("printed", "devices"),
    [
        ("GPU-0", "GPU-0"),
        ("GPU-0,3", "GPU-0"),
        ("GPU-0,3,4", "GPU-0"),
        ('"GPU-0,GPU-1",3', "GPU-0,GPU-1"),
        ("GPU-0,GPU-1,3", "GPU-0,GPU-1"),
        ("GPU-0,MIG-1", "GPU-0,MIG-1"),
        ("GPU-0 GPU-1,3", "GPU-0 GPU-1"),
    ],
)
def test_no_card_of_a_server_is_overlooked_however_a_list_is_printed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, printed: str, devices: str
) -> None:
    control = Control("/unused", pipe_dir=tmp_path, log_dir=tmp_path)
    monkeypatch.setattr(control, "_run", lambda *_arguments: f"n,0,7,Ready,/pipe,{printed}\n")
    assert [one.devices for one in control.servers()] == [devices]


def test_a_list_of_another_shape_is_refused_and_not_guessed_at(tmp_path: Path) -> None:
    odd = tmp_path / "odd"
    odd.write_text("#!/bin/sh\necho name,uid\n")
    odd.chmod(0o755)
    with pytest.raises(MpsCommandError, match="fewer fields"):
        Control(str(odd), pipe_dir=tmp_path, log_dir=tmp_path).namespaces()


def test_a_second_supervisor_on_one_folder_is_refused(tmp_path: Path) -> None:
    mps = MpsProcesses(tmp_path / "mps").start()
    try:
        other = Reconciler(
            mps.folder, control=Control("x", pipe_dir=mps.folder / "pipe", log_dir=mps.folder / "log")
        )
        with pytest.raises(MpsBusyError, match="Another supervisor"):
            Supervisor(mps.folder, reconciler=other).run()
        assert entry.main(["--mps-dir", str(mps.folder)], environment={}) == 1
    finally:
        mps.stop()
    assert not (mps.folder / "supervisor.sock").exists()


def test_a_supervisor_that_is_away_is_said_and_giving_back_does_not_wait_for_it(tmp_path: Path) -> None:
    node = MpsSupervised(tmp_path)
    node.put(share())
    assert "does not answer" in node.state().problem
    node.drop("uid-a", "n_a")
    assert node.claims() == frozenset()


def test_what_was_said_a_moment_ago_is_not_asked_again(tmp_path: Path) -> None:
    now = [0.0]
    node = MpsSupervised(tmp_path, clock=lambda: now[0])
    first = node.state()
    assert node.state(fresh=False) is first
    now[0] = 10.0
    assert node.state(fresh=False) is not first


@pytest.mark.parametrize("line", [b"", b"{}", b"[]", b"null", b'{"problem": "", "unheld": 1}'])
def test_an_answer_that_is_none_is_no_state(line: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - whatever it says
        decode(line)


@pytest.mark.parametrize("arguments", [["--mps-dir", "here"], ["--log-level", "loud"]])
def test_wrong_settings_end_it_with_a_sentence(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        entry.main(arguments, environment={})
    assert ended.value.code == 2
    assert arguments[0] in capsys.readouterr().err


def test_the_supervisor_loads_neither_grpc_nor_an_http_client() -> None:
    script = "import kubelet_plugin.mps.__main__, sys; print(*sorted(sys.modules))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert not {"grpc", "aiohttp", "http.client", "pydantic", "kubernetes"} & set(done.stdout.split())
