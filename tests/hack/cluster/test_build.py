"""Which folder of the cache holds a build, and what the locked modules say."""

from __future__ import annotations

import dataclasses
import re
from typing import TYPE_CHECKING

import pytest

from tooling.cluster import batch, build
from tooling.cluster.errors import ClusterError
from tooling.cluster.paths import GO_MODULES
from tooling.cluster.progress import silent

if TYPE_CHECKING:
    from pathlib import Path

TOOLS = [
    *(build.kubernetes(version) for version in build.KUBERNETES_VERSIONS),
    build.ETCD,
    build.CONTAINERD,
    build.HELM,
    build.DRA_EXAMPLE_DRIVER,
    *(system.tool for system in batch.SYSTEMS.values()),
]


def locked(folder: Path, *, module: str = "m", sums: str = "s") -> Path:
    (folder / "etcd").mkdir(parents=True)
    (folder / "etcd" / "go.mod").write_text(module)
    (folder / "etcd" / "go.sum").write_text(sums)
    return folder


def test_the_same_lock_and_flags_give_the_same_folder(tmp_path: Path) -> None:
    assert build.ETCD.key(locked(tmp_path / "a")) == build.ETCD.key(locked(tmp_path / "b"))


@pytest.mark.parametrize("change", [{"module": "n"}, {"sums": "t"}, {"module": "ms", "sums": ""}])
def test_another_lock_gives_another_folder(tmp_path: Path, change: dict[str, str]) -> None:
    assert build.ETCD.key(locked(tmp_path / "a")) != build.ETCD.key(locked(tmp_path / "b", **change))


@pytest.mark.parametrize(
    "change",
    [{"link": "-s"}, {"tags": "x"}, {"environment": {"CGO_ENABLED": "1"}}, {"programs": {"etcd": "other"}}],
)
def test_other_flags_give_another_folder(tmp_path: Path, change: dict[str, object]) -> None:
    modules = locked(tmp_path / "a")
    other = dataclasses.replace(build.ETCD, **change)  # type: ignore[arg-type]
    assert build.ETCD.key(modules) != other.key(modules)


def test_a_missing_lock_is_named(tmp_path: Path) -> None:
    with pytest.raises(ClusterError, match=r"etcd/go\.mod is missing\. It is part of the tree"):
        build.ETCD.key(tmp_path)


@pytest.mark.parametrize("tool", TOOLS, ids=lambda tool: f"{tool.name}-{tool.version}")
def test_the_lock_in_the_tree_holds_the_version_that_the_tool_states(tool: build.Tool) -> None:
    module = (GO_MODULES / tool.module / "go.mod").read_text()
    required = re.findall(r"^(?:require |\t)(\S+) (v\S+)", module, re.MULTILINE)
    package = next(iter(tool.programs.values()))
    assert any(package.startswith(name) and version == f"v{tool.version}" for name, version in required)
    tools_go = (GO_MODULES / tool.module / "tools.go").read_text()
    assert all(f'_ "{package}"' in tools_go for package in tool.programs.values())


@pytest.mark.parametrize("version", build.KUBERNETES_VERSIONS)
def test_all_staging_modules_of_a_kubernetes_are_of_its_own_version(version: str) -> None:
    module = (GO_MODULES / build.kubernetes(version).module / "go.mod").read_text()
    replaced = re.findall(r"^\tk8s\.io/(\S+) => k8s\.io/(\S+) v(\S+)$", module, re.MULTILINE)
    assert len(replaced) > 20
    assert {(new == old, found) for old, new, found in replaced} == {(True, f"0{version[1:]}")}


def test_an_unknown_kubernetes_is_refused_with_those_there_are() -> None:
    with pytest.raises(
        ClusterError, match=r"Kubernetes 1\.20\.0 is not locked .* 1\.34\.4, 1\.35\.4, 1\.36\.3, 1\.37\.1"
    ):
        build.kubernetes("1.20.0")


def test_without_go_the_error_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DRAGOMAN_CACHE", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ClusterError, match=r"no Go compiler on the PATH\. Install Go"):
        build.ensure(build.ETCD, report=silent)


def test_what_is_built_already_is_used_without_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DRAGOMAN_CACHE", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    build.folder_of(build.ETCD).mkdir(parents=True)
    assert build.ensure(build.ETCD, report=silent) == build.folder_of(build.ETCD)


def test_a_build_that_fails_tells_what_go_said_and_leaves_no_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    go = tmp_path / "path" / "go"
    go.parent.mkdir()
    go.write_text("#!/bin/sh\n[ $1 = list ] && exit 0\necho no such module >&2\nexit 1\n")
    go.chmod(0o755)
    monkeypatch.setenv("DRAGOMAN_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PATH", f"{go.parent}:/usr/bin:/bin")
    with pytest.raises(ClusterError, match=r"(?s)etcd .* could not be built.*no such module"):
        build.ensure(build.ETCD, report=silent)
    assert [path.name for path in (tmp_path / "cache" / "bin").iterdir()] == [".lock"]


def test_a_program_gets_its_own_name_where_its_package_ends_in_a_version(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    go = tmp_path / "path" / "go"
    go.parent.mkdir()
    go.write_text(
        '#!/bin/sh\n[ $1 = list ] && exit 0\nfor o; do case $o in */) : > "$o/server";; esac; done\n'
    )
    go.chmod(0o755)
    monkeypatch.setenv("DRAGOMAN_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PATH", f"{go.parent}:/usr/bin:/bin")
    folder = build.ensure(build.ETCD, report=silent)
    assert [path.name for path in folder.iterdir()] == ["etcd"]


@pytest.mark.parametrize(
    ("said", "times"), [("dial tcp 10.0.0.1:443: i/o timeout", 4), ("no such module", 1)], ids=str
)
def test_a_module_that_could_not_be_fetched_is_asked_for_again_and_one_that_is_not_there_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: str, times: int
) -> None:
    go, asked = tmp_path / "path" / "go", tmp_path / "asked"
    go.parent.mkdir()
    go.write_text(f"#!/bin/sh\necho once >> {asked}\necho '{said}' >&2\nexit 1\n")
    go.chmod(0o755)
    monkeypatch.setattr(build, "_PAUSE_S", 0.0)
    monkeypatch.setenv("DRAGOMAN_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PATH", f"{go.parent}:/usr/bin:/bin")
    with pytest.raises(ClusterError, match=said):
        build.ensure(build.ETCD, report=silent)
    assert asked.read_text().count("once") == times
