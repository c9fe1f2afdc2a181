"""docs/security.md explains every privilege that the chart gives, and none that it does not."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from tests.manifests.support.helm import render
from tests.manifests.support.security import host_mounts, lines
from tests.manifests.test_chart import SETS

pytestmark = pytest.mark.cluster

PAGE = Path(__file__).parents[2] / "docs" / "security.md"
VALUES: list[dict[str, Any]] = [
    *SETS.values(),
    {"agent": {"privileged": True}},
    {"host": {"rootPropagation": "None"}},
    {"kernel": {"hook": "/usr/lib/dragoman/hook"}},
    {"inForce": {"enabled": False}},
    {"mps": {"install": True}},
    {"mps": {"install": True, "program": "/opt/mps/nvidia-cuda-mps-control", "privileged": True}},
]
SECTIONS = {
    "The agent": {"agent"},
    "The supervisor of MPS": {"mps"},
    "The controller, and the check before an uninstall": {"controller", "uninstall-check"},
}


def _explained() -> set[tuple[str, str]]:
    found = set()
    for heading, text in re.findall(
        r"^## ([^\n]+)\n(.*?)(?=^## |\Z)", PAGE.read_text(), re.MULTILINE | re.DOTALL
    ):
        for line, *cells in (
            re.split(r"(?<!\\) \| ", row) for row in re.findall(r"^\| (`.*) \|$", text, re.MULTILINE)
        ):
            assert len(cells) == 2
            assert all(cells)
            found |= {(component, line.strip("`")) for component in SECTIONS[heading]}
    return found


def _given() -> set[tuple[str, str]]:
    found = set[str]().union(*(lines(render(values)) for values in VALUES))
    return {(component, line) for component, _, line in (one.partition(": ") for one in found)}


def test_every_privilege_of_the_charts_pods_is_explained() -> None:
    assert not _given() - _explained()


def test_nothing_is_explained_that_no_value_gives() -> None:
    # What the controller's pods have, one of the two has.
    given = {line for _, line in _given()}
    assert not {line for _, line in _explained()} - given


def test_nothing_of_the_node_is_writable_but_the_kubelets_two_folders_cdi_and_our_own() -> None:
    written = {path for values in VALUES for path, writable in host_mounts(render(values)) if writable}
    kubelet = re.compile(r"(/\w+)+/kubelet/plugins(_registry|/dragoman\.dev)")
    others = {path for path in written if not kubelet.fullmatch(path)}
    assert len(others) < len(written)
    assert others == {
        "/var/run/cdi",
        "/run/dragoman",
        "/run/dragoman-mps",
        "/var/lib/dragoman/hook",
        "/var/lib/dragoman/preload",
        "/var/lib/dragoman/state",
    }


def test_as_the_chart_comes_no_pod_is_privileged_or_in_a_namespace_of_the_node() -> None:
    forbidden = ("privileged: true", "hostNetwork", "hostPID", "hostIPC", "hostPort")
    assert not [line for line in lines(render({})) if any(word in line for word in forbidden)]
