"""The agent's look at MPS: what was prepared against what the daemon says, again and again.

Flow: records of prepared claims -> the namespaces they need -> files that are missing or wrong in two looks
one after the other are written again (after a boot, or somebody's hand) -> the supervisor is asked, which
makes the daemon do it -> a share whose limits are not in force in two looks one after the other is lost: its
claim's condition `InForce` becomes False and an Event tells its pod; the same when they are set again.

Once they are, the condition is `LimitsRestored` until what is seen of the processes is all younger than that:
a program that started meanwhile is told by what is seen of it (`NoMpsClient`), what was seen before is not.

So a daemon that died and is back with its limits within one look is nobody's concern, and one that is not is
told within `EVERY_S` times two.

Limits: looks at what the daemon says, not at processes; that is `Service.in_force`. A look that falls between
the steps of an unprepare may write a file of a share that is just given back; the engine removes it within
seconds, as it does with everything that has no record.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol

import structlog

from driver.cards import Card, IsolationLevel
from driver.errors import DragomanError
from driver.isolation.service import LIMITS_LOST
from driver.isolation.service_shares import MpsShare, mps_share
from kubelet_plugin.metrics import Metrics
from kubelet_plugin.mps.client import MpsSupervised
from kubelet_plugin.prepare.claims import ClaimRef
from kubelet_plugin.prepare.records import ClaimRecord, ShareRecord
from kubelet_plugin.threads import in_daemon_thread

log = structlog.get_logger(__name__)

EVERY_S = 3.0
LIMITS_RESTORED = "LimitsRestored"
_LOOKS = 2


class Teller(Protocol):
    """Tells a claim that something about it changed."""

    def limits_changed(self, ref: ClaimRef, *, reason: str, text: str, warning: bool, of: str) -> None:
        """Has the claim's condition written anew, and an Event on its pods, of one of its shares."""

    def condition_changed(self, ref: ClaimRef) -> None:
        """Has the claim's condition written anew."""


@dataclass(frozen=True, kw_only=True)
class _Found:
    """One look: why each share is not held, "" where it is, by claim and CDI device."""

    shares: Mapping[str, str]
    claims: Mapping[str, ClaimRecord]
    repaired: int
    restarts: int
    problem: str


class MpsWatch:
    """Looks again and again.

    Args:
        node: MPS on this node.
        records: What is prepared.
        cards: The node's cards by name.
        metrics: Where it is counted.
        seen_anew_s: So many seconds after limits are in force again, whatever was seen of processes before
            has been seen anew, or told as not seen; infinite where nobody looks at them.
        clock: Monotonic seconds.
    """

    def __init__(
        self,
        node: MpsSupervised,
        *,
        records: Callable[[], Iterable[ClaimRecord]],
        cards: Callable[[], Mapping[str, Card]],
        metrics: Metrics,
        seen_anew_s: float = math.inf,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._node = node
        self._records = records
        self._cards = cards
        self._metrics = metrics
        self._missed: dict[str, int] = {}
        self._lost: dict[str, str] = {}
        self._unnoted: set[str] = set()
        self._restored: dict[str, float] = {}
        self._seen_anew_s = seen_anew_s
        self._clock = clock
        self._restarts = 0
        self.teller: Teller | None = None

    @property
    def problems(self) -> tuple[str, ...]:
        """Sentences for the AcceleratorNode."""
        return tuple(sorted({f"MPS: {why}" for why in self._lost.values()}))

    def condition(self, item: ShareRecord, *, seen: dict[str, str] | None) -> dict[str, str] | None:
        """The claim's condition `InForce`.

        Args:
            item: The share.
            seen: What the condition is by what is seen of its processes; None for no word.

        Returns:
            `seen` for all shares but those whose limits are lost, or are back and may be lacking in a process
            that was not seen yet.
        """
        why_not = self._lost.get(item.cdi_device)
        if why_not is not None:
            text = _LOST.format(why_not)
            return {"type": "InForce", "status": "False", "reason": LIMITS_LOST, "message": text}
        found_out = seen is not None and seen["status"] == "False" and seen["reason"] != LIMITS_LOST
        if item.cdi_device in self._restored and not found_out:
            return {
                "type": "InForce",
                "status": "Unknown",
                "reason": LIMITS_RESTORED,
                "message": _RESTORED,
            }
        return seen

    async def run(self) -> None:
        """Looks until cancelled."""
        while True:
            await self.look()
            await asyncio.sleep(EVERY_S)

    async def look(self) -> None:
        """One look."""
        held = [(record, item) for record in self._records() for item in record.shares if _by_mps(item)]
        self._metrics.gauge("mps_shares", len(held))
        if not held and not self._lost:
            return
        cards = self._cards()
        if not cards:
            # Nobody has looked for cards yet, or they all vanished for a moment: nothing can be compared.
            return
        found = await in_daemon_thread(lambda: self._ask(held, cards=cards), name="mps")
        self._metrics.gauge("mps_daemon_up", int(not found.problem))
        self._metrics.count("mps_repairs_total", amount=found.repaired)
        # The supervisor counts from its own start.
        self._metrics.count("mps_restarts_total", amount=max(0, found.restarts - self._restarts))
        self._restarts = found.restarts
        self._judge(found)
        self._metrics.gauge("mps_shares_lost", len(self._lost))

    def _ask(self, held: list[tuple[ClaimRecord, ShareRecord]], *, cards: Mapping[str, Card]) -> _Found:
        repaired = 0
        names: dict[str, str] = {}
        problems: dict[str, str] = {}
        for _, item in held:
            try:
                wanted = _wanted(item, cards=cards)
                if wanted is None:
                    problems[item.cdi_device] = f"Card {item.share.device} is not on this node (any more)."
                    continue
                names[item.cdi_device] = wanted.name
                if self._node.notes(wanted):
                    self._unnoted.discard(wanted.name)
                elif wanted.name not in self._unnoted:
                    # Perhaps it is just being given back, or was not noted yet.
                    self._unnoted.add(wanted.name)
                elif self._node.repair(wanted):
                    self._unnoted.discard(wanted.name)
                    repaired += 1
                    log.warning("a share of MPS was noted anew", claim=item.share.claim_uid)
            except (DragomanError, OSError) as refused:
                problems[item.cdi_device] = str(refused)
        self._unnoted &= set(names.values())
        state = self._node.state()
        problems |= {device: state.why_not(name) for device, name in names.items()}
        return _Found(
            shares=problems,
            claims={item.cdi_device: record for record, item in held},
            repaired=repaired,
            restarts=state.restarts,
            problem=state.problem,
        )

    def _judge(self, found: _Found) -> None:
        self._missed = {
            device: self._missed.get(device, 0) + 1 for device, why_not in found.shares.items() if why_not
        }
        before, now = self._lost, self._clock()
        self._lost = {
            device: why_not
            for device, why_not in found.shares.items()
            if why_not and (device in before or self._missed[device] >= _LOOKS)
        }
        for device in sorted(self._lost.keys() - before.keys()):
            why_not = self._lost[device]
            log.error("limits of a share are not in force", device=device, why=why_not)
            self._tell(found.claims[device], device, reason=LIMITS_LOST, text=_LOST.format(why_not))
        for device in sorted((before.keys() - self._lost.keys()) & found.claims.keys()):
            log.info("limits of a share are in force again", device=device)
            self._restored[device] = now
            self._tell(found.claims[device], device, reason=LIMITS_RESTORED, text=_RESTORED)
        self._settle(found, now=now)

    def _settle(self, found: _Found, *, now: float) -> None:
        restored, self._restored = self._restored, {}
        for device, since in restored.items():
            if device not in found.claims or device in self._lost:
                continue
            if now - since < self._seen_anew_s:
                self._restored[device] = since
            elif self.teller is not None:
                self.teller.condition_changed(_ref(found.claims[device]))

    def _tell(self, record: ClaimRecord, device: str, *, reason: str, text: str) -> None:
        if self.teller is None:
            return
        request = next((item.share.request for item in record.shares if item.cdi_device == device), "")
        self.teller.limits_changed(
            _ref(record),
            reason=reason,
            text=f"Request {request} of claim {record.name}: {text}",
            warning=reason == LIMITS_LOST,
            of=device,
        )


_LOST = "The limits of a share are not in force any more. {} Programs that start now may have the whole card."
_RESTORED = (
    "The limits of the share are in force again; programs that started meanwhile may run without them."
)


def _ref(record: ClaimRecord) -> ClaimRef:
    return ClaimRef(namespace=record.namespace, name=record.name, uid=record.uid)


def _by_mps(item: ShareRecord) -> bool:
    return IsolationLevel.SERVICE in (item.memory_level, item.cores_level)


def _wanted(item: ShareRecord, *, cards: Mapping[str, Card]) -> MpsShare | None:
    card = cards.get(item.share.device)
    if card is None:
        return None
    holds_cores = item.cores_level is IsolationLevel.SERVICE
    return mps_share(item.share, card_uuid=card.uuid, holds_cores=holds_cores)
