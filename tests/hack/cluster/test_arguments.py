"""The command line of hack/cluster, its names and its paths."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest

from tooling.cluster import api, cli
from tooling.cluster.errors import ClusterError
from tooling.cluster.node_access import NoNode, NotAvailable
from tooling.cluster.paths import MOST_CLUSTERS, REPOSITORY, Layout, cache, check_name

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.mark.parametrize("where", [["--name", "x", "up"], ["up", "--name", "x"]])
def test_the_name_may_stand_before_or_after_the_command(where: list[str]) -> None:
    assert cli.parser().parse_args(where).name == "x"
    assert cli.parser().parse_args(["up"]).name == api.DEFAULT_NAME


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--name", "Upper", "up"], "'Upper' cannot name a cluster"),
        (["--name", "../x", "down"], "cannot name a cluster"),
        (["up", "--kubernetes", "1.20.0"], "invalid choice: '1.20.0'"),
        (["up", "--feature-gates", "A"], "'A' is not a feature gate: write NAME=true or NAME=false"),
        (["up", "--feature-gates", "A=maybe"], "'A=maybe' is not a feature gate"),
        (["sideways"], "invalid choice: 'sideways'"),
        ([], "required: COMMAND"),
        (["load"], "required: IMAGE.tar"),
    ],
)
def test_a_wrong_argument_is_told_in_words(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.parser().parse_args(arguments)
    assert ended.value.code == 2
    assert said in capsys.readouterr().err


def test_feature_gates_and_arguments_of_the_api_server_are_taken_apart() -> None:
    given = cli.parser().parse_args(["up", "--feature-gates", "A=true,B=False", "--api-args=--v=4 --x='a b'"])
    assert given.feature_gates == {"A": True, "B": False}
    assert given.api_args == ["--v=4", "--x=a b"]


def test_what_follows_kubectl_is_kubectls_own() -> None:
    given = cli.parser().parse_args(["--name", "x", "kubectl", "get", "pods", "--name", "y", "-o", "json"])
    assert given.arguments == ["get", "pods", "--name", "y", "-o", "json"]
    assert given.name == "x"


def test_a_cluster_that_is_not_there_is_told_with_the_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DRAGOMAN_CACHE", str(tmp_path))
    assert cli.main(["--name", "x", "kubectl", "get", "pods"]) == 1
    assert "the cluster x is not up. Start it: hack/cluster --name x up" in capsys.readouterr().err
    assert cli.main(["--name", "x", "status"]) == 3
    assert "hack/cluster --name x up" in capsys.readouterr().out


def test_the_command_needs_nothing_but_python() -> None:
    done = subprocess.run(
        ["/usr/bin/env", "-i", "PATH=/usr/bin:/bin", str(REPOSITORY / "hack" / "cluster"), "--help"],
        capture_output=True,
        text=True,
        check=True,
        timeout=240,
    )
    assert "hack/cluster up" in done.stdout


def test_the_cache_is_where_the_environment_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/x")
    monkeypatch.delenv("DRAGOMAN_CACHE", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert str(cache()) == "/home/x/.cache/dragoman"
    monkeypatch.setenv("XDG_CACHE_HOME", "/xdg")
    assert str(cache()) == "/xdg/dragoman"
    monkeypatch.setenv("DRAGOMAN_CACHE", "/chosen")
    assert str(cache()) == "/chosen"


def test_a_registration_socket_with_a_pod_uid_fits_below_every_node(tmp_path: Path) -> None:
    layout = Layout(folder=tmp_path, number=MOST_CLUSTERS)
    socket = layout.kubelet_root / "plugins_registry" / f"dragoman.dev-{'0' * 36}-reg.sock"
    assert len(str(socket)) <= 107


def test_two_clusters_share_no_path_and_no_address(tmp_path: Path) -> None:
    one, two = (Layout(folder=tmp_path / str(number), number=number) for number in (1, 2))
    for part in (
        "kubelet_root",
        "cdi",
        "namespace",
        "cgroup",
        "node_address",
        "host_address",
        "pod_subnet",
        "server",
    ):
        assert getattr(one, part) != getattr(two, part)


def test_names_for_clusters_of_ones_own_differ_and_are_names() -> None:
    made = {api.unique_name("kill-parts") for _ in range(20)}
    assert len(made) == 20
    assert all(check_name(name) == name for name in made)
    with pytest.raises(ClusterError):
        api.unique_name("Not A Name")


def test_without_access_to_the_node_every_operation_says_so() -> None:
    node = NoNode("this cluster was given by KUBECONFIG")
    operations: list[Callable[[], object]] = [
        lambda: node.name,
        lambda: node.kubelet_root,
        lambda: node.cdi_folder,
        lambda: node.state_root,
        node.start_kubelet,
        node.stop_kubelet,
        node.kill_kubelet,
        node.restart_kubelet,
        node.restart_containerd,
        lambda: node.list_files("/"),
        lambda: node.read_file("/x"),
        lambda: node.write_file("/x", b""),
        lambda: node.remove_files("/x"),
        lambda: node.run("true"),
        lambda: node.container_pids(pod_uid="u", container="c"),
    ]
    for operation in operations:
        with pytest.raises(NotAvailable, match="given by KUBECONFIG"):
            operation()
