"""The method `kernel` of this agent, with its programs put where the node's container runtime can run it.

Flow: as `kubelet_plugin.preload_install`: a new version is a new file, so that a container that is being
started finds the version that its CDI spec names.

Limits: old versions stay, 700 KB each: CDI specs of claims that were prepared before name them.
"""

from __future__ import annotations

import os
from pathlib import Path

import structlog

from driver.errors import DragomanError
from driver.isolation.kernel import Kernel, KernelSettings
from kubelet_plugin.preload_install import install_version
from kubelet_plugin.prepare.durable import NodeStorageError
from kubelet_plugin.settings import Settings

log = structlog.get_logger(__name__)


def make_kernel(settings: Settings) -> Kernel:
    """The method; a program that cannot be installed makes it unavailable, with the reason."""
    hook, why = _install(settings, program=settings.kernel_hook, stem="dragoman-hook")
    # The second one lies beside the first.
    nvml = settings.kernel_hook and f"{settings.kernel_hook}-nvml"
    nvml_hook, _ = _install(settings, program=nvml, stem="dragoman-hook-nvml")
    return Kernel(
        KernelSettings(
            hook=hook,
            hook_problem=why,
            nvml_hook=nvml_hook,
            cgroup_root=str(settings.cgroup_root),
            driver_root=str(settings.driver_root),
        )
    )


def _install(settings: Settings, *, program: str, stem: str) -> tuple[str, str]:
    """Where the program is on the node, and why it is not there."""
    if not program:
        return "", ""
    try:
        folder = settings.host_root / settings.hook_dir.relative_to("/")
        installed = install_hook(Path(program), folder=folder, stem=stem)
    except FileNotFoundError:
        # An image made without a C compiler: no problem unless a policy names the method.
        return "", f"the agent's image has no {program}"
    except (OSError, DragomanError) as failed:
        log.error("program for cgroups not installed", error=str(failed))  # noqa: TRY400 - no bug of ours
        return "", f"{program} cannot be installed: {failed}"
    return str(settings.hook_dir / installed.name), ""


def install_hook(program: Path, *, folder: Path, stem: str = "dragoman-hook") -> Path:
    """Installs a program below `folder`, its name beginning with `stem`.

    Returns:
        Path of the installed version.

    Raises:
        FileNotFoundError: There is no such program.
        OSError: It cannot be read or the folder cannot be made.
        NodeStorageError: The folder cannot be written, or lies where no program may be run.
    """
    installed = install_version(program, folder=folder, stem=stem)
    if os.statvfs(folder).f_flag & os.ST_NOEXEC:
        # The runtime would fail to start it, and every container with it.
        raise NodeStorageError(
            f"The file system of {folder} is mounted noexec, so that no program runs from there.",
            remedy="Name a folder of the node from which programs may run in the chart's value host.hookDir.",
        )
    return installed
