"""`hack/bench start`: from exec to the kubelet's GetInfo, and the memory of an idle agent.

Flow: a cluster, since an agent without one would import no TLS and watch nothing; then the agent is started
again and again as the DaemonSet runs it, with NVML: the real `nvidia-ml-py` over the scripted library of
tests/native, which answers for 8 cards. The last one is left alone for some seconds before its memory is
read.

Limits: one start before the first that counts fills the page cache and compiles Python's bytecode, which the
image has compiled already. GetInfo is asked by a client that looks for the socket every 2 ms.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path

from driver.kube.resources import ACCELERATOR_NODES
from tests.native import build as native
from tooling.bench import machine, world
from tooling.bench.errors import BenchError
from tooling.bench.process import Memory, memory_of
from tooling.bench.stage import Stage, stage
from tooling.bench.subjects import ROOT, Subject, start_ours
from tooling.cluster.progress import Report

CARDS = 8
_IDLE_S = 8.0
_INVENTORY_S = 20.0


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What was measured.

    Attributes:
        serving_ms: From exec to the answer of GetInfo, one for each start.
        idle: Memory of the last one after some idle seconds.
        cards: How many cards it reported.
        machine: Where.
        load: Load average over a minute before and after.
        commit: Of the tree.
    """

    serving_ms: tuple[float, ...]
    idle: Memory
    cards: int
    machine: machine.Machine
    load: tuple[float, float]
    commit: str


def run(*, cluster: str, folder: Path, runs: int, report: Report) -> Outcome:
    """Measures.

    Raises:
        BenchError: The agent did not come up, or did not find the cards.
    """
    with stage(cluster, folder=folder, report=report) as on:
        environment = _nvml(on.place.folder)
        _start(on, "warm-up", environment).stop()
        before = machine.load()
        times: list[float] = []
        for number in range(runs):
            # What an earlier one reported must not be taken for what this one found.
            on.api.delete(ACCELERATOR_NODES, world.NODE)
            subject = _start(on, f"start-{number}", environment)
            times.append((subject.registered.serving_s - subject.started_s) * 1000)
            report(f"  start {number + 1}: serving after {times[-1]:.0f} ms")
            if number + 1 < runs:
                subject.stop()
        try:
            cards = _cards_reported(on)
            time.sleep(_IDLE_S)
            idle = memory_of(subject.process.pid)
        finally:
            subject.stop()
        return Outcome(
            serving_ms=tuple(times),
            idle=idle,
            cards=cards,
            machine=on.machine(),
            load=(before, machine.load()),
            commit=machine.commit(ROOT),
        )


def nvml_script(cards: int) -> str:
    """The scripted NVML's file: so many cards (see tests/native/mock_nvml.c)."""
    lines = [
        "\t".join(
            (
                "card",
                f"uuid=GPU-5ca1ab1e-0000-4000-8000-{index:012d}",
                "name=NVIDIA A100-SXM4-80GB",
                "memory=81920",
                f"pci=00000000:{index + 16:02X}:00.0",
                f"minor={index}",
                "arch=7",
            )
        )
        for index in range(cards)
    ]
    return "".join(f"{line}\n" for line in ("driver\t575.51.03", *lines))


def _nvml(folder: Path) -> dict[str, str]:
    script = folder / "nvml"
    script.write_text(nvml_script(CARDS))
    try:
        library = native.mock_nvml()
    except native.NativeBuildError as missing:
        raise BenchError(str(missing)) from None
    paths = [str(library.parent), *filter(None, [os.environ.get("LD_LIBRARY_PATH")])]
    return {"MOCK_NVML_FILE": str(script), "LD_LIBRARY_PATH": os.pathsep.join(paths)}


def _start(on: Stage, name: str, environment: dict[str, str]) -> Subject:
    return start_ours(on.access, on.place, name=name, environment=environment, simulated=False)


def _cards_reported(on: Stage) -> int:
    """How many cards the agent wrote into its AcceleratorNode."""
    deadline = time.monotonic() + _INVENTORY_S
    while time.monotonic() < deadline:
        found = on.api.find(ACCELERATOR_NODES, world.NODE)
        cards = ((found or {}).get("status") or {}).get("cards") or []
        if len(cards) == CARDS:
            return len(cards)
        time.sleep(0.2)
    raise BenchError(f"The agent did not report {CARDS} cards within {_INVENTORY_S:.0f} s.")
