from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from driver.cards import IsolationLevel
from driver.shares import Share
from kubelet_plugin.host import NodeHost
from kubelet_plugin.in_force import usage
from kubelet_plugin.in_force.usage import MAX_SERIES, Place, Use, post, read_uses
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
