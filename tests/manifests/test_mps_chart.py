"""The chart's DaemonSet for MPS: absent unless wanted, and what it may do."""

from __future__ import annotations

from typing import Any

import pytest

from kubelet_plugin.settings import parse_settings
from tests.manifests.support.helm import container, environment, render

pytestmark = pytest.mark.cluster

CONFINED = {
    "allowPrivilegeEscalation": False,
    "readOnlyRootFilesystem": True,
    "capabilities": {"drop": ["ALL"]},
}


def _daemon_sets(**mps: Any) -> dict[str, dict[str, Any]]:
    found = render({"mps": {"install": True, **mps}})
    return {one["metadata"]["name"]: one for one in found if one["kind"] == "DaemonSet"}


def _pod(one: dict[str, Any]) -> dict[str, Any]:
    pod: dict[str, Any] = one["spec"]["template"]["spec"]
    return pod


def test_nothing_of_it_is_installed_unless_it_is_wanted() -> None:
    (agent,) = [one for one in render() if one["kind"] == "DaemonSet"]
    assert not [name for name in environment(agent) if "MPS" in name]
    assert "mps" not in [one["name"] for one in _pod(agent)["volumes"]]


def test_the_agent_and_the_daemon_meet_in_one_folder_that_is_the_same_inside_and_outside() -> None:
    found = _daemon_sets(dir="/run/somewhere", memory="per-process")
    for one in found.values():
        assert environment(one)["DRAGOMAN_MPS_DIR"] == "/run/somewhere"
        assert {"name": "mps", "mountPath": "/run/somewhere"} in container(one)["volumeMounts"]
        (volume,) = [volume for volume in _pod(one)["volumes"] if volume["name"] == "mps"]
        assert volume["hostPath"]["path"] == "/run/somewhere"
    agent = {
        key: value if isinstance(value, str) else "x"
        for key, value in environment(found["dragoman-agent"]).items()
    }
    settings = parse_settings([], environment=agent)
    assert (settings.mps_dir, settings.mps_memory) == ("/run/somewhere", "per-process")


def test_it_sees_the_nodes_processes_and_has_no_other_right() -> None:
    pod = _pod(_daemon_sets()["dragoman-mps"])
    assert pod["hostPID"] is True
    assert pod["automountServiceAccountToken"] is False
    assert not {"hostIPC", "hostNetwork", "serviceAccountName"} & set(pod)
    assert pod["containers"][0]["securityContext"] == CONFINED
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert [one["name"] for one in pod["volumes"]] == ["mps", "tmp"]


def test_an_upgrade_of_the_chart_ends_no_program() -> None:
    assert _daemon_sets()["dragoman-mps"]["spec"]["updateStrategy"] == {"type": "OnDelete"}


def test_a_daemon_of_the_node_is_mounted_read_only_and_called_by_its_name_there() -> None:
    mps = _daemon_sets(program="/opt/nvidia/bin/nvidia-cuda-mps-control")["dragoman-mps"]
    assert environment(mps)["DRAGOMAN_MPS_PROGRAM"] == "/opt/dragoman/mps/nvidia-cuda-mps-control"
    assert {"name": "program", "mountPath": "/opt/dragoman/mps", "readOnly": True} in container(mps)[
        "volumeMounts"
    ]
