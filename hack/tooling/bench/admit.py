"""`hack/bench admit`: the webhooks over HTTPS, beside a handler that allows everything.

Flow: one process serves both; requests of each kind go to one and then to the other, in rounds that take
turns; the table has the medians over the rounds, and the ratios.

Limits: client and server share the machine, so a rate is of both together. What an answer took inside the
webhook is told by the server and has neither TLS nor JSON in it. Quotas are kept in memory.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import ssl
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import aiohttp

from tooling.bench.admit_server import NAME
from tooling.bench.admit_world import CASES, OTHERS
from tooling.bench.errors import BenchError
from tooling.bench.figures import percentile
from tooling.bench.machine import commit, load, this_machine
from tooling.bench.rounds import alternating
from tooling.bench.table import milliseconds, per_second, table, times
from tooling.cluster.paths import REPOSITORY
from tooling.cluster.progress import to_terminal

OURS, NOTHING = "ours", "nothing"
_HEAD = ("request; ms", "p50", "p99", "one by one /s", "8 at once /s", "p50 inside", "p99 inside")
_AT_ONCE = 8
_START_S = 60.0
MOST_INSIDE_MS = 1.0
"""What a pod that is none of ours may take inside the webhook, at the median."""


@dataclass(frozen=True, kw_only=True)
class Measured:
    """One case in one round.

    Attributes:
        milliseconds: What each request took, one after the other.
        alone: Requests a second, one after the other.
        at_once: Requests a second, eight at a time.
        inside: What each of these took inside the webhook, in milliseconds; empty for the other handler.
    """

    milliseconds: tuple[float, ...]
    alone: float
    at_once: float
    inside: tuple[float, ...] = ()


def add_commands(commands: Any) -> None:
    """Adds the command to a parser."""
    parser = commands.add_parser("admit", help="the webhooks over HTTPS")
    parser.add_argument("--nodes", type=int, default=1000, help="nodes of eight cards (default: %(default)s)")
    parser.add_argument(
        "--requests", type=int, default=300, help="of each kind in a round (default: %(default)s)"
    )
    parser.add_argument("--rounds", type=int, default=5, help="default: %(default)s")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write all figures to FILE")
    parser.add_argument(
        "--check",
        action="store_true",
        help=f"fail where a pod that is none of ours takes {MOST_INSIDE_MS:g} ms or more inside the webhook",
    )
    parser.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> bool:
    before = load()
    with tempfile.TemporaryDirectory(prefix="dragoman-admit-") as name:
        folder = Path(name)
        with _server(folder, nodes=options.nodes) as ports:
            found = asyncio.run(_measure(folder, ports, options))
        seconds: list[float] = json.loads((folder / "seconds.json").read_text())
        found = _with_inside(found, seconds, requests=options.requests)
        machine = this_machine(folder, versions={"commit": commit(REPOSITORY)})
    print(figures_table(found))
    print(
        f"\nMedians of {options.rounds} rounds of {options.requests} requests of each kind, one by one and as"
        f" many again {_AT_ONCE} at once, on kept connections with TLS; {options.nodes:,} nodes of 8 cards."
        f" {machine.line()}. Load {before:.1f} before, {load():.1f} after."
    )
    inside = [one for measured in found[OTHERS.name, OURS] for one in measured.inside]
    met = statistics.median(inside) < MOST_INSIDE_MS
    print(
        f"A pod that is none of ours: {statistics.median(inside) * 1000:.0f} µs inside the webhook,"
        f" p99 {percentile(inside, 99) * 1000:.0f} µs."
    )
    if options.json is not None:
        document = {f"{case}: {who}": [asdict(one) for one in some] for (case, who), some in found.items()}
        options.json.write_text(json.dumps(document) + "\n")
    return met


Found = Mapping[tuple[str, str], Sequence[Measured]]


def figures_table(found: Found) -> str:
    """Two lines and their ratio for each case."""
    rows: list[tuple[str, ...]] = []
    for case in CASES:
        both = {who: _medians(found[case.name, who]) for who in (NOTHING, OURS)}
        rows.append((f"{case.name}: no-op", *_cells(both[NOTHING])))
        rows.append((f"{case.name}: ours", *_cells(both[OURS])))
        ratios = [times(mine / its) for mine, its in zip(both[OURS][:4], both[NOTHING][:4], strict=True)]
        rows.append((f"{case.name}: ratio", *ratios, "", ""))
    return table(_HEAD, rows)


def _medians(rounds: Sequence[Measured]) -> tuple[float, ...]:
    median = statistics.median
    found = (
        median(percentile(one.milliseconds, 50) for one in rounds),
        median(percentile(one.milliseconds, 99) for one in rounds),
        median(one.alone for one in rounds),
        median(one.at_once for one in rounds),
    )
    if not rounds[0].inside:
        return found
    return (
        *found,
        median(percentile(one.inside, 50) for one in rounds),
        median(percentile(one.inside, 99) for one in rounds),
    )


def _cells(figures: Sequence[float]) -> list[str]:
    p50, p99, alone, at_once, *inside = figures
    cells = [milliseconds(p50), milliseconds(p99), per_second(alone), per_second(at_once)]
    return [*cells, *(f"{one:.3f}" for one in inside)] if inside else [*cells, "", ""]


def _with_inside(found: Found, seconds: Sequence[float], *, requests: int) -> Found:
    """Adds what the server noted, in the order in which it was asked: `2 * requests` for each measurement."""
    chunks = iter(range(0, len(seconds), 2 * requests))
    made: dict[tuple[str, str], list[Measured]] = {key: [] for key in found}
    for (case, who), measured in _in_order(found):
        inside: tuple[float, ...] = ()
        if who == OURS:
            start = next(chunks)
            # Those that come one by one: at once they wait for each other.
            inside = tuple(one * 1000 for one in seconds[start : start + requests])
        made[case, who].append(Measured(**{**vars(measured), "inside": inside}))
    return made


def _in_order(found: Found) -> Iterator[tuple[tuple[str, str], Measured]]:
    rounds = {key: iter(some) for key, some in found.items()}
    count = len(next(iter(found.values())))
    for case in CASES:
        for step in alternating((NOTHING, OURS), levels=(0,), rounds=count):
            yield (case.name, step.name), next(rounds[case.name, step.name])


async def _measure(folder: Path, ports: Mapping[str, int], options: argparse.Namespace) -> Found:
    context = ssl.create_default_context(cafile=str(folder / "ca.pem"))
    found: dict[tuple[str, str], list[Measured]] = {
        (case.name, who): [] for case in CASES for who in (NOTHING, OURS)
    }
    async with _session() as session:
        number = 0
        for case in CASES:
            to_terminal(case.name)
            for step in alternating((NOTHING, OURS), levels=(0,), rounds=options.rounds):
                url = f"https://127.0.0.1:{ports[step.name]}/admit/{case.path}"
                ask = _Ask(session, url, context)
                bodies = [case.body(number + one) for one in range(2 * options.requests)]
                number += len(bodies)
                found[case.name, step.name].append(await _round(ask, bodies))
    return found


@dataclass(frozen=True)
class _Ask:
    session: aiohttp.ClientSession
    url: str
    context: ssl.SSLContext

    async def __call__(self, body: bytes) -> None:
        async with self.session.post(self.url, data=body, ssl=self.context, server_hostname=NAME) as answer:
            text = await answer.read()
            if answer.status != 200 or b'"allowed": true' not in text:
                raise BenchError(f"{self.url} answered {answer.status}: {text[:300]!r}")


async def _round(ask: _Ask, bodies: Sequence[bytes]) -> Measured:
    half = len(bodies) // 2
    took: list[float] = []
    began = time.perf_counter()
    for body in bodies[:half]:
        at = time.perf_counter()
        await ask(body)
        took.append((time.perf_counter() - at) * 1000)
    alone = half / (time.perf_counter() - began)
    waiting = iter(bodies[half:])

    async def worker() -> None:
        for body in waiting:
            await ask(body)

    began = time.perf_counter()
    await asyncio.gather(*(worker() for _ in range(_AT_ONCE)))
    return Measured(milliseconds=tuple(took), alone=alone, at_once=half / (time.perf_counter() - began))


@contextlib.asynccontextmanager
async def _session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=_AT_ONCE)) as session:
        yield session


@contextlib.contextmanager
def _server(folder: Path, *, nodes: int) -> Iterator[Mapping[str, int]]:
    command = [sys.executable, "-m", "tooling.bench.admit_server", str(folder), str(nodes)]
    with (folder / "log").open("wb") as log:
        where = os.pathsep.join((str(REPOSITORY), str(REPOSITORY / "hack")))
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=log, stderr=log, env={**os.environ, "PYTHONPATH": where}
        )
        try:
            yield _ports(folder, process)
            # The end of its input tells it to end.
            process.communicate(timeout=_START_S)
        finally:
            process.kill()
            process.communicate()


def _ports(folder: Path, process: subprocess.Popen[bytes]) -> Mapping[str, int]:
    end = time.monotonic() + _START_S
    while time.monotonic() < end and process.poll() is None:
        path = folder / "ports.json"
        if path.exists():
            ports: Mapping[str, int] = json.loads(path.read_text())
            if all(asyncio.run(_listens(ports[who])) for who in (OURS, NOTHING)):
                return ports
        time.sleep(0.1)
    raise BenchError(f"the webhook did not start: {(folder / 'log').read_text()[-1000:]}")


async def _listens(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return False
    writer.close()
    return True
