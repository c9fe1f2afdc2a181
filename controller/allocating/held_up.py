"""Tells administrators that nothing is allocated, because somebody refuses a write that has to come first.

Purpose: one webhook that refuses one claim's update keeps all pods of the cluster waiting (`fencing`), and
nobody would look for it there.

Flow: `tell` after each try: a line in the log and an Event for each such claim, on the claim and on the
Lease, which is in the controller's own namespace; a metric says how many there are. Pods that wait are told
by `controller.allocating.telling` as ever, without names of others' claims.

Limits: `_SAID` claims are told, the metric counts all.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import structlog

from controller.allocating.errors import AllocationHeldUpError
from controller.announcing import Announcer, Words
from controller.events import Events, Subject, cut
from driver.kube.resources import RESOURCE_CLAIMS

_AGAIN_S = 300.0
_SAID = 10

_log = structlog.get_logger("allocating")


@dataclass(frozen=True, slots=True)
class HeldUp:
    """What keeps a claim from being changed.

    Attributes:
        uid: UID of the claim.
        error: Why.
    """

    uid: str
    error: AllocationHeldUpError


class HoldUps:
    """Who was told what."""

    def __init__(
        self, events: Events, *, lease: Callable[[], Subject], counted: Callable[[int], None]
    ) -> None:
        """Has told nothing.

        Args:
            events: Writes Events.
            lease: The Lease by which this replica leads.
            counted: Told how many claims there are.
        """
        self._announcer = Announcer(events, again_s=_AGAIN_S)
        self._lease = lease
        self._counted = counted

    def over(self) -> None:
        """Allocation goes on, or is no business of this replica any more."""
        self._counted(0)
        self._announcer.keep(())

    async def tell(self, held: Mapping[str, HeldUp]) -> None:
        """Says which claims (`namespace/name`) hold everybody up."""
        self._counted(len(held))
        self._announcer.keep(held.keys())
        for key, one in list(held.items())[:_SAID]:
            words = Words(one.error.reason, cut(str(one.error)))
            if self._announcer.left_s(key, one.uid, words):
                continue
            namespace, _, name = key.partition("/")
            claim = Subject(resource=RESOURCE_CLAIMS, name=name, namespace=namespace, uid=one.uid)
            _log.error("nothing is allocated", claim=key, error=str(one.error))
            await self._announcer.say(key, one.uid, words, [claim, self._lease()])
