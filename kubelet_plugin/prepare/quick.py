"""The way most prepares go, in one thread from the first question to the durable answer.

Purpose: a prepare asks the API server twice and then works on files. On the event loop each of the three
steps changes threads twice, which took a sixth of a prepare (measured). `QuickPath.attempt` does all of it in
the thread that it is called in.

Flow: claim -> repeat, or plan -> commit: the steps and the refusals of the engine's own way. What that does
on the event loop for good reasons is left to it, by None: a full card, a claim that is prepared by another
allocation, one that names no card of here, a card that so many are at work on already that one has to wait.

Limits: blocks, for threads only. The source's coroutines must not suspend (`HereTransport`). The caller holds
the claim's lock.
"""

from __future__ import annotations

from collections.abc import Coroutine, Sequence
from typing import Any, TypeVar

from driver.errors import DragomanError, KubeError
from driver.kube.client import JSON
from kubelet_plugin.prepare.cards import CardSource
from kubelet_plugin.prepare.claims import ClaimRef, ClaimSource
from kubelet_plugin.prepare.effects import Effects, FormerAllocationError
from kubelet_plugin.prepare.lanes import Lanes
from kubelet_plugin.prepare.ledger import CardFullError
from kubelet_plugin.prepare.phases import Phases
from kubelet_plugin.prepare.planning import ClaimReader, Place, read
from kubelet_plugin.prepare.records import ClaimRecord
from kubelet_plugin.prepare.shares_of import check_claim, devices_here, fingerprint
from kubelet_plugin.prepare.state import StateFolder

_T = TypeVar("_T")

_WAIT_S = 0.25
"""For so long a thread waits for a seat: others need a hundredth of that where nothing is wrong."""


class HereReader(ClaimReader):
    """A reader for a thread without an event loop: asks one question after the other."""

    async def all(self, asked: Sequence[Coroutine[Any, Any, _T]]) -> list[_T]:
        """What several questions answer."""
        return [await one for one in asked]

    async def _once(self, key: tuple[str, ...], ask: Any) -> Any:
        # A pod of several claims asks for each of them once, so nothing is asked twice here.
        del key
        return await ask()


class QuickPath:
    """Prepares one claim at a time, for each thread.

    Args:
        source: Where claims and pods are read, by coroutines that never suspend.
        state: The node's records.
        effects: The node's files.
        cards: The node's cards.
        place: Which node this is.
        lanes: The seats of those that are prepared.
        phases: Times the phases.
    """

    def __init__(
        self,
        source: ClaimSource,
        *,
        state: StateFolder,
        effects: Effects,
        cards: CardSource,
        place: Place,
        lanes: Lanes,
        phases: Phases,
    ) -> None:
        self._lanes = lanes
        self._source = source
        self._state = state
        self._effects = effects
        self._cards = cards
        self._place = place
        self._phases = phases

    def attempt(self, ref: ClaimRef) -> ClaimRecord | None:
        """The record of the claim, prepared now or before; None where the engine has to look at it.

        Raises:
            DragomanError: The claim is refused, as the engine would refuse it.
        """
        reader = HereReader(self._source)
        try:
            with self._phases.time("fetch"):
                claim = run_here(reader.claim(namespace=ref.namespace, name=ref.name))
        except KubeError:
            seat = self._lanes.try_enter(self._effects.devices_of(ref.uid), wait_s=_WAIT_S)
            if seat is None:
                return None
            with seat:
                known = self._effects.repeat(ref.uid, allocation=None)
            if known is None:
                raise
            return known
        check_claim(claim, ref)
        seat = self._lanes.try_enter(devices_here(claim, pool=self._place.pool), wait_s=_WAIT_S)
        if seat is None:
            return None
        with seat:
            return self._seated(claim, ref, reader=reader)

    def _seated(self, claim: JSON, ref: ClaimRef, *, reader: HereReader) -> ClaimRecord | None:
        allocation = fingerprint(claim, pool=self._place.pool)
        looked_for = self._state.find(ref.uid) is not None
        if looked_for:
            known = self._effects.repeat(ref.uid, allocation=allocation)
            if known is not None:
                return known
        try:
            return self._prepare(claim, ref, reader=reader)
        except (CardFullError, FormerAllocationError):
            # Whether waiting helps is found out by asking for many claims at once; whether what is there may
            # go, by asking the kubelet too.
            return None
        except DragomanError:
            # The other agent on this node may have prepared it, when it was not to be refused yet.
            known = None if looked_for else self._effects.repeat(ref.uid, allocation=allocation)
            if known is None:
                raise
            return known

    def _prepare(self, claim: JSON, ref: ClaimRef, *, reader: HereReader) -> ClaimRecord | None:
        with self._phases.time("fetch"):
            plan = run_here(read(claim, ref, place=self._place, cards=self._cards.cards(), reader=reader))
        return self._effects.commit(plan) if plan.given else None


def run_here(coroutine: Coroutine[Any, Any, _T]) -> _T:
    """Runs a coroutine that never suspends to its end, without an event loop.

    Raises:
        RuntimeError: It suspended.
    """
    try:
        coroutine.send(None)
    except StopIteration as done:
        answer: _T = done.value
        return answer
    coroutine.close()
    raise RuntimeError("A coroutine that was to run here waits for something.")
