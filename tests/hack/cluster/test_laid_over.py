from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tooling.cluster import laid_over
from tooling.cluster.errors import ClusterError

pytestmark = pytest.mark.skipif(
    subprocess.run(["unshare", "--mount", "true"], capture_output=True, check=False).returncode != 0,
    reason="not run: no mount namespaces for this user",
)


def _folder(root: Path, *files: str) -> Path:
    for file in files:
        path = root / "folder" / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("laid over")
    return root / "folder"


def _run(root: Path, *command: str, files: tuple[str, ...]) -> str:
    folder = _folder(root, *files)
    wrapped = laid_over.holder(command, folder=folder, kept=root / "kept")
    return subprocess.run(wrapped, capture_output=True, text=True, check=True).stdout


def test_files_of_the_folder_are_there_beside_the_machines_own(tmp_path: Path) -> None:
    said = _run(
        tmp_path,
        "cat",
        "/etc/dragoman-card",
        "/sys/devices/card/vendor",
        files=("etc/dragoman-card", "sys/devices/card/vendor"),
    )
    assert said == "laid over" * 2
    own = _run(tmp_path, "cat", "/etc/passwd", files=("etc/dragoman-card",))
    assert own == Path("/etc/passwd").read_text()


def test_the_machine_itself_sees_nothing_of_it(tmp_path: Path) -> None:
    # Clusters that run beside this come and go with mounts of their own.
    def of_it() -> list[str]:
        lines = Path("/proc/self/mountinfo").read_text().splitlines()
        return [line for line in lines if line.split()[4].startswith("/etc") or str(tmp_path) in line]

    before = of_it()
    _run(tmp_path, "true", files=("etc/dragoman-card",))
    assert not Path("/etc/dragoman-card").exists()
    assert of_it() == before


def test_what_is_mounted_below_stays_there(tmp_path: Path) -> None:
    points = {line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()}
    below = sorted(point for point in points if point.startswith("/dev/"))
    said = _run(tmp_path, "cat", "/proc/self/mountinfo", files=("dev/dragoman-card",))
    assert set(below) <= {line.split()[4] for line in said.splitlines()}


@pytest.mark.parametrize("file", ["proc/card", "sys/fs/cgroup/dmem.capacity", "no-such-folder/card", "card"])
def test_what_cannot_be_laid_over_is_refused_by_name(tmp_path: Path, file: str) -> None:
    with pytest.raises(ClusterError, match="nothing can be laid over"):
        laid_over.holder(["true"], folder=_folder(tmp_path, file), kept=tmp_path / "kept")
