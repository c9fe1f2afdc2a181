"""The parts of the test suite, and what each needs from the machine.

Flow: `choose` is pure: facts about the machine and what was asked for -> parts to run and parts left out,
each with the reason as a sentence.
"""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

AT_ONCE = 2
"""Clusters that are tested on at the same time. On 2 processors these are 6 to 14 % busy between the starts
of clusters: most of the time is spent on waiting for what takes a while."""
FILES_APART = (f"--numprocesses={AT_ONCE}", "--dist=loadfile", "--no-loadscope-reorder")
"""In the order of their names: by the number of their tests, files with few and long ones would come last."""


@dataclass(frozen=True, kw_only=True)
class Machine:
    """What this machine offers."""

    root: bool
    go: bool
    debian: bool
    linux: bool


@dataclass(frozen=True, kw_only=True)
class Part:
    """One part of the suite.

    Attributes:
        name: What a person calls it.
        markers: pytest's `-m` expression.
        clusters: How many clusters have to be up before it: one for each of its processes.
        spread: pytest-xdist's arguments: how the part's tests are spread over processes.
        why_not: Empty, or the sentence that says why it does not run.
    """

    name: str
    markers: str
    clusters: int = 0
    spread: tuple[str, ...] = ()
    why_not: str = ""


def this_machine() -> Machine:
    """Looks at the machine."""
    return Machine(
        root=hasattr(os, "geteuid") and os.geteuid() == 0,
        go=shutil.which("go") is not None,
        debian=shutil.which("apt-get") is not None,
        linux=Path("/proc/self/ns/net").exists(),
    )


def choose(*, machine: Machine, only: frozenset[str] = frozenset(), kubeconfig: str = "") -> list[Part]:
    """The parts in the order in which they run.

    Args:
        machine: What the machine offers.
        only: Names of parts asked for; empty for all.
        kubeconfig: A cluster that exists already; then nothing is built and no own clusters are started.
    """
    missing = _missing(machine)
    existing = "" if kubeconfig or not missing else missing
    own = "A cluster was given, and these tests kill parts of one of their own." if kubeconfig else missing
    strace = "" if machine.linux else "System calls can be intercepted on Linux only."
    parts = [
        Part(
            name="unit",
            markers="not cluster and not own_cluster and not strace",
            # Nothing of it is shared.
            spread=("--numprocesses=auto", "--dist=worksteal"),
        ),
        Part(name="faults", markers="strace and not cluster and not own_cluster", why_not=strace),
        Part(
            name="cluster",
            markers="cluster and not own_cluster",
            # What restarts a kubelet, or changes what a node offers, disturbs whatever else runs in its
            # cluster. So each process has a cluster, and files stay together.
            clusters=1 if kubeconfig else AT_ONCE,
            spread=() if kubeconfig else FILES_APART,
            why_not=existing,
        ),
        Part(
            name="own-cluster",
            markers="own_cluster",
            spread=FILES_APART,
            why_not=own,
        ),
    ]
    return [part for part in parts if not only or part.name in only]


def _missing(machine: Machine) -> str:
    lacking = [
        what
        for there, what in (
            (machine.linux, "Linux"),
            (machine.root, "root (network namespaces, mounts)"),
            (machine.go, "Go (Kubernetes is built from its modules)"),
            (machine.debian, "Debian's packages (runc, CNI plugins)"),
        )
        if not there
    ]
    return f"A real Kubernetes needs {', '.join(lacking)}, not found here." if lacking else ""
