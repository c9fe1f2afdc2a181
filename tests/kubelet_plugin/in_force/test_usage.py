from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from driver.cards import IsolationLevel
from driver.isolation.region import read_region
from driver.shares import Share
from kubelet_plugin.host import NodeHost
from kubelet_plugin.in_force import usage
from kubelet_plugin.in_force.usage import (
    MAX_SERIES,
    Holder,
    Place,
    Use,
    holder_of,
    post,
    read_uses,
    wanted_switches,
)
from kubelet_plugin.metrics import Metrics
from kubelet_plugin.prepare.records import ShareRecord
from tests.driver.isolation import regions

NOW = 1_700_000_000.0
"""The last launch in the regions that tests make."""


def share(
    claim: str = "u1", *, device: str = "card-0", policy: str = "default", index: int = 0
) -> ShareRecord:
    return ShareRecord(
        share=Share(claim_uid=claim, request="gpu", device=device, memory_mib=64, cores_percent=30),
        pool="n/dragoman",
        cdi_device="d",
        index=index,
        core_policy=policy,
        memory_level=IsolationLevel.PRELOAD,
        cores_level=IsolationLevel.PRELOAD,
    )


def place(pod: str = "pod", device: str = "card-0") -> Place:
    return Place(namespace="ns", pod=pod, container="app", claim="claim", device=device)


def uses(tmp_path: Path, *records: ShareRecord, content: bytes | None = None) -> list[Use]:
    for record in records:
        path = tmp_path / record.share.claim_uid
        if not path.exists():
            path.write_bytes(regions.made(processes=[{0: (7, 3), 1: (9, 4)}]) if content is None else content)
    return read_uses(
        [
            (place(record.share.claim_uid, record.share.device), record, f"/{record.share.claim_uid}")
            for record in records
        ],
        host=NodeHost(tmp_path),
    )


def series(metrics: Metrics, name: str) -> list[str]:
    lines = metrics.render().decode().splitlines()
    return [line for line in lines if line.startswith(f"dragoman_agent_{name}{{")]


def test_use_is_told_by_namespace_pod_container_claim_and_device(tmp_path: Path) -> None:
    metrics = Metrics()
    post(uses(tmp_path, share(index=1)), metrics=metrics, waiting={})
    labels = 'claim="claim",container="app",device="card-0",namespace="ns",pod="u1"'
    assert series(metrics, "share_memory_used_bytes") == [
        f"dragoman_agent_share_memory_used_bytes{{{labels}}} 9.0"
    ]
    assert [line.split()[-1] for line in series(metrics, "share_compute_used_percent")] == ["4.0"]
    (limit,) = series(metrics, "share_memory_limit_bytes")
    assert float(limit.split()[-1]) == 64 << 20


def test_series_of_what_is_gone_are_gone(tmp_path: Path) -> None:
    metrics = Metrics()
    post(uses(tmp_path, share()), metrics=metrics, waiting={})
    post([], metrics=metrics, waiting={})
    assert not any(series(metrics, name) for name in usage.SERIES)


def test_the_number_of_series_is_bounded(tmp_path: Path) -> None:
    metrics = Metrics()
    (one,) = uses(tmp_path, share())
    many = [replace(one, place=place(f"pod-{number}")) for number in range(MAX_SERIES + 50)]
    post(many, metrics=metrics, waiting={})
    assert len(series(metrics, "share_processes")) == MAX_SERIES


@pytest.mark.parametrize("content", [b"", b"garbage" * 99, regions.made(version=(9, 9))])
def test_a_region_that_is_none_has_no_series(tmp_path: Path, content: bytes) -> None:
    assert uses(tmp_path, share(), content=content) == []


def test_shares_that_the_library_does_not_hold_have_no_region(tmp_path: Path) -> None:
    other = replace(share(), memory_level=IsolationLevel.KERNEL, cores_level=None)
    assert uses(tmp_path, other) == []


def switches(found: list[Use], *, now: float = NOW) -> dict[str, int]:
    holders: dict[str, set[Holder]] = {}
    for use in found:
        holders.setdefault(use.record.share.device, set()).add(holder_of(use.record))
    return wanted_switches(found, holders=holders, now=now)


def test_who_is_alone_on_its_card_has_no_cap(tmp_path: Path) -> None:
    assert switches(uses(tmp_path, share("u1"), share("u2", device="card-1"))) == {"/u1": 0, "/u2": 0}


def test_who_computes_beside_another_has_its_cap_and_so_has_the_other(tmp_path: Path) -> None:
    assert switches(uses(tmp_path, share("u1"), share("u2"))) == {"/u1": 1, "/u2": 1}


def test_a_neighbour_that_launched_nothing_lately_does_not_count(tmp_path: Path) -> None:
    found = uses(tmp_path, share("u1"), share("u2"))
    assert switches(found, now=NOW + 60) == {"/u1": 0, "/u2": 0}


def test_a_neighbour_whose_activity_nobody_knows_counts(tmp_path: Path) -> None:
    found = uses(tmp_path, share("u1"))
    holders = {"card-0": [("u1", "gpu"), ("u2", "gpu")]}
    assert wanted_switches(found, holders=holders, now=NOW) == {"/u1": 1}


def test_a_neighbour_without_a_region_counts_however_many_regions_there_are(tmp_path: Path) -> None:
    found = uses(tmp_path, share("u1"))
    (tmp_path / "second").write_bytes(regions.made())
    found += read_uses([(place("u1"), share("u1"), "/second")], host=NodeHost(tmp_path))
    holders = {"card-0": [("u1", "gpu"), ("u2", "gpu")]}
    later = NOW + 60
    assert wanted_switches(found, holders=holders, now=later) == {"/u1": 1, "/second": 1}
    assert wanted_switches(found, holders={"card-0": [("u1", "gpu")]}, now=later) == {"/u1": 0, "/second": 0}


def test_only_shares_whose_author_let_go_of_the_cap_have_a_switch(tmp_path: Path) -> None:
    found = uses(tmp_path, share("u1", policy="force"), share("u2", policy="disable"))
    assert switches(found) == {}


def test_a_region_with_two_cards_is_relieved_only_if_it_is_alone_on_both(tmp_path: Path) -> None:
    both = [share("u1"), share("u1", device="card-1", index=1)]
    assert switches(uses(tmp_path, *both)) == {"/u1": 0}
    assert switches(uses(tmp_path, *both, share("u2", device="card-1", policy="force"))) == {"/u1": 1}


def test_a_switch_is_written_only_where_it_differs(tmp_path: Path) -> None:
    found = uses(tmp_path, share("u1"), share("u2"))
    assert usage.write_switches(found, {"/u1": 0, "/u2": 1}, host=NodeHost(tmp_path)) == 1
    assert read_region("/u1", host=NodeHost(tmp_path)).utilization_switch == 0
    found = uses(tmp_path, share("u1"), share("u2"))
    assert usage.write_switches(found, {"/u1": 0, "/u2": 1}, host=NodeHost(tmp_path)) == 0


def test_a_region_that_vanished_since_it_was_read_is_no_trouble(tmp_path: Path) -> None:
    found = uses(tmp_path, share("u1"))
    (tmp_path / "u1").unlink()
    assert usage.write_switches(found, {"/u1": 0}, host=NodeHost(tmp_path)) == 0
