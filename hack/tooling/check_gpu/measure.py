"""Runs the CUDA program of `child` with and without a share's edits, and judges what it saw.

Flow: share -> `Preload.edits` (the very code of the agent) -> environment of a child process. What mounts do
in a container, environment does here: `LD_PRELOAD` names the library, and the region lies in a folder of
ours.

Limits: one share of one card; nothing is said about compute, which needs kernels to measure.
"""

from __future__ import annotations

import json
import os
import posixpath
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from driver.cards import Card
from driver.host import Host
from driver.isolation.base import ShareContext
from driver.isolation.preload import CONTAINER_REGION_DIR, Preload, PreloadSettings
from driver.quantities import MIB
from driver.shares import Share

TIMEOUT_S = 120


class MeasureError(Exception):
    """The CUDA program could not do its work; says what it met."""


@dataclass(frozen=True, kw_only=True)
class Seen:
    """What the CUDA program saw.

    Attributes:
        told: Memory of the card as CUDA tells it, in bytes.
        taken: What it could take, in bytes.
        refusal: How the next step was refused; "" if it never was.
        mapped: Whether the preload library was in the process.
    """

    told: int
    taken: int
    refusal: str
    mapped: bool


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """One line of the table."""

    what: str
    wanted: str
    seen: str
    holds: bool


def edits_environment(
    share: Share, *, card: Card, index: int, library: str, folder: Path, host: Host
) -> dict[str, str]:
    """The share's edits as environment of a process outside of a container.

    Raises:
        IsolationError: The library is missing, or cannot hold the share.
    """
    method = Preload(
        PreloadSettings(library=library, files_dir=str(folder), region_dir=str(folder / "regions"))
    )
    context = ShareContext(
        card=card,
        index=index,
        core_policy="force",
        claim_uid=share.claim_uid,
        holds_memory=True,
        holds_cores=True,
    )
    edits = method.edits(share, context=context, host=host)
    inside = {mount.container_path: mount.host_path for mount in edits.mounts}
    return {
        name: value.replace(CONTAINER_REGION_DIR, inside[CONTAINER_REGION_DIR])
        for name, value in edits.env.items()
    } | {"LD_PRELOAD": library}


def run_child(card: Card, *, step_mib: int, stop_mib: int, environment: Mapping[str, str]) -> Seen:
    """Runs the CUDA program.

    Raises:
        MeasureError: It ended without an answer, or with an error of CUDA.
    """
    uuid = card.uuid.lower().removeprefix("gpu-").replace("-", "")
    program = posixpath.join(posixpath.dirname(__file__), "child.py")
    try:
        done = subprocess.run(
            [sys.executable, program, uuid, str(step_mib * MIB), str(stop_mib * MIB)],
            # Cards in PCI order, as NVML and the preload library count them.
            env={**os.environ, "CUDA_DEVICE_ORDER": "PCI_BUS_ID", **environment},
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise MeasureError(f"the CUDA program did not end within {TIMEOUT_S} s") from None
    lines = done.stdout.strip().splitlines()
    if done.returncode != 0 or not lines:
        raise MeasureError(
            f"the CUDA program ended with status {done.returncode}: {done.stderr.strip()[-500:]}"
        )
    found: dict[str, Any] = json.loads(lines[-1])
    if "error" in found:
        raise MeasureError(f"the CUDA program failed: {found['error']}")
    return Seen(
        told=found["told"], taken=found["taken"], refusal=found["refusal"], mapped=bool(found["mapped"])
    )


def judge(*, limit_mib: int, free: Seen, held: Seen) -> list[Verdict]:
    """What held and what did not.

    Args:
        limit_mib: The share's memory.
        free: Without the edits: shows that the card would have given more.
        held: With the edits.
    """
    limit = limit_mib * MIB
    return [
        Verdict(
            what="without the share, the program can take more than the limit",
            wanted=f"> {limit_mib} MiB",
            seen=_mib(free.taken),
            holds=free.taken > limit,
        ),
        Verdict(
            what="the preload library is in the process",
            wanted="yes",
            seen="yes" if held.mapped else "no",
            holds=held.mapped,
        ),
        Verdict(
            what="CUDA tells the program the share's memory",
            wanted=_mib(limit),
            seen=_mib(held.told),
            holds=held.told == limit,
        ),
        Verdict(
            what="the program can take memory up to the limit, no more",
            wanted=f"1 to {limit_mib} MiB",
            seen=_mib(held.taken),
            holds=0 < held.taken <= limit,
        ),
        Verdict(
            what="one step more is refused",
            wanted="CUDA_ERROR_OUT_OF_MEMORY",
            seen=held.refusal or "not refused",
            holds="OUT_OF_MEMORY" in held.refusal,
        ),
    ]


def _mib(amount: int) -> str:
    return f"{amount / MIB:.0f} MiB"
