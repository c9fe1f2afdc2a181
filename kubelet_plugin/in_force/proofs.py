"""What was seen of each process: whose proof still counts, and who is looked at next.

Purpose: a proof costs many reads, so it is taken for granted for a while, and of many processes some are
looked at in a round. A process is its number and the time of its start: whoever gets the number of one that
ended has proved nothing.

Limits: pure; the clock is given. A program that a process turns into by execve(2) keeps number and time, so
it is taken for the one before until the proof is old.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

from driver.cards import IsolationLevel
from driver.isolation.rules import ShareKey
from kubelet_plugin.in_force.processes import Process

PROVED_S = 30.0
FORGOTTEN_S = 600.0
MAX_PROCESSES = 64


class Proofs:
    """Of all shares of a node."""

    def __init__(self) -> None:
        self._proved: dict[tuple[Process, ShareKey, IsolationLevel], float] = {}
        self._looked: dict[tuple[Process, ShareKey], float] = {}
        self._failing: set[tuple[Process, ShareKey]] = set()

    def holds(self, process: Process, share: ShareKey, level: IsolationLevel) -> bool:
        """Whether a process was seen under the limits that a method holds."""
        return (process, share, level) in self._proved

    def note_proof(self, process: Process, share: ShareKey, level: IsolationLevel, *, now: float) -> None:
        """It was seen under them now."""
        self._proved[process, share, level] = now

    def note_look(self, process: Process, share: ShareKey, *, failing: bool, now: float) -> None:
        """It was looked at now."""
        self._looked[process, share] = now
        if failing:
            self._failing.add((process, share))
        else:
            self._failing.discard((process, share))

    def forget(self, *, now: float) -> None:
        """Forgets what is too old to count."""
        self._proved = {key: at for key, at in self._proved.items() if now - at < PROVED_S}
        self._looked = {key: at for key, at in self._looked.items() if now - at < FORGOTTEN_S}
        self._failing &= self._looked.keys()

    def next(
        self, processes: Iterable[Process], share: ShareKey, *, levels: Collection[IsolationLevel]
    ) -> list[Process]:
        """Some of those without a proof, who failed and who waited longest first; one that has a proof."""
        found = list(processes)
        proved = [one for one in found if all(self.holds(one, share, level) for level in levels)]
        others = sorted(
            set(found) - set(proved),
            key=lambda one: (
                (one, share) not in self._failing,
                self._looked.get((one, share), float("-inf")),
                one,
            ),
        )
        return [*others[:MAX_PROCESSES], *proved[:1]]
