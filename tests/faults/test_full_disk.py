"""A full disk: prepare is refused with the remedy, unprepare works, and nothing is lost."""

from __future__ import annotations

import contextlib
import os
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support.agent_process import AgentProcess, node_folders, running
from tests.support.node_world import claim, result, uid_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.agent_process import NodeFolders

pytestmark = [pytest.mark.strace, pytest.mark.timeout(120)]

CARD = {"vendor": "nvidia", "model": "Test", "memory": "1000Mi", "uuid": "GPU-0", "pciBusID": "0000:3b:00.0"}
WHOLE = claim("whole", result(device="nvidia-0", memory="1000Mi"))


@pytest.fixture
def folders() -> Iterator[NodeFolders]:
    if os.geteuid() != 0:
        sentence = "A small file system can be mounted by root only, so no disk is filled up."
        if os.environ.get("CI"):
            pytest.fail(sentence)
        pytest.skip(sentence)
    with node_folders(cards=[CARD]) as found:
        found.put(WHOLE)
        yield found


@pytest.fixture(params=["state", "cdi"])
def small(request: pytest.FixtureRequest, folders: NodeFolders) -> Iterator[Path]:
    """A folder of the agent on a file system of 64 KiB."""
    folder = folders.base / str(request.param)
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "small", folder], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


def _fill(folder: Path) -> Path:
    ballast = folder / "ballast"
    with ballast.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while file.write(b"x" * 512):
            continue
    return ballast


def test_a_full_disk_refuses_prepare_and_the_claim_is_prepared_once_there_is_room(
    folders: NodeFolders, small: Path
) -> None:
    with running(AgentProcess(folders)) as agent:
        ballast = _fill(small)
        refused = agent.prepare(WHOLE)[uid_of("whole")]
        assert "No space left on device" in refused
        assert f"Make room in {small}" in refused
        left = [name for name in folders.names(small) if name.startswith((".", "dragoman"))]
        assert left == []
        assert folders.names(folders.records) == []
        ballast.unlink()
        assert not isinstance(agent.prepare(WHOLE)[uid_of("whole")], str)


def test_a_full_disk_does_not_stop_unprepare(folders: NodeFolders, small: Path) -> None:
    with running(AgentProcess(folders)) as agent, running(AgentProcess(folders, pod_uid="other")) as other:
        assert not isinstance(agent.prepare(WHOLE)[uid_of("whole")], str)
        ballast = _fill(small)
        assert agent.unprepare(WHOLE) == {uid_of("whole"): ""}
        assert folders.names(folders.records) == []
        ballast.unlink()
        again = claim("again", result(device="nvidia-0", memory="1000Mi", share="again"))
        folders.put(again)
        # The other agent has to know of the release although it could not be announced.
        assert not isinstance(other.prepare(again)[uid_of("again")], str)


def test_a_disk_that_is_full_at_start_does_not_make_the_agent_forget(
    folders: NodeFolders, small: Path
) -> None:
    with running(AgentProcess(folders)) as agent:
        ids = agent.prepare(WHOLE)
        assert not isinstance(ids[uid_of("whole")], str)
    _fill(small)
    with running(AgentProcess(folders)) as agent:
        assert agent.prepare(WHOLE) == ids
