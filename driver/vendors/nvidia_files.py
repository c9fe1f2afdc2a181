"""What a container needs of NVIDIA's driver where no Container Toolkit has written it down.

Purpose: device nodes, libraries and programs of the installed driver, as edits. The list of libraries is
derived from what lies in the driver root under the running driver's version, never from a list of ours, since
each driver brings others.

Flow: `device_nodes` + `driver_files`, both at prepare time, so that an upgraded driver is found.

How libraries are found inside: a library has to be reachable under each name that a program may ask for
(`libcuda.so.1`), so the file is mounted at each of those names: no symbolic links have to be made, which CDI
cannot do without a hook. Where the host has `nvidia-cdi-hook` or `nvidia-ctk`, its hook puts them into the
container's `ld.so.cache`, which some programs read (`ldconfig -p`). Where it has not, the files are mounted
in both folders that glibc's loader searches without a cache, Debian's and Red Hat's. `LD_LIBRARY_PATH` is
not used: CDI would overwrite the image's own.

Limits: compute and management only (no graphics, no MIG capability nodes, no firmware). Images with musl or
with a loader that knows other folders need the toolkit's hook.
"""

from __future__ import annotations

import platform
import posixpath
import re
from collections.abc import Iterable

from driver.cdi import ContainerEdits, DeviceNode, Hook, Mount
from driver.errors import PrepareError
from driver.host import Host

LIBRARY_DIRS = (
    "/usr/lib/x86_64-linux-gnu",
    "/usr/lib/aarch64-linux-gnu",
    "/usr/lib64",
    "/lib64",
    "/usr/lib",
    "/usr/local/nvidia/lib64",
    "/run/opengl-driver/lib",
)
"""Where the driver's libraries are, below the driver root; the first that has libcuda counts."""

_PROGRAM_DIRS = ("/usr/bin", "/usr/sbin", "/bin", "/sbin", "/usr/local/nvidia/bin")
_PROGRAMS = (
    "nvidia-smi",
    "nvidia-debugdump",
    "nvidia-persistenced",
    "nvidia-cuda-mps-control",
    "nvidia-cuda-mps-server",
)
_SOCKETS = ("/run/nvidia-persistenced/socket", "/run/nvidia-fabricmanager/socket")
_HOOKS = (
    "/usr/bin/nvidia-cdi-hook",
    "/usr/local/nvidia/toolkit/nvidia-cdi-hook",
    "/usr/bin/nvidia-ctk",
    "/usr/local/nvidia/toolkit/nvidia-ctk",
)
_NEEDED_NODES = ("nvidiactl", "nvidia-uvm")
_OPTIONAL_NODES = ("nvidia-uvm-tools", "nvidia-modeset")
_DRIVER_LIBRARY = re.compile(
    r"lib(cuda|nvidia|nvcuvid|nvoptix|EGL_nvidia|GLX_nvidia|GLESv\w+_nvidia)[^/]*\.so(\..+)?"
)

NO_RUNTIME_CARDS = {"NVIDIA_VISIBLE_DEVICES": "void"}
"""An image's own NVIDIA_VISIBLE_DEVICES=all would make an nvidia runtime add every card of the node."""


class DriverNotReadyError(PrepareError):
    """The vendor's driver is not loaded (yet), or is being replaced: waiting helps."""

    reason = "DriverNotReady"
    retriable = True


class DriverFilesMissingError(PrepareError):
    """The node's driver installation lacks what every CUDA program needs."""

    reason = "DriverFilesMissing"


def device_nodes(*, minor: int, driver_root: str, host: Host) -> ContainerEdits:
    """The card's node, and the nodes that all cards share.

    Args:
        minor: N of `/dev/nvidiaN` now.
        driver_root: Nodes may lie in `dev` below it, where a driver container makes its own.
        host: The node.

    Raises:
        DriverFilesMissingError: A node that CUDA needs does not exist.
    """
    folders = [posixpath.join(root, "dev") for root in dict.fromkeys(("/", driver_root))]
    found: list[DeviceNode] = []
    for name in (*_NEEDED_NODES, f"nvidia{minor}", *_OPTIONAL_NODES):
        inside = f"/dev/{name}"
        where = next((folder for folder in folders if host.exists(f"{folder}/{name}")), None)
        if where is not None:
            on_host = f"{where}/{name}"
            found.append(
                DeviceNode(path=inside, host_path="" if on_host == inside else on_host, permissions="rw")
            )
        elif name not in _OPTIONAL_NODES:
            raise DriverFilesMissingError(
                f"The node has no {inside}.",
                remedy="An administrator runs nvidia-modprobe -u -c 0 there, or starts the driver container.",
            )
    return ContainerEdits(device_nodes=tuple(found))


def driver_files(*, version: str, driver_root: str, host: Host, machine: str = "") -> ContainerEdits:
    """Libraries and programs of the driver, and how the container's loader finds them.

    Args:
        version: Version of the running kernel driver; libraries of another version do not work with it.
        driver_root: Where the driver is installed: `/`, or a driver container's root on the node.
        host: The node.
        machine: Processor, as `uname -m` prints it; "" for this one.

    Raises:
        DriverFilesMissingError: There is no libcuda of this version below the driver root.
    """
    libraries = _libraries(version=version, root=driver_root, host=host)
    hook = next((path for path in _HOOKS if host.exists(path)), None)
    folders = _loader_folders(machine or platform.machine())
    if hook is not None:
        folders = folders[:1]
    mounts = [
        Mount(host_path=libraries[name], container_path=f"{folder}/{name}")
        for folder in folders
        for name in sorted(libraries)
    ]
    mounts += _programs(root=driver_root, host=host)
    mounts += _sockets(root=driver_root, host=host)
    return ContainerEdits(
        env=NO_RUNTIME_CARDS,
        mounts=tuple(mounts),
        hooks=(_update_ldcache(hook, folders[0]),) if hook is not None else (),
    )


def _libraries(*, version: str, root: str, host: Host) -> dict[str, str]:
    """Each name that a program may ask for, and the file behind it as a path of the host."""
    suffix = f".so.{version}"
    for folder in LIBRARY_DIRS:
        found = _in_folder(folder, suffix=suffix, root=root, host=host)
        if not any(name.startswith("libcuda.so") for name in found):
            continue
        # Distributions with alternatives keep the files, and names that only they need, in another folder.
        for real in sorted({posixpath.dirname(path) for path in found.values()}):
            inside = "/" + posixpath.relpath(real, root)
            found = {**_in_folder(inside, suffix=suffix, root=root, host=host), **found}
        return found
    raise DriverFilesMissingError(
        f"There is no libcuda.so.{version} below the driver root {root}.",
        field="host.driverRoot",
        remedy="An administrator sets the chart's value host.driverRoot to where the driver is installed.",
    )


def _in_folder(folder: str, *, suffix: str, root: str, host: Host) -> dict[str, str]:
    found = {}
    for name in host.list_dir(resolve_below(folder, root=root, host=host)):
        if _DRIVER_LIBRARY.fullmatch(name):
            real = resolve_below(f"{folder}/{name}", root=root, host=host)
            if real.endswith(suffix) and host.exists(real):
                found[name] = real
    return found


def resolve_below(path: str, *, root: str, host: Host) -> str:
    """Follows links as a process with that root would; answers with a path of the host."""
    inside = path
    for _ in range(16):
        resolved = host.resolve(posixpath.join(root, inside.lstrip("/")))
        if root in ("/", resolved) or resolved.startswith(root.rstrip("/") + "/"):
            return resolved
        # An absolute link leads out of a driver root that is not the host's own: it is meant below it.
        inside = resolved
    return posixpath.join(root, inside.lstrip("/"))


def _loader_folders(machine: str) -> tuple[str, ...]:
    return (f"/usr/lib/{machine}-linux-gnu", "/usr/lib64")


def _programs(*, root: str, host: Host) -> Iterable[Mount]:
    for name in _PROGRAMS:
        for folder in _PROGRAM_DIRS:
            real = resolve_below(f"{folder}/{name}", root=root, host=host)
            if host.exists(real):
                yield Mount(host_path=real, container_path=f"/usr/bin/{name}")
                break


def _sockets(*, root: str, host: Host) -> Iterable[Mount]:
    for path in _SOCKETS:
        for candidate in dict.fromkeys((posixpath.join(root, path.lstrip("/")), path)):
            if host.exists(candidate):
                options = ("ro", "nosuid", "nodev", "noexec", "bind")
                yield Mount(host_path=candidate, container_path=path, options=options)
                break


def _update_ldcache(program: str, folder: str) -> Hook:
    name = posixpath.basename(program)
    words = (name, "hook") if name == "nvidia-ctk" else (name,)
    return Hook(
        hook_name="createContainer", path=program, args=(*words, "update-ldcache", "--folder", folder)
    )
