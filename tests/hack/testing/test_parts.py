from __future__ import annotations

from dataclasses import replace

import pytest

from tooling.testing.parts import Machine, choose

FULL = Machine(root=True, go=True, debian=True, linux=True)


def why_not(machine: Machine, **options: str) -> dict[str, str]:
    return {part.name: part.why_not for part in choose(machine=machine, **options)}  # type: ignore[arg-type]


def test_a_full_machine_runs_every_part() -> None:
    assert not any(why_not(FULL).values())


@pytest.mark.parametrize("missing", ["root", "go", "debian", "linux"])
def test_what_the_cluster_needs_and_lacks_is_named(missing: str) -> None:
    reasons = why_not(replace(FULL, **{missing: False}))
    assert "not found here" in reasons["cluster"]
    assert "not found here" in reasons["own-cluster"]
    assert not reasons["unit"]


def test_a_given_cluster_needs_nothing_of_the_machine() -> None:
    bare = Machine(root=False, go=False, debian=False, linux=True)
    reasons = why_not(bare, kubeconfig="/some/file")
    assert not reasons["cluster"]
    assert "own" in reasons["own-cluster"]


def test_only_the_parts_asked_for_are_chosen() -> None:
    assert [part.name for part in choose(machine=FULL, only=frozenset({"unit"}))] == ["unit"]


def test_files_run_side_by_side_where_each_process_has_a_cluster() -> None:
    parts = {part.name: part for part in choose(machine=FULL)}
    assert parts["faults"].spread == ()
    assert parts["cluster"].spread == parts["own-cluster"].spread
    assert f"--numprocesses={parts['cluster'].clusters}" in parts["cluster"].spread
    assert "--dist=loadfile" in parts["cluster"].spread


def test_on_a_cluster_that_was_given_tests_run_one_after_the_other() -> None:
    parts = {part.name: part for part in choose(machine=FULL, kubeconfig="/some/file")}
    assert (parts["cluster"].clusters, parts["cluster"].spread) == (1, ())
