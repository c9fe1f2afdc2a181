"""Large reviews, one after the other.

Purpose: what an API server may send is larger than what this process may hold many times over. Small reviews
are answered side by side as they come; of large ones one is held and decoded at a time.

Flow: `turn` for each; what decoding took is noted, and the next one's turn comes when four times that is
over, so that the event loop, which everybody shares, belongs to large ones a fifth of the time at most.

Limits: few wait, and not for long: an API server that hears nothing lets claims of an administrator's own
classes pass, and one that hears `AdmissionBusy` does not.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import ClassVar

from driver.errors import DragomanError

_MOST_WAITING = 8
_PATIENCE_S = 2.0
_REST = 4


class AdmissionBusyError(DragomanError):
    """Too many objects of unusual size came at once."""

    reason: ClassVar[str] = "AdmissionBusy"
    retriable: ClassVar[bool] = True


@dataclass(slots=True)
class Turn:
    """One turn.

    Attributes:
        spent_s: Seconds for which the event loop was held.
    """

    spent_s: float = 0.0


class Lane:
    """Who waits for a turn."""

    def __init__(self) -> None:
        """Starts with nobody in it."""
        self._taken = asyncio.Lock()
        self._waiting = 0

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[Turn]:
        """Waits for a turn.

        Raises:
            AdmissionBusyError: It did not come in time.
        """
        if self._waiting >= _MOST_WAITING:
            raise _busy()
        self._waiting += 1
        try:
            async with asyncio.timeout(_PATIENCE_S):
                await self._taken.acquire()
        except TimeoutError:
            raise _busy() from None
        finally:
            self._waiting -= 1
        turn = Turn()
        try:
            yield turn
        finally:
            asyncio.get_running_loop().call_later(_REST * turn.spent_s, self._taken.release)


def _busy() -> AdmissionBusyError:
    return AdmissionBusyError(
        "Other objects of this size are being looked at.",
        remedy="Try again in some seconds; objects below 256 KiB do not wait.",
    )
