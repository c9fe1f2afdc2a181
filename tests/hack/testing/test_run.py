"""What `hack/test` starts for a part, and that it is taken down again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pytest

from tooling.testing import __main__ as command
from tooling.testing.parts import Machine, Part, choose
from tooling.testing.runner import Outcome

FULL = Machine(root=True, go=True, debian=True, linux=True)


class Run:
    """Notes what would be done."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, starts: bool = True) -> None:
        self.clusters: list[tuple[str, str]] = []
        self.arguments: list[str] = []
        self.environment: Mapping[str, str] = {}
        self._starts = starts
        monkeypatch.setattr(command, "_cluster", self._cluster)
        monkeypatch.setattr(command, "run_part", self._run_part)
        monkeypatch.setattr(command, "CLUSTER", "test")

    def __call__(
        self, name: str, *, chosen: bool = False, kubeconfig: str = "", keep: bool = False
    ) -> Outcome:
        (part,) = choose(machine=FULL, only=frozenset({name}), kubeconfig=kubeconfig)
        return command._run(
            part, arguments=[], chosen=chosen, kubeconfig=kubeconfig, version="1.36.3", keep=keep
        )

    def _cluster(self, what: str, _flag: str, name: str, *_: str) -> int:
        self.clusters.append((what, name))
        return 0 if self._starts or what == "down" else 1

    def _run_part(self, part: Part, *, arguments: Sequence[str], environment: Mapping[str, str]) -> Outcome:
        self.arguments, self.environment = list(arguments), environment
        return Outcome(part=part.name, passed=1)


def test_each_process_of_the_cluster_part_has_a_cluster_and_none_is_left(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run = Run(monkeypatch)
    run("cluster")
    assert run.environment["DRAGOMAN_CLUSTER"] == "test,test-2"
    assert "--numprocesses=2" in run.arguments
    assert run.clusters == [("up", "test"), ("up", "test-2"), ("down", "test"), ("down", "test-2")]


def test_some_tests_by_themselves_run_in_one_process_on_one_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    run = Run(monkeypatch)
    run("cluster", chosen=True, keep=True)
    assert run.environment["DRAGOMAN_CLUSTER"] == "test"
    assert run.arguments == []
    assert run.clusters == [("up", "test")]


def test_a_cluster_that_does_not_start_is_a_failure_and_is_removed(monkeypatch: pytest.MonkeyPatch) -> None:
    run = Run(monkeypatch, starts=False)
    outcome = run("cluster")
    assert (outcome.ran, outcome.status) == (False, 1)
    assert run.clusters == [("up", "test"), ("down", "test"), ("down", "test-2")]


def test_on_a_cluster_that_was_given_nothing_is_started(monkeypatch: pytest.MonkeyPatch) -> None:
    run = Run(monkeypatch)
    run("cluster", kubeconfig="/some/file")
    assert run.environment["DRAGOMAN_KUBECONFIG"] == "/some/file"
    assert "DRAGOMAN_CLUSTER" not in run.environment
    assert (run.clusters, run.arguments) == ([], [])


def test_files_with_clusters_of_their_own_run_side_by_side_without_the_runs_cluster(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run = Run(monkeypatch)
    run("own-cluster")
    assert run.clusters == []
    assert "--dist=loadfile" in run.arguments
