"""Builds the programs of a Kubernetes node from Go modules that are locked in this tree.

Purpose: ``hack/go/NAME`` holds go.mod, go.sum and tools.go; the programs go to
``CACHE/bin/NAME-VERSION-HASH/``.
Flow: when that folder is missing, take the one build lock, build into a temporary folder, rename it. Two
builders never collide, and a build that was interrupted leaves nothing that looks finished.
Limits: the hash covers the locked modules and the flags, not the Go version.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import tempfile
import time
from collections import deque
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from tooling.cluster.errors import ClusterError
from tooling.cluster.paths import GO_MODULES, cache
from tooling.cluster.progress import Report, elapsed

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

KUBERNETES_VERSIONS = ("1.34.4", "1.35.4", "1.36.3", "1.37.1")
DEFAULT_KUBERNETES = "1.36.3"

_FLAGS = ("-trimpath", "-mod=readonly", "-buildvcs=false")
_SECONDS_BETWEEN_LINES = 15.0
_TRIES = 4
_PAUSE_S = 5.0
_OF_THE_NETWORK = (
    "dial tcp", "connection re", "i/o timeout", "handshake timeout", "unexpected EOF", "server misbehaving",
    "429 Too Many", "500 Internal", "502 Bad", "503 Service", "504 Gateway", "INTERNAL_ERROR", "GOAWAY",
)  # fmt: skip
"""What Go says of a module that could not be fetched just now; it tries nothing a second time itself."""

_COMPONENTS = (
    "kube-apiserver",
    "kube-controller-manager",
    "kube-proxy",
    "kube-scheduler",
    "kubectl",
    "kubelet",
)


@dataclass(frozen=True, kw_only=True)
class Tool:
    """What is built together from one locked module: its programs (name to Go package) and how."""

    name: str
    version: str
    module: str
    programs: Mapping[str, str]
    link: str = "-s -w"
    tags: str = ""
    minutes: float = 1.0
    environment: Mapping[str, str] = field(default_factory=lambda: {"CGO_ENABLED": "0"})

    def arguments(self) -> list[str]:
        """The flags of ``go build``."""
        return [*_FLAGS, *([f"-tags={self.tags}"] if self.tags else []), f"-ldflags={self.link}"]

    def key(self, modules: Path = GO_MODULES) -> str:
        """The name of the folder that holds the built programs."""
        total = hashlib.sha256()
        for part in ("go.mod", "go.sum"):
            path = modules / self.module / part
            if not path.is_file():
                raise ClusterError(f"{path} is missing", remedy="It is part of the tree: check it out again.")
            content = path.read_bytes()
            total.update(f"{part} {len(content)}\n".encode())
            total.update(content)
        how = [self.arguments(), dict(self.programs), dict(self.environment)]
        total.update(json.dumps(how, sort_keys=True).encode())
        return f"{self.name}-{self.version}-{total.hexdigest()[:16]}"


def kubernetes(version: str) -> Tool:
    """The Kubernetes components of one release."""
    if version not in KUBERNETES_VERSIONS:
        raise ClusterError(
            f"Kubernetes {version} is not locked in this tree",
            remedy=f"Choose one of {', '.join(KUBERNETES_VERSIONS)}.",
        )
    major, minor, _ = version.split(".")
    stamp = "-X k8s.io/component-base/version."
    return Tool(
        name="kubernetes",
        version=version,
        module=f"kubernetes-{major}.{minor}",
        programs={name: f"k8s.io/kubernetes/cmd/{name}" for name in _COMPONENTS},
        link=f"-s -w {stamp}gitVersion=v{version} {stamp}gitMajor={major} {stamp}gitMinor={minor}",
        minutes=8,
    )


ETCD = Tool(
    name="etcd",
    version="3.6.16",
    module="etcd",
    programs={"etcd": "go.etcd.io/etcd/server/v3"},
    minutes=1,
)
CONTAINERD = Tool(
    name="containerd",
    version="2.4.2",
    module="containerd",
    programs={
        name: f"github.com/containerd/containerd/v2/cmd/{name}"
        for name in ("containerd", "containerd-shim-runc-v2", "ctr")
    },
    tags="no_btrfs no_zfs no_devmapper",
    link="-s -w -X github.com/containerd/containerd/v2/version.Version=v2.4.2",
    minutes=2,
)
HELM = Tool(
    name="helm",
    version="3.20.2",
    module="helm",
    programs={"helm": "helm.sh/helm/v3/cmd/helm"},
    link="-s -w -X helm.sh/helm/v3/internal/version.version=v3.20.2",
    minutes=2,
)
DRA_EXAMPLE_DRIVER = Tool(
    name="dra-example-driver",
    version="0.4.0",
    module="dra-example-driver",
    programs={"dra-example-kubeletplugin": "sigs.k8s.io/dra-example-driver/cmd/dra-example-kubeletplugin"},
    minutes=2,
)


def tools_of(version: str) -> tuple[Tool, ...]:
    """All that a cluster of this Kubernetes version is made of, Helm included."""
    return (kubernetes(version), ETCD, CONTAINERD, HELM)


def folder_of(tool: Tool) -> Path:
    """Where the programs of `tool` lie once they are built."""
    return cache() / "bin" / tool.key()


def is_built(tool: Tool) -> bool:
    """Whether `ensure` would return at once."""
    return folder_of(tool).is_dir()


def search_path(version: str) -> str:
    """A value for PATH on which every program of the cluster is found, before the machine's own."""
    folders = [str(folder_of(tool)) for tool in tools_of(version)]
    return os.pathsep.join([*folders, os.environ.get("PATH", ""), "/usr/sbin", "/sbin", "/usr/bin", "/bin"])


def ensure_all(version: str, *, report: Report) -> None:
    """Builds what is missing for a cluster of this Kubernetes version, one after the other."""
    missing = [tool for tool in tools_of(version) if not is_built(tool)]
    if missing:
        minutes = sum(tool.minutes for tool in missing)
        names = ", ".join(f"{tool.name} {tool.version}" for tool in missing)
        report(f"To build, once: {names}; about {minutes:g} minutes on 2 cores, into {cache() / 'bin'}")
    for tool in missing:
        ensure(tool, report=report)


def ensure(tool: Tool, *, report: Report) -> Path:
    """The folder with the programs of `tool`, building them when they are missing."""
    target = folder_of(tool)
    if target.is_dir():
        return target
    if shutil.which("go") is None:
        raise ClusterError(
            f"{tool.name} {tool.version} has to be built and there is no Go compiler on the PATH",
            remedy="Install Go 1.26 or later (https://go.dev/dl).",
        )
    target.parent.mkdir(parents=True, exist_ok=True)
    with _build_lock(target.parent / ".lock", report=report):
        if not target.is_dir():
            _build(tool, target=target, report=report)
    return target


@contextmanager
def _build_lock(path: Path, *, report: Report) -> Iterator[None]:
    """Held by one builder at a time on this machine; it falls with the process that holds it."""
    with path.open("w") as file:
        begin = said = time.monotonic()
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() - said >= _SECONDS_BETWEEN_LINES:
                    said = time.monotonic()
                    report(f"  waiting for another build that holds {path}: {elapsed(said - begin)}")
                time.sleep(0.5)
        yield


def _build(tool: Tool, *, target: Path, report: Report) -> None:
    title = f"{tool.name} {tool.version}"
    environment = {**os.environ, **tool.environment, "GOFLAGS": "", "GOWORK": "off"}
    module = GO_MODULES / tool.module
    begin = time.monotonic()
    report(f"Building {title} (about {tool.minutes:g} min from cold on 2 cores)")
    for left in reversed(range(_TRIES)):
        try:
            total = _count_packages(tool, module=module, environment=environment)
            break
        except ClusterError as failed:
            if not left or not any(sign in str(failed) for sign in _OF_THE_NETWORK):
                raise
            report(f"  {title}: a module could not be fetched; once more in {_PAUSE_S:g} s")
            time.sleep(_PAUSE_S)
    with tempfile.TemporaryDirectory(prefix=".building-", dir=target.parent) as scratch:
        partial = Path(scratch) / "bin"
        partial.mkdir()
        command = ["go", "build", "-v", *tool.arguments(), "-o", f"{partial}/", *tool.programs.values()]
        _run_with_progress(
            command, module=module, environment=environment, title=title, total=total, report=report
        )
        for program, package in tool.programs.items():
            made = partial / _go_name(package)
            if made.name != program:
                made.rename(partial / program)
        partial.rename(target)
    report(f"Built {title} in {elapsed(time.monotonic() - begin)}")


def _go_name(package: str) -> str:
    """The file name that ``go build`` gives a program: the path's last part that is not a major version."""
    *before, last = package.split("/")
    return before[-1] if last.startswith("v") and last[1:].isdigit() else last


def _count_packages(tool: Tool, *, module: Path, environment: Mapping[str, str]) -> int:
    command = ["go", "list", "-mod=readonly", *([f"-tags={tool.tags}"] if tool.tags else []), "-deps"]
    found = subprocess.run(
        [*command, *tool.programs.values()],
        cwd=module,
        env=dict(environment),
        capture_output=True,
        text=True,
        check=False,
    )
    if found.returncode != 0:
        raise _build_failed(tool.name, found.stderr.splitlines()[-12:])
    return len(found.stdout.splitlines())


def _run_with_progress(
    command: list[str],
    *,
    module: Path,
    environment: Mapping[str, str],
    title: str,
    total: int,
    report: Report,
) -> None:
    begin = said = time.monotonic()
    done = 0
    last: deque[str] = deque(maxlen=12)
    with subprocess.Popen(
        command,
        cwd=module,
        env=dict(environment),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        if process.stderr is None:
            raise AssertionError
        for line in process.stderr:
            last.append(line.rstrip())
            done += 1
            if time.monotonic() - said >= _SECONDS_BETWEEN_LINES:
                said = time.monotonic()
                report(f"  {title}: {done} of at most {total} packages, {elapsed(said - begin)}")
    if process.returncode != 0:
        raise _build_failed(title, list(last))


def _build_failed(title: str, lines: list[str]) -> ClusterError:
    return ClusterError(
        f"{title} could not be built; the last that Go said was:\n  " + "\n  ".join(lines) + "\n",
        remedy="Look for a missing network (GOPROXY), an old Go or a full disk; then run the command again.",
    )
