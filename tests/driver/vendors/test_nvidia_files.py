from __future__ import annotations

from pathlib import Path

import pytest

from driver.cdi import DeviceNode
from driver.vendors.nvidia_files import DriverFilesMissingError, device_nodes, driver_files
from tests.driver.vendors.driver_root import (
    VERSION,
    add_device_nodes,
    flat_root,
    recorded_files,
    recorded_root,
)
from tests.support.folder_host import FolderHost

DEBIAN = "/usr/lib/x86_64-linux-gnu"
RED_HAT = "/usr/lib64"
CURRENT = f"{DEBIAN}/nvidia/current"


@pytest.fixture
def host(tmp_path: Path) -> FolderHost:
    return FolderHost(tmp_path)


def mounts(
    host: FolderHost, *, root: str = "/", version: str = VERSION, machine: str = "x86_64"
) -> dict[str, str]:
    found = driver_files(version=version, driver_root=root, host=host, machine=machine)
    paths = {mount.container_path: mount.host_path for mount in found.mounts}
    assert len(paths) == len(found.mounts), "two files are mounted at one place"
    return paths


def test_all_libraries_of_the_recorded_driver_are_mounted(host: FolderHost) -> None:
    recorded_root(host)
    wanted = {path for path in recorded_files() if path.endswith(f".so.{VERSION}")}
    assert len(wanted) == 11
    assert {path for path in mounts(host).values() if ".so" in path} == wanted


@pytest.mark.parametrize(
    "name",
    [
        "libcuda.so.1",
        "libcuda.so",
        "libnvidia-ml.so.1",
        "libnvidia-ptxjitcompiler.so.1",
        "libnvidia-nvvm.so.4",
        "libnvidia-cfg.so.1",
        "libcudadebugger.so.1",
        "libnvidia-opencl.so.1",
    ],
)
def test_each_name_that_a_program_may_ask_for_leads_to_the_file_behind_the_links(
    host: FolderHost, name: str
) -> None:
    recorded_root(host)
    real = f"{CURRENT}/{name.partition('.so')[0]}.so.{VERSION}"
    found = mounts(host)
    assert found[f"{DEBIAN}/{name}"] == real
    assert found[f"{RED_HAT}/{name}"] == real


def test_programs_are_mounted_where_they_are_looked_for(host: FolderHost) -> None:
    recorded_root(host)
    found = mounts(host)
    assert found["/usr/bin/nvidia-smi"] == "/usr/lib/nvidia/current/nvidia-smi"
    assert found["/usr/bin/nvidia-cuda-mps-control"] == "/usr/bin/nvidia-cuda-mps-control"
    assert found["/usr/bin/nvidia-cuda-mps-server"] == "/usr/sbin/nvidia-cuda-mps-server"


def test_a_driver_containers_absolute_links_are_followed_below_its_root(host: FolderHost) -> None:
    root = "/run/nvidia/driver"
    recorded_root(host, below=root)
    host.add(f"{DEBIAN}/libcuda.so.1")
    found = mounts(host, root=root)
    assert found[f"{DEBIAN}/libcuda.so.1"] == f"{root}{CURRENT}/libcuda.so.{VERSION}"
    assert found["/usr/bin/nvidia-smi"] == f"{root}/usr/lib/nvidia/current/nvidia-smi"


@pytest.mark.parametrize(
    ("root", "folder"),
    [
        ("/", "/usr/lib64"),
        ("/", "/usr/lib/x86_64-linux-gnu"),
        ("/home/kubernetes/bin/nvidia", "/home/kubernetes/bin/nvidia/lib64"),
        ("/", "/run/opengl-driver/lib"),
    ],
)
def test_libraries_are_found_where_installations_keep_them(host: FolderHost, root: str, folder: str) -> None:
    flat_root(host, folder)
    assert mounts(host, root=root)[f"{DEBIAN}/libcuda.so.1"] == f"{folder}/libcuda.so.{VERSION}"


def test_64_bit_libraries_are_preferred_to_32_bit_ones_beside_them(host: FolderHost) -> None:
    flat_root(host, "/usr/lib")
    flat_root(host, "/usr/lib64")
    assert {path.rpartition("/")[0] for path in mounts(host).values()} == {"/usr/lib64"}


def test_libraries_of_another_version_are_left_out(host: FolderHost) -> None:
    flat_root(host, DEBIAN)
    host.add(f"{DEBIAN}/libnvidia-old.so.470.1")
    host.add(f"{DEBIAN}/libcuda.so.470.1")
    assert not any("470" in path for path in mounts(host).values())


def test_on_arm_the_loaders_folder_is_that_of_arm(host: FolderHost) -> None:
    flat_root(host, "/usr/lib/aarch64-linux-gnu")
    assert "/usr/lib/aarch64-linux-gnu/libcuda.so.1" in mounts(host, machine="aarch64")


def test_a_driver_of_another_version_than_the_running_one_is_refused(host: FolderHost) -> None:
    flat_root(host, DEBIAN)
    with pytest.raises(
        DriverFilesMissingError, match=r"no libcuda.so.550.1 below the driver root /"
    ) as refused:
        mounts(host, version="550.1")
    assert "host.driverRoot" in refused.value.remedy


def test_without_a_hook_nothing_but_mounts_is_needed(host: FolderHost) -> None:
    recorded_root(host)
    found = driver_files(version=VERSION, driver_root="/", host=host, machine="x86_64")
    assert found.hooks == ()
    assert found.env == {"NVIDIA_VISIBLE_DEVICES": "void"}


@pytest.mark.parametrize(
    ("program", "args"),
    [
        ("/usr/bin/nvidia-cdi-hook", ("nvidia-cdi-hook", "update-ldcache", "--folder", DEBIAN)),
        (
            "/usr/local/nvidia/toolkit/nvidia-ctk",
            ("nvidia-ctk", "hook", "update-ldcache", "--folder", DEBIAN),
        ),
    ],
)
def test_where_the_toolkit_has_a_hook_it_fills_the_containers_cache(
    host: FolderHost, program: str, args: tuple[str, ...]
) -> None:
    recorded_root(host)
    host.add(program)
    found = driver_files(version=VERSION, driver_root="/", host=host, machine="x86_64")
    assert [(hook.hook_name, hook.path, hook.args) for hook in found.hooks] == [
        ("createContainer", program, args)
    ]
    assert not any(mount.container_path.startswith(RED_HAT) for mount in found.mounts)


def test_the_persistence_daemons_socket_is_there_if_the_host_has_it(host: FolderHost) -> None:
    recorded_root(host)
    assert "/run/nvidia-persistenced/socket" not in mounts(host)
    host.add("/run/nvidia-persistenced/socket")
    assert mounts(host)["/run/nvidia-persistenced/socket"] == "/run/nvidia-persistenced/socket"


def test_two_cards_get_the_same_driver_files(host: FolderHost) -> None:
    recorded_root(host)
    first, second = (driver_files(version=VERSION, driver_root="/", host=host) for _ in range(2))
    assert first == second


def nodes(host: FolderHost, minor: int = 0, root: str = "/") -> tuple[DeviceNode, ...]:
    return device_nodes(minor=minor, driver_root=root, host=host).device_nodes


def test_a_container_gets_control_uvm_and_its_own_card(host: FolderHost) -> None:
    add_device_nodes(host, 0, 1)
    assert [node.path for node in nodes(host, 1)] == [
        "/dev/nvidiactl",
        "/dev/nvidia-uvm",
        "/dev/nvidia1",
        "/dev/nvidia-uvm-tools",
    ]
    assert {node.host_path for node in nodes(host, 1)} == {""}


def test_modeset_is_there_if_the_host_has_it(host: FolderHost) -> None:
    add_device_nodes(host, 0)
    host.add("/dev/nvidia-modeset")
    assert "/dev/nvidia-modeset" in [node.path for node in nodes(host)]


def test_nodes_that_a_driver_container_made_are_given_under_their_usual_names(host: FolderHost) -> None:
    add_device_nodes(host, 0, folder="/run/nvidia/driver/dev")
    assert DeviceNode(
        path="/dev/nvidia0", host_path="/run/nvidia/driver/dev/nvidia0", permissions="rw"
    ) in nodes(host, root="/run/nvidia/driver")


@pytest.mark.parametrize("missing", ["nvidiactl", "nvidia-uvm", "nvidia0"])
def test_a_node_that_cuda_needs_must_be_there(host: FolderHost, missing: str) -> None:
    add_device_nodes(host, 0)
    host.local(f"/dev/{missing}").unlink()
    with pytest.raises(DriverFilesMissingError, match=f"no /dev/{missing}") as refused:
        nodes(host)
    assert "nvidia-modprobe" in refused.value.remedy
