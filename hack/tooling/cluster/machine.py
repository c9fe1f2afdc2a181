"""What a machine must have before a node can run on it, and how it gets what is missing."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tooling.cluster.errors import ClusterError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tooling.cluster.progress import Report

CNI_PLUGINS = Path("/usr/lib/cni")
_PLACES = ("/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin")
_PACKAGES: Mapping[str, str] = {
    "runc": "runc",
    "nft": "nftables",
    "iptables": "iptables",
    "ip": "iproute2",
    "nsenter": "util-linux",
    "openssl": "openssl",
    "gcc": "gcc",
}
_FILES: Mapping[str, str] = {
    str(CNI_PLUGINS / "bridge"): "containernetworking-plugins",
    str(CNI_PLUGINS / "host-local"): "containernetworking-plugins",
    "/usr/include/stdio.h": "libc6-dev",
    "/bin/busybox": "busybox-static",
}


@dataclass(frozen=True, kw_only=True)
class Missing:
    """One thing a node needs that this machine lacks.

    `package` is the Debian package that brings it, if one does; `to_build` tells what is not needed any more
    once all is built.
    """

    what: str
    remedy: str
    package: str = ""
    to_build: bool = False


def missing() -> list[Missing]:
    """What this machine lacks, in sentences; empty when a cluster can be started once it is built."""
    found: list[Missing] = []
    if os.uname().sysname != "Linux":
        return [Missing(what="this is not Linux", remedy="Use a Linux machine or hack/kind.")]
    if os.geteuid() != 0:
        found.append(Missing(what="this is not root", remedy="Run it as root; or use hack/kind."))
    if shutil.which("go") is None:
        found.append(
            Missing(
                what="there is no Go compiler",
                remedy="Install Go 1.26 or later (https://go.dev/dl).",
                to_build=True,
            )
        )
    wanted = {f"the program {name}": package for name, package in _PACKAGES.items() if not _has(name)}
    wanted |= {f"the file {path}": package for path, package in _FILES.items() if not Path(path).exists()}
    found.extend(
        Missing(what=f"{what} is missing", remedy=f"apt-get install {package}", package=package)
        for what, package in wanted.items()
    )
    return found


def prepare(*, report: Report, needs_go: bool = True) -> None:
    """Installs missing Debian packages when that is possible; raises for what remains."""
    lacks = [one for one in missing() if needs_go or not one.to_build]
    packages = sorted({one.package for one in lacks if one.package})
    if packages and os.geteuid() == 0 and shutil.which("apt-get"):
        _install(packages, report=report)
        lacks = [one for one in missing() if needs_go or not one.to_build]
    if lacks:
        listed = "; ".join(f"{one.what} ({one.remedy})" for one in lacks)
        raise ClusterError(f"A Kubernetes node cannot run on this machine yet: {listed}")


def _install(packages: list[str], *, report: Report) -> None:
    report(f"Installing Debian packages (about half a minute): {' '.join(packages)}")
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for command in (["update", "-qq"], ["install", "-y", "-qq", "--no-install-recommends", *packages]):
        done = subprocess.run(
            ["apt-get", "-o", "Acquire::Retries=3", *command],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            last = "\n  ".join(done.stderr.splitlines()[-5:])
            raise ClusterError(f"`apt-get {' '.join(command)}` failed:\n  {last}\n")


def _has(program: str) -> bool:
    return shutil.which(program, path=os.pathsep.join([os.environ.get("PATH", ""), *_PLACES])) is not None
