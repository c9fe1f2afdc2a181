"""The daemon as a process: whenever its supervisor is killed, the next one finds it, or there is none."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from kubelet_plugin.mps.daemon import DaemonProcess
from kubelet_plugin.process_times import started_in

ROOT = Path(__file__).resolve().parents[3]

DAEMON = """
import os, pathlib, subprocess, sys, time
folder = pathlib.Path(sys.argv[1])
server = subprocess.Popen(["sleep", "600"])
for pid in (server.pid, os.getpid()):
    (folder / f"ran-{pid}").touch()
time.sleep(600)
"""
"""Says who runs, and goes on with a server of its own."""

SUPERVISOR = """
import os, pathlib, signal, sys, time
from kubelet_plugin.mps import daemon
folder, when, program = pathlib.Path(sys.argv[1]), sys.argv[2], sys.argv[3]
supervisor = os.getpid()

def die(*_, **__):
    os.kill(supervisor, signal.SIGKILL)
    time.sleep(0.3)

def dying_before(what):
    def call(*arguments, **named):
        die()
        return what(*arguments, **named)
    return call

if when == "started":
    os.pidfd_open = die
elif when == "not noted":
    daemon._start_time = dying_before(daemon._start_time)
elif when == "noted":
    replace = pathlib.Path.replace
    pathlib.Path.replace = lambda *a: (replace(*a), die())
elif when == "before it can ask":
    daemon._die_with_parent = dying_before(daemon._die_with_parent)
one = daemon.DaemonProcess(folder / "daemon.json")
one.start([sys.executable, "-IS", program, str(folder)], environment=os.environ, log_file=folder / "log")
"""


def alive(pid: int) -> bool:
    try:
        return bool(started_in(Path(f"/proc/{pid}/stat").read_text()))
    except OSError:
        return False


def ran(folder: Path) -> list[int]:
    return [int(path.name.removeprefix("ran-")) for path in folder.glob("ran-*")]


def wait_until_nobody(folder: Path) -> None:
    until = time.monotonic() + 60
    while any(map(alive, ran(folder))):
        assert time.monotonic() < until, "a daemon or its server was left behind"
        time.sleep(0.01)


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path
    for pid in ran(tmp_path):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def started(folder: Path, *, dies: str) -> None:
    """One supervisor that starts a daemon and is killed then."""
    program = folder / "program.py"
    program.write_text(DAEMON)
    ended = subprocess.run(
        [sys.executable, "-c", SUPERVISOR, str(folder), dies, str(program)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        check=False,
    )
    assert ended.returncode == -signal.SIGKILL


@pytest.mark.parametrize("when", ["before it can ask", "not noted", "noted", "started"])
def test_a_supervisor_that_is_killed_while_it_starts_a_daemon_leaves_none_that_nobody_finds(
    folder: Path, when: str
) -> None:
    started(folder, dies=when)
    time.sleep(0.3)  # for a daemon that was left to itself to come up
    assert not ran(folder) or (folder / "daemon.json").exists()
    successor = DaemonProcess(folder / "daemon.json")
    successor.clean()
    wait_until_nobody(folder)
    assert not (folder / "daemon.json").exists()


def test_a_daemon_that_is_noted_outlives_its_supervisor_until_the_next_one_cleans(folder: Path) -> None:
    started(folder, dies="started")
    until = time.monotonic() + 60
    while len(ran(folder)) < 2:
        assert time.monotonic() < until
        time.sleep(0.01)
    noted = json.loads((folder / "daemon.json").read_text())["pid"]
    assert noted in ran(folder)
    assert all(map(alive, ran(folder)))
    DaemonProcess(folder / "daemon.json").clean()
    wait_until_nobody(folder)


def test_a_process_that_has_the_number_of_a_daemon_that_ended_is_left_alone(folder: Path) -> None:
    stranger = subprocess.Popen(["sleep", "600"], start_new_session=True)
    try:
        record = folder / "daemon.json"
        start = started_in(Path(f"/proc/{stranger.pid}/stat").read_text())
        record.write_text(json.dumps({"pid": stranger.pid, "started": str(int(start) - 1)}))
        DaemonProcess(record).clean()
        assert stranger.poll() is None
        assert alive(stranger.pid)
        assert not record.exists()
    finally:
        stranger.kill()
        stranger.wait()


@pytest.mark.parametrize("noted", ["", "{", "[]", '{"pid": 1}', '{"pid": 1, "started": ""}'])
def test_a_note_that_names_no_daemon_ends_nobody(
    folder: Path, monkeypatch: pytest.MonkeyPatch, noted: str
) -> None:
    def killed(*_: object) -> None:
        raise AssertionError

    monkeypatch.setattr(os, "killpg", killed)
    record = folder / "daemon.json"
    record.write_text(noted)
    DaemonProcess(record).clean()
    assert not record.exists()


def test_a_daemon_that_cannot_be_noted_is_not_started(folder: Path) -> None:
    program = folder / "program.py"
    program.write_text(DAEMON)
    one = DaemonProcess(folder / "missing" / "daemon.json")
    with pytest.raises(OSError, match=r"daemon\.json cannot be written"):
        one.start([sys.executable, str(program), str(folder)], environment={}, log_file=folder / "log")
    assert not one.running
    assert ran(folder) == []
