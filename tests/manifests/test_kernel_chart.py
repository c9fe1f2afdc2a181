"""What the chart gives the agent for the isolation method `kernel`."""

from __future__ import annotations

from typing import Any

import pytest

from tests.manifests.support.helm import container, environment, only, render

pytestmark = pytest.mark.cluster


def agent(**values: Any) -> tuple[dict[str, Any], dict[str, dict[str, Any]], dict[str, str]]:
    """Variables, mounts by path in the container, and host paths by volume."""
    found = only(render(values), "DaemonSet")
    mounts = {mount["mountPath"]: mount for mount in container(found)["volumeMounts"]}
    volumes = found["spec"]["template"]["spec"]["volumes"]
    return (
        environment(found),
        mounts,
        {one["name"]: one["hostPath"]["path"] for one in volumes if "hostPath" in one},
    )


def test_the_program_of_the_image_is_installed_below_the_nodes_folder() -> None:
    variables, mounts, volumes = agent()
    assert variables["DRAGOMAN_KERNEL_HOOK"] == "/opt/dragoman/hook/dragoman-hook"
    assert variables["DRAGOMAN_HOOK_DIR"] == "/var/lib/dragoman/hook"
    # The agent writes to the node through its view of the node's root, which is read-only itself.
    assert {"/var/lib/dragoman/hook", "/host/var/lib/dragoman/hook"} <= set(mounts)
    assert volumes[mounts["/host/var/lib/dragoman/hook"]["name"]] == "/var/lib/dragoman/hook"


def test_a_program_of_the_node_is_read_from_its_folder_and_not_written_to() -> None:
    variables, mounts, volumes = agent(kernel={"hook": "/opt/mine/dragoman-hook"})
    assert variables["DRAGOMAN_KERNEL_HOOK"] == "/opt/dragoman/hook-from-node/dragoman-hook"
    mount = mounts["/opt/dragoman/hook-from-node"]
    assert (volumes[mount["name"]], mount["readOnly"]) == ("/opt/mine", True)


def test_without_a_program_the_agent_gets_no_folder_for_it() -> None:
    variables, mounts, _ = agent(kernel={"hook": ""})
    assert "DRAGOMAN_KERNEL_HOOK" not in variables
    assert [path for path in mounts if "hook" in path] == []


def test_a_tree_of_cgroups_elsewhere_is_shown_to_an_agent_that_does_not_see_the_nodes_root() -> None:
    host = {"mountRoot": False, "cgroupRoot": "/run/cgroup2"}
    variables, mounts, volumes = agent(host=host)
    assert variables["DRAGOMAN_CGROUP_ROOT"] == "/run/cgroup2"
    mount = mounts["/run/cgroup2"]
    assert (volumes[mount["name"]], mount["readOnly"]) == ("/run/cgroup2", True)
    assert "/run/cgroup2" not in agent(host={"cgroupRoot": "/run/cgroup2"})[1]


def test_the_agents_own_view_of_cgroups_is_left_alone() -> None:
    assert "/sys/fs/cgroup" not in agent(host={"mountRoot": False})[1]
