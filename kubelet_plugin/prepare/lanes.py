"""How many threads are at work on one card and on one vendor's cards: a driver that hangs stops only its own.

Purpose: a thread in a driver that hangs cannot be stopped. Were threads given to whoever comes, a few claims
on one sick card would take all of them, and nothing on the node would be prepared or given back any more.

Flow: a claim takes a seat on each of its cards and of their vendors -> work in a thread -> the seat is left.
Where all are taken the next claim waits without a thread. Where the one who has been there longest has been
for `PATIENCE_S`, it is refused instead, for a retry: as long as others come and go, waiting helps.

There are as many threads as seats are taken (`workers`), so vendors that hang take none from others. Of one
vendor's cards so many may hang before the others of that vendor are held up as `EACH_CARD` goes into
`EACH_VENDOR`.

Limits: of cards that nobody knows the name counts, up to its first hyphen for the vendor; claims that have
none share one lane.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable, Collection, Mapping
from typing import ClassVar, Protocol, Self

from driver.cards import Card
from driver.errors import PrepareError

PATIENCE_S = 20.0
"""For so long whatever a claim needs of its cards may take before others are refused: making partitions and
waiting for services take seconds."""
HANGS_S = 1.0
"""A thread waits for nobody who has been at work for longer: if nothing is wrong that takes milliseconds."""
EACH_CARD = 4
EACH_VENDOR = 32
_LaneKey = tuple[str, str]


class DriverHangsError(PrepareError):
    """So many claims on a card wait for its driver that no more are begun."""

    reason: ClassVar[str] = "DriverHangs"
    retriable: ClassVar[bool] = True


class Aside(Protocol):
    """The part of `kubelet_plugin.prepare.workers.Workers` that is needed here."""

    def step_aside(self) -> None:
        """The calling thread counts no more among those that may be at work."""

    def step_back(self) -> None:
        """It counts again."""


class Seat:
    """A claim's place among those that are worked on; left at the end of the `with` block."""

    def __init__(self, lanes: Lanes, keys: frozenset[_LaneKey]) -> None:
        self._lanes = lanes
        self.keys = keys
        self.thread: Aside | None = None
        self.since = time.monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._lanes.leave(self)


class Lanes:
    """The seats of one kind of work; of any thread.

    Args:
        cards: The node's cards, from memory.
        threads: Those that ask for a seat while they are at work; they step aside while they have one.
    """

    def __init__(self, cards: Callable[[], Mapping[str, Card]], *, threads: Aside | None = None) -> None:
        self._cards = cards
        self._threads = threads
        self._changed = threading.Condition()
        self._taken: dict[_LaneKey, list[Seat]] = {}
        self._waiting: set[asyncio.Future[None]] = set()

    def try_enter(self, devices: Collection[str], *, wait_s: float) -> Seat | None:
        """A seat for work on cards of these names, for threads; None if none is free in time."""
        keys = self._keys(devices)
        with self._changed:
            full = self._full(keys)
            if full is not None and self._oldest(full) >= HANGS_S:
                # Others need the thread.
                return None
            self._changed.wait_for(lambda: self._full(keys) is None, timeout=wait_s)
            if self._full(keys) is not None:
                return None
            seat = self._take(keys)
        if self._threads is not None:
            seat.thread = self._threads
            self._threads.step_aside()
        return seat

    async def enter(self, devices: Collection[str]) -> Seat:
        """A seat for work on cards of these names.

        Raises:
            DriverHangsError: Nobody leaves one.
        """
        keys = self._keys(devices)
        while True:
            freed = asyncio.get_running_loop().create_future()
            with self._changed:
                full = self._full(keys)
                if full is None:
                    return self._take(keys)
                wait_s = self._patience(full)
                self._waiting.add(freed)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(freed, wait_s)

    def leave(self, seat: Seat) -> None:
        """Gives a seat back."""
        if seat.thread is not None:
            seat.thread.step_back()
        with self._changed:
            for key in seat.keys:
                self._taken[key].remove(seat)
                if not self._taken[key]:
                    del self._taken[key]
            waiting, self._waiting = self._waiting, set()
            self._changed.notify_all()
        for freed in waiting:
            with contextlib.suppress(RuntimeError):  # its loop is closed
                freed.get_loop().call_soon_threadsafe(_wake, freed)

    def _take(self, keys: frozenset[_LaneKey]) -> Seat:
        seat = Seat(self, keys)
        for key in keys:
            self._taken.setdefault(key, []).append(seat)
        return seat

    def _full(self, keys: frozenset[_LaneKey]) -> _LaneKey | None:
        for key in sorted(keys):
            if len(self._taken.get(key, ())) >= (EACH_VENDOR if key[0] == "vendor" else EACH_CARD):
                return key
        return None

    def _patience(self, key: _LaneKey) -> float:
        waited = self._oldest(key)
        if waited < PATIENCE_S:
            return PATIENCE_S - waited
        what = " ".join(key) if key[1] else "a card that nobody knows"
        raise DriverHangsError(
            f"{len(self._taken[key])} claims of {what} are being worked on, for {waited:.0f} s by now: its "
            "driver, or what holds its limits, does not answer.",
            remedy="Look at the card's health and the node's kernel log. The kubelet tries again.",
        )

    def _oldest(self, key: _LaneKey) -> float:
        """For how long the one who has been there longest has been."""
        return time.monotonic() - min(seat.since for seat in self._taken[key])

    def _keys(self, devices: Collection[str]) -> frozenset[_LaneKey]:
        cards = self._cards()
        keys = {("card", "")} if not devices else set()
        for device in devices:
            card = cards.get(device)
            if card is None:
                keys |= {("card", device), ("vendor", device.partition("-")[0])}
                continue
            part_of = card.uuid if card.partition is None else card.partition.card_uuid
            keys |= {("card", part_of or device), ("vendor", card.vendor)}
        return frozenset(keys)


def _wake(freed: asyncio.Future[None]) -> None:
    if not freed.done():
        freed.set_result(None)
