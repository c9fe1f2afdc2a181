"""Finds the card, measures, prints the table.

Exit status: 0 everything held; 1 something did not; 2 there was nothing to measure (no card, no library).
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from driver.cards import Card
from driver.errors import DragomanError
from driver.host import Host
from driver.quantities import MIB, parse_quantity
from driver.shares import Share
from driver.vendors.nvidia import Nvidia
from kubelet_plugin.host import NodeHost
from tooling.check_gpu.measure import MeasureError, Verdict, edits_environment, judge, run_child

HELD, NOT_HELD, NOTHING_MEASURED = 0, 1, 2

_EPILOG = """\
Without Kubernetes and without a container: the share's edits are made by the
agent's own code and applied to a child process, which takes memory of the card
until it is refused. It does so twice, without and with the edits, so that what
is refused is refused by the limit and not by a card that is full.

The card should be otherwise unused. Caps on compute are not measured.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="hack/check-gpu",
        description="Shows whether a share's memory limit holds on this machine's NVIDIA card.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--library", type=Path, required=True, metavar="FILE", help="libvgpu.so (see hack/preload-library)"
    )
    parser.add_argument("--memory", default="1Gi", help="memory of the share, whole MiB (default: 1Gi)")
    parser.add_argument("--step", default="64Mi", help="what is taken at once (default: 64Mi)")
    parser.add_argument("--card", default="", metavar="UUID", help="which card (default: the first)")
    arguments = parser.parse_args(argv)
    host = NodeHost()
    try:
        memory_mib = _mib(arguments.memory, option="--memory")
        step_mib = _mib(arguments.step, option="--step")
        found = Nvidia().discover(host)
    except DragomanError as refused:
        return _nothing(str(refused))
    # The number counts all cards that NVML shows, also those that cannot be measured; partitions are none.
    cards = [card for card in found.cards if card.partition is None]
    usable = [number for number, card in enumerate(cards) if not card.unpublished]
    if not usable:
        reasons = [*found.problems, *(f"{card.uuid}: {card.unpublished}" for card in cards)]
        return _nothing("no card found: " + (" ".join(reasons) or "this machine has no NVIDIA hardware."))
    chosen = [number for number in usable if arguments.card in ("", cards[number].uuid)]
    if not chosen:
        known = ", ".join(cards[number].uuid for number in usable)
        return _nothing(f"no card has the UUID {arguments.card}; there are {known}.")
    index = chosen[0]
    card = cards[index]
    print(f"Card {index}: {card.model}, {card.uuid}, {card.memory_mib} MiB, driver {card.driver_version}")
    try:
        table = _measure(
            card, index=index, library=arguments.library, memory_mib=memory_mib, step_mib=step_mib, host=host
        )
    except (DragomanError, MeasureError) as failed:
        return _nothing(str(failed))
    _print(table)
    return HELD if all(line.holds for line in table) else NOT_HELD


def _measure(
    card: Card, *, index: int, library: Path, memory_mib: int, step_mib: int, host: Host
) -> list[Verdict]:
    share = Share(claim_uid="check-gpu", request="share", device=card.name, memory_mib=memory_mib)
    with tempfile.TemporaryDirectory(prefix="dragoman-check-gpu-") as folder:
        environment = edits_environment(
            share, card=card, index=index, library=str(library.absolute()), folder=Path(folder), host=host
        )
        # Far enough to see a limit that does not hold, without filling the card.
        stop_mib = memory_mib + 2 * step_mib
        free = run_child(card, step_mib=step_mib, stop_mib=stop_mib, environment={})
        held = run_child(card, step_mib=step_mib, stop_mib=stop_mib, environment=environment)
    return judge(limit_mib=memory_mib, free=free, held=held)


def _mib(text: str, *, option: str) -> int:
    amount = parse_quantity(text, field=option)
    if not amount.is_integer or amount.rounded_up < MIB or amount.rounded_up % MIB:
        raise DragomanError(f"{text} is not a whole number of MiB.", field=option, remedy="Write 1Gi, say.")
    return amount.rounded_up // MIB


def _print(table: Sequence[Verdict]) -> None:
    rows = [("", "what", "wanted", "seen")]
    rows += [("ok" if line.holds else "NOT", line.what, line.wanted, line.seen) for line in table]
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    for row in rows:
        print("  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip())


def _nothing(why: str) -> int:
    print(f"hack/check-gpu: nothing was measured: {why}", file=sys.stderr)
    return NOTHING_MEASURED


if __name__ == "__main__":
    sys.exit(main())
