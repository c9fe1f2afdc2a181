from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from driver.cdi import ContainerEdits, DeviceNode, Hook, Mount
from driver.vendors.nvidia_toolkit import ToolkitSpecs, UnusableSpecError
from tests.support.folder_host import FolderHost

UUID = "GPU-5c1f2a3b-0000-4000-8000-000000000000"
SPEC: dict[str, Any] = {
    "cdiVersion": "0.5.0",
    "kind": "nvidia.com/gpu",
    "devices": [
        {
            "name": "0",
            "containerEdits": {"deviceNodes": [{"path": "/dev/nvidia0"}, {"path": "/dev/dri/card1"}]},
        },
        {
            "name": UUID,
            "containerEdits": {"deviceNodes": [{"path": "/dev/nvidia0", "hostPath": "/dev/nvidia0"}]},
        },
        {"name": "1", "containerEdits": {"deviceNodes": [{"path": "/dev/nvidia1"}]}},
        {
            "name": "all",
            "containerEdits": {"deviceNodes": [{"path": "/dev/nvidia0"}, {"path": "/dev/nvidia1"}]},
        },
    ],
    "containerEdits": {
        "env": ["NVIDIA_VISIBLE_DEVICES=void", "NVIDIA_CTK_LIBCUDA_DIR=/usr/lib64"],
        "deviceNodes": [{"path": "/dev/nvidiactl"}],
        "mounts": [
            {
                "hostPath": "/usr/lib64/libcuda.so.1",
                "containerPath": "/c/libcuda.so.1",
                "options": ["rbind"],
            }
        ],
        "hooks": [
            {
                "hookName": "createContainer",
                "path": "/usr/bin/nvidia-cdi-hook",
                "args": ["nvidia-cdi-hook", "update-ldcache"],
                "env": ["NVIDIA_CTK_DEBUG=false"],
            }
        ],
    },
}


@pytest.fixture
def host(tmp_path: Path) -> FolderHost:
    found = FolderHost(tmp_path)
    for path in (
        "/dev/nvidia0",
        "/dev/nvidia1",
        "/dev/nvidiactl",
        "/dev/dri/card1",
        "/usr/lib64/libcuda.so.1",
        "/usr/bin/nvidia-cdi-hook",
    ):
        found.add(path)
    return found


def write(host: FolderHost, spec: Any, *, path: str = "/etc/cdi/nvidia.json") -> None:
    host.add(path, json.dumps(spec))


def edits(host: FolderHost, *, uuid: str = UUID, minor: int = 0) -> ContainerEdits | None:
    return ToolkitSpecs().edits(uuid=uuid, minor=minor, host=host)


def with_common(**changes: Any) -> dict[str, Any]:
    return {**SPEC, "containerEdits": {**SPEC["containerEdits"], **changes}}


def test_a_node_without_the_toolkit_has_no_spec(host: FolderHost) -> None:
    assert edits(host) is None


def test_the_edits_of_all_cards_and_of_this_card_are_taken(host: FolderHost) -> None:
    write(host, SPEC)
    assert edits(host) == ContainerEdits(
        env={"NVIDIA_VISIBLE_DEVICES": "void", "NVIDIA_CTK_LIBCUDA_DIR": "/usr/lib64"},
        device_nodes=(DeviceNode(path="/dev/nvidiactl"), DeviceNode(path="/dev/nvidia0")),
        mounts=(
            Mount(host_path="/usr/lib64/libcuda.so.1", container_path="/c/libcuda.so.1", options=("rbind",)),
        ),
        hooks=(
            Hook(
                hook_name="createContainer",
                path="/usr/bin/nvidia-cdi-hook",
                args=("nvidia-cdi-hook", "update-ldcache"),
                env=("NVIDIA_CTK_DEBUG=false",),
            ),
        ),
    )


def test_an_entry_without_the_uuid_is_found_by_the_node_that_the_card_has_now(host: FolderHost) -> None:
    write(host, SPEC)
    found = edits(host, uuid="GPU-other", minor=1)
    assert found is not None
    assert DeviceNode(path="/dev/nvidia1") in found.device_nodes
    assert DeviceNode(path="/dev/nvidia0") not in found.device_nodes


def test_an_entry_whose_uuid_fits_but_not_the_minor_number_is_from_before_a_boot(host: FolderHost) -> None:
    write(host, SPEC)
    found = edits(host, minor=1)
    assert found is not None
    assert DeviceNode(path="/dev/nvidia0") not in found.device_nodes


def test_yaml_is_read_too(host: FolderHost) -> None:
    host.add("/var/run/cdi/nvidia.yaml", json.dumps(SPEC, indent=2))
    assert edits(host) is not None


@pytest.mark.parametrize(
    "path", ["/etc/cdi/other.json", "/etc/cdi/nvidia.txt", "/etc/cdi/dragoman.dev-nvidia.json"]
)
def test_other_files_are_not_looked_at(host: FolderHost, path: str) -> None:
    write(host, SPEC, path=path)
    assert edits(host) is None


@pytest.mark.parametrize("kind", ["management.nvidia.com/gpu", "k8s.gpu.nvidia.com/claim", None])
def test_specs_of_other_kinds_are_passed_over(host: FolderHost, kind: str | None) -> None:
    write(host, {**SPEC, "kind": kind})
    assert edits(host) is None


@pytest.mark.parametrize("text", ["{", "- a list", "", "kind: [nvidia.com/gpu]"])
def test_a_file_that_is_no_spec_is_passed_over(host: FolderHost, text: str) -> None:
    host.add("/etc/cdi/nvidia.yaml", text)
    assert edits(host) is None


def test_a_card_without_an_entry_is_said_to_have_none(host: FolderHost) -> None:
    write(host, SPEC)
    with pytest.raises(UnusableSpecError, match=r"nvidia.json: no entry is for card GPU-x at /dev/nvidia5"):
        edits(host, uuid="GPU-x", minor=5)


def test_a_spec_of_another_driver_version_is_not_used(host: FolderHost) -> None:
    write(host, SPEC)
    host.local("/usr/lib64/libcuda.so.1").unlink()
    with pytest.raises(UnusableSpecError, match=r"libcuda.so.1, which is not there"):
        edits(host)


@pytest.mark.parametrize(
    "changes", [{"additionalGids": [44]}, {"intelRdt": {"closID": "x"}}, {"netDevices": [{}]}]
)
def test_a_spec_that_says_what_our_edits_cannot_is_not_used_in_part(
    host: FolderHost, changes: dict[str, Any]
) -> None:
    write(host, with_common(**changes))
    with pytest.raises(UnusableSpecError, match="cannot be carried over"):
        edits(host)


@pytest.mark.parametrize("changes", [{"mounts": [{}]}, {"env": ["NAME"]}, {"hooks": ["run"]}])
def test_a_malformed_spec_is_not_used(host: FolderHost, changes: dict[str, Any]) -> None:
    write(host, with_common(**changes))
    with pytest.raises(UnusableSpecError, match="not a CDI spec"):
        edits(host)


def test_a_second_spec_is_used_where_the_first_does_not_fit(host: FolderHost) -> None:
    write(host, {**SPEC, "devices": []})
    write(host, SPEC, path="/var/run/cdi/nvidia.json")
    assert edits(host) is not None


def test_a_spec_that_the_toolkit_wrote_anew_is_read_anew(host: FolderHost) -> None:
    specs = ToolkitSpecs()
    write(host, {**SPEC, "devices": []})
    with pytest.raises(UnusableSpecError):
        specs.edits(uuid=UUID, minor=0, host=host)
    write(host, SPEC)
    assert specs.edits(uuid=UUID, minor=0, host=host) is not None
