"""What clusters leave outside their own folders, and how it is undone."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from tooling.cluster import cgroups, traces
from tooling.cluster.paths import Layout

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def shared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine whose shared folders and clusters lie in a temporary folder."""
    monkeypatch.setattr(traces, "NODE_ROOTS", tmp_path / "var")
    monkeypatch.setattr(traces, "_SHARED_FOLDERS", (str(tmp_path / "there"), str(tmp_path / "made")))
    monkeypatch.setattr(traces, "_SETTINGS", ())
    (tmp_path / "there").mkdir()
    return tmp_path


def test_the_last_cluster_takes_with_it_the_folders_that_were_not_there_before(shared: Path) -> None:
    state = shared / "state.json"
    traces.remember(state)
    (shared / "made" / "content").mkdir(parents=True)
    traces.forget(state)
    assert (shared / "there").exists()
    assert not (shared / "made").exists()
    assert not state.exists()


def test_as_long_as_a_cluster_is_there_nothing_shared_goes_and_nothing_is_noted_anew(shared: Path) -> None:
    state = shared / "state.json"
    traces.remember(state)
    (shared / "made").mkdir()
    (shared / "var" / "dragoman-7").mkdir(parents=True)
    (shared / "var" / "dragoman-7" / "owner").touch()
    traces.remember(state)
    traces.forget(state)
    assert (shared / "made").exists()
    assert json.loads(state.read_text())["folders"] == [str(shared / "there")]


def test_what_a_machine_noted_that_lost_power_is_not_believed(shared: Path) -> None:
    state = shared / "state.json"
    traces.remember(state)
    (shared / "made").mkdir()
    traces.remember(state)
    traces.forget(state)
    assert (shared / "made").exists()


def test_only_results_of_the_clusters_own_namespaces_are_its_own(tmp_path: Path) -> None:
    layout = Layout(folder=tmp_path, number=1)
    for name, content in {
        "own": json.dumps({"netns": f"{layout.node_root}/containerd/state/netns/x"}),
        "next": json.dumps({"netns": "/var/lib/dragoman-11/containerd/state/netns/x"}),
        "other": json.dumps({"netns": "/run/netns/x"}),
        "list": "[]",
        "broken": "{",
    }.items():
        (tmp_path / name).write_text(content)
    assert traces.network_results(layout, folder=tmp_path) == [tmp_path / "own"]
    assert traces.network_results(layout, folder=tmp_path / "none") == []


def test_control_groups_of_version_1_are_one_tree_for_each_controller(tmp_path: Path) -> None:
    for name in ("cpu", "pids"):
        (tmp_path / name).mkdir()
    (tmp_path / "cpu,cpuacct").symlink_to("cpu")
    assert not cgroups.is_version_2(tmp_path)
    assert cgroups.hierarchies(tmp_path) == [tmp_path / "cpu", tmp_path / "pids"]


def test_control_groups_of_version_2_are_one_tree(tmp_path: Path) -> None:
    (tmp_path / "cgroup.controllers").write_text("cpu pids\n")
    (tmp_path / "system.slice").mkdir()
    assert cgroups.hierarchies(tmp_path) == [tmp_path]
