"""Pid files: a process that took over the pid of an earlier one is never taken for it."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import time
from typing import TYPE_CHECKING

import pytest

from tooling.cluster.errors import ClusterError
from tooling.cluster.processes import Identity, Service, Services, end

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(["sleep", "60"]) as process:
        yield process
        process.kill()


def identity_of(process: subprocess.Popen[bytes]) -> Identity:
    found = Identity.of(process.pid)
    assert found is not None
    return found


def test_a_live_process_is_itself(sleeper: subprocess.Popen[bytes]) -> None:
    assert identity_of(sleeper).alive


@pytest.mark.parametrize("change", [{"started": 1}, {"boot": "another"}])
def test_a_pid_that_started_at_another_time_or_boot_is_somebody_else(
    sleeper: subprocess.Popen[bytes], change: dict[str, object], tmp_path: Path
) -> None:
    other = dataclasses.replace(identity_of(sleeper), **change)  # type: ignore[arg-type]
    assert not other.alive
    end(other, patience=0)
    (tmp_path / "kubelet.pid").write_text(json.dumps(dataclasses.asdict(other)))
    Services(tmp_path).stop("kubelet")
    assert sleeper.poll() is None
    assert not (tmp_path / "kubelet.pid").exists()


def test_a_process_that_ended_and_was_not_reaped_is_not_alive() -> None:
    process = subprocess.Popen(["true"])
    until = time.monotonic() + 60
    while Identity.of(process.pid) is not None:
        assert time.monotonic() < until
        time.sleep(0.01)
    assert os.path.exists(f"/proc/{process.pid}")  # noqa: PTH110 - a zombie's folder
    process.wait()


def test_a_process_that_ignores_the_request_is_killed() -> None:
    script = "trap '' TERM; echo ready; while :; do sleep 0.05; done"
    with subprocess.Popen(["sh", "-c", script], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        end(identity_of(process), patience=0.1)
        assert Identity.of(process.pid) is None


@pytest.mark.parametrize("content", ["", "4711", "{}", '{"pid": 1}'])
def test_a_broken_pid_file_names_no_process(tmp_path: Path, content: str) -> None:
    (tmp_path / "kubelet.pid").write_text(content)
    assert Services(tmp_path).identity("kubelet") is None


def test_how_a_component_is_started_outlives_the_starter(tmp_path: Path) -> None:
    service = Service(
        name="etcd",
        command=["etcd", "--x"],
        environment={"A": "1"},
        namespace="n",
        cgroup_procs="/c",
        log=str(tmp_path / "etcd.log"),
    )
    Services(tmp_path).define(service)
    assert Services(tmp_path).definition("etcd") == service
    assert Services(tmp_path).names() == ["etcd"]
    with pytest.raises(ClusterError, match=r"no component 'kubelet'\. It has etcd"):
        Services(tmp_path).definition("kubelet")
