"""The agent's side of MPS: `driver.isolation.service.MpsNode` by files and the supervisor's socket.

Limits: blocks, for `ANSWER_S` at most; for threads only.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import structlog

from driver.isolation.service import MpsState
from driver.isolation.service_shares import MpsShare
from kubelet_plugin.mps.files import ShareFiles
from kubelet_plugin.mps.wire import ask, poke

log = structlog.get_logger(__name__)

SOCKET = "supervisor.sock"
ANSWER_S = 20.0
"""A daemon that has to be started first takes seconds; the kubelet gives up after 45."""


POKE_S = 1.0
QUICK_S = 3.0
"""For looks at what is known anyway."""


KNOWN_S = 3.0
"""Each process of each container is looked at every few seconds; the daemon is not asked for each."""


class MpsSupervised:
    """MPS of a node whose supervisor works in `folder`."""

    def __init__(
        self, folder: Path, *, answer_s: float = ANSWER_S, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._files = ShareFiles(folder)
        self._socket = folder / SOCKET
        self._answer_s = answer_s
        self._clock = clock
        self._known = (float("-inf"), MpsState())

    def put(self, share: MpsShare) -> None:
        """Notes that a share's namespace is wanted."""
        self.repair(share)

    def repair(self, share: MpsShare) -> bool:
        """The same; whether what was noted was missing or wrong."""
        return self._files.put(share)

    def notes(self, share: MpsShare) -> bool:
        """Whether the share is noted as it is wanted."""
        return self._files.has(share)

    def drop(self, claim_uid: str, name: str) -> None:
        """Notes that a namespace is wanted no more."""
        if self._files.drop(claim_uid, name):
            self._tell()

    def drop_claim(self, claim_uid: str) -> None:
        """The same for all namespaces of a claim."""
        if self._files.drop_claim(claim_uid):
            self._tell()

    def claims(self) -> frozenset[str]:
        """UIDs of the claims of which a namespace is wanted."""
        return self._files.claims()

    def state(self, *, fresh: bool = True) -> MpsState:
        """What holds, after the supervisor did what it could; not `fresh`: as of `KNOWN_S` ago at most."""
        if not fresh:
            known, state = self._known
            if self._clock() - known < KNOWN_S:
                return state
        asked = self._clock()
        state = self._ask(self._answer_s if fresh else min(QUICK_S, self._answer_s))
        self._known = (asked, state)
        return state

    def _ask(self, timeout_s: float) -> MpsState:
        try:
            return ask(self._socket, timeout_s=timeout_s)
        except (OSError, ValueError) as away:
            return MpsState(problem=f"The supervisor of MPS on this node does not answer: {away}.")

    def _tell(self) -> None:
        # Not waited for: with its pod gone, nobody uses the share. And for as long as an unprepare takes, the
        # share looks as if its note were lost (`watch`).
        try:
            poke(self._socket, timeout_s=POKE_S)
        except OSError as away:
            log.warning("MPS gives a share back later", problem=str(away))
