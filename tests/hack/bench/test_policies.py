"""The comparison of placement policies, on a cluster of two nodes."""

import argparse
import json
from pathlib import Path

import pytest

from driver.allocation import Snapshot
from tooling.bench import policies
from tooling.bench.policies_run import ROWS, Outcome, run
from tooling.bench.policies_stream import device_class, slices, stream


def small(arrivals: int = 60, seed: int = 1) -> Outcome:
    snapshot = Snapshot.build(slices=slices(2), classes=[device_class()])
    claims = stream(nodes=2, arrivals=arrivals, offered=1.2, seed=seed)
    return run(ROWS[0], snapshot, claims)


def test_a_stream_is_the_same_for_the_same_seed_and_another_for_another() -> None:
    first, again, other = (stream(nodes=2, arrivals=50, offered=1.2, seed=seed) for seed in (7, 7, 8))
    assert first == again
    assert first != other


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_every_policy_places_what_comes_first(row: object) -> None:
    snapshot = Snapshot.build(slices=slices(2), classes=[device_class()])
    (arrival,) = stream(nodes=2, arrivals=1, offered=1.2, seed=1)
    assert row.choose(snapshot, arrival.claim).allocations is not None  # type: ignore[attr-defined]


def test_an_overloaded_cluster_refuses_and_its_figures_are_parts_of_a_whole() -> None:
    found = small(arrivals=400)
    assert 0 < found.refused < 100
    assert 0 < found.memory_at_refusal <= 100
    assert 0 < found.cores_at_refusal <= 100
    assert 0 <= found.stranded < 100
    assert found.whole_at_end < found.whole_at_half < 100


def test_an_idle_cluster_refuses_nobody_and_keeps_its_cards() -> None:
    found = small(arrivals=1)
    assert found.refused == 0
    assert found.whole_at_end >= 100 * 14 / 16


def test_the_command_prints_a_line_for_each_policy_and_writes_json(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    parser = argparse.ArgumentParser()
    policies.add_commands(parser.add_subparsers(dest="command"))
    file = tmp_path / "out.json"
    words = ["policies", "--nodes", "2", "--claims", "20", "--seeds", "1,2", "--only", "spread nodes"]
    options = parser.parse_args([*words, "--json", str(file)])
    assert options.run(options)
    shown = capsys.readouterr().out
    assert shown.count("\n| spread nodes, ") == 2
    assert "seeds 1, 2" in shown
    assert all(len(some) == 2 for some in json.loads(file.read_text()).values())
