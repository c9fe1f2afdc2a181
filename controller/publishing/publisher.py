"""Makes the slices of a node what they should be.

Flow: `reconcile` looks at one node: is it there, has its agent reported cards, is the agent Ready, can
shares be native at all? Then it plans the fewest writes, does them, reads each answer back, and says on
the AcceleratorNode what came of it. It is called for every change of any of these, and may be called at
any time.

What a leader that was stopped (SIGSTOP) can do when it goes on after it lost the Lease: one write is on its
way, and it asks for the Lease before the next. A change or a deletion names the slice's version, so it is a
conflict if the next leader changed it. A slice can be made whose name is free: names are the same in both
modes, so not in the place of one that the next leader made. Where the next leader found everything in order,
the late write puts back what was right before. Kubernetes has no precondition against that; the next leader's
watch shows it the slice or the condition, and it is set right as any stranger's is. Until then kube-scheduler
may give out what is not there any more, and the node refuses it.

Limits: writes only while the Lease is held, asked before each write. Never two reconciles of one node at
a time (the queue sees to that).
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import NamedTuple

import structlog

from controller.handover import Rest
from controller.lease import LeadershipLostError
from controller.metrics import Metrics
from controller.mode import SHARING_GATE, ModeState, Verdict
from controller.publishing import conditions
from controller.publishing.recreation import Recreation
from controller.publishing.stores import Stores
from controller.publishing.taints import CounterSupport, TaintSupport, counters_of, taints_of
from controller.publishing.views import HANDED_OVER, PUBLISHED, Condition, Inventory, NodeView
from driver.api.node import cards_of, decode_status
from driver.errors import DragomanError
from driver.kube.client import JSON, ApiError, KubeClient, NotFoundError
from driver.kube.resources import ACCELERATOR_NODES, RESOURCE_SLICES
from driver.slices import (
    DroppedField,
    ExistingSlice,
    Plan,
    Publication,
    content_digest,
    dropped_fields,
    plan_writes,
    publication_of,
    tainted,
)

_REFUSALS = (400, 403, 422)

_log = structlog.get_logger("publishing")


@dataclass(kw_only=True)
class Rights:
    """What a publisher has to ask before it writes.

    Attributes:
        held: Whether this replica leads at this moment.
        mode: What is known about native mode.
        fenced: Whether our own allocator gives the cards out, so that kube-scheduler must not.
        unnumbered: Gives the cards of a node that claims hold without a shareID, and how many claims.
        unshared: Gives those of them that our allocator did not give out.
        rest: Says of a node what is waited for before our own allocator gives out its cards.
        report_dropped: Told of fields that vanished from a write.
    """

    held: Callable[[], bool]
    mode: Callable[[], ModeState]
    report_dropped: Callable[[Sequence[DroppedField]], None]
    fenced: bool = False
    unnumbered: Callable[[str], Mapping[str, int]] = lambda _node: {}
    unshared: Callable[[str], AbstractSet[str]] = lambda _node: frozenset()
    rest: Callable[[str], Rest | None] = lambda _node: None


@dataclass(slots=True)
class _Known:
    """What this publisher remembers of a node between two looks."""

    names: frozenset[str] = frozenset()
    accepted: dict[str, str] = field(default_factory=dict)
    dropped: tuple[DroppedField, ...] = ()
    complete: bool = False
    settled: bytes = b""


class _Wanted(NamedTuple):
    publication: Publication
    cards: int
    withheld: conditions.Withheld


class Publisher:
    """Reconciles nodes."""

    def __init__(
        self,
        client: KubeClient,
        stores: Stores,
        *,
        rights: Rights,
        metrics: Metrics,
        recreation: Recreation | None = None,
        wall_clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """Prepares a publisher; it does nothing by itself."""
        self._client = client
        self._stores = stores
        self._rights = rights
        self._metrics = metrics
        self._recreation = recreation or Recreation()
        self._wall_clock = wall_clock
        self._taints = TaintSupport(client)
        self._counters = CounterSupport(client)
        self._known: dict[str, _Known] = {}

    def begin(self) -> list[str]:
        """Forgets what was known, because another replica may have led meanwhile; all nodes there are."""
        self._known.clear()
        self._metrics.nodes_published.set(0)
        return self._stores.nodes_of_interest()

    def settled(self, node: str) -> bytes:
        """The inventory (as `Inventory.status`) whose slices are written; b"" if that of no inventory is."""
        known = self._known.get(node)
        return b"" if known is None else known.settled

    async def reconcile(self, node: str) -> float | None:
        """Makes the slices of a node what they should be.

        Returns:
            Seconds after which to look again, where nothing else will bring the node back; else None.

        Raises:
            KubeError: A write failed; to be tried again.
        """
        existing = self._stores.existing_slices(node)
        inventory = self._stores.inventories.get(node)
        owner = self._stores.nodes.get(node)
        if inventory is None or owner is None:
            await self._withdraw(existing)
            self._forget(node)
            return None
        if not self._rights.fenced and self._rights.mode().verdict is Verdict.IMPOSSIBLE:
            await self._withdraw(existing)
            self._forget(node)
        outcome = await self._wanted(node, inventory, owner)
        if isinstance(outcome, Condition):
            # What is not wanted now does not vanish: it may be made at once when it is wanted again.
            self._known.setdefault(node, _Known()).names = frozenset()
            return await self._say(node, outcome)
        return await self._publish(node, outcome, existing, inventory=inventory.status)

    async def _wanted(self, node: str, inventory: Inventory, owner: NodeView) -> _Wanted | Condition:
        """What the node shall offer; or, where slices are neither made nor changed, why."""
        state = self._rights.mode()
        if not self._rights.fenced and state.verdict is not Verdict.POSSIBLE:
            return conditions.not_published(state.reason, state.message)
        if not self._stores.agent_ready(node):
            return conditions.not_published(
                "AgentNotReady",
                "The agent on this node is not Ready, so slices are neither made nor changed.",
            )
        if not inventory.status:
            return conditions.not_published("NoInventory", "The agent has not reported its cards yet.")
        try:
            cards = cards_of(decode_status(json.loads(inventory.status)))
        except DragomanError as invalid:
            return conditions.not_published(invalid.reason, f"{invalid} Slices are left as they are.")
        fenced = self._rights.fenced
        held = {} if fenced else self._rights.unnumbered(node)
        waiting = [
            card.name for card in cards if card.shareable and not card.unpublished and card.name in held
        ]
        offered = [card for card in cards if card.name not in waiting]
        taints = await self._taints.kept() if any(map(tainted, offered)) else True
        # Nobody allocates from fenced slices by counters: our own allocator has the inventory.
        drawn = not fenced and any(card.counters and not card.unpublished for card in offered)
        counters = await self._counters.kept() if drawn else True
        publication = publication_of(
            offered, node=node, node_uid=owner.uid, fenced=fenced, taints=taints, counters=counters
        )
        unshared = () if fenced else self._rights.unshared(node)
        withheld = conditions.Withheld(len(waiting), sum(name in unshared for name in waiting))
        return _Wanted(publication, len(cards), withheld)

    async def _publish(
        self, node: str, wanted: _Wanted, existing: Sequence[ExistingSlice], *, inventory: bytes
    ) -> float | None:
        publication = wanted.publication
        known = self._known.setdefault(node, _Known())
        plan = plan_writes(publication.slices, existing, accepted=known.accepted)
        replaced = {item.name for item in plan.deletes}
        vanished = [item for item in plan.creates if item["metadata"]["name"] in known.names - replaced]
        if vanished:
            wait_s = self._recreation.wait(node, now=asyncio.get_running_loop().time())
            if wait_s > 0:
                self._complete(node, done=False)
                _log.info("slices vanished", slices=len(vanished), recreate_in_s=round(wait_s, 1))
                return wait_s
        if not plan.empty:
            try:
                known.dropped = tuple(await self._write(plan, known))
            except ApiError as refused:
                if refused.status in _REFUSALS:
                    # Trying again will hardly help, so whoever looks at the node has to be told.
                    await self._say(node, conditions.not_published("WriteRefused", str(refused)))
                raise
        if vanished:
            self._recreation.recreated(node, now=asyncio.get_running_loop().time())
            self._metrics.slices_recreated.inc(len(vanished))
        else:
            self._recreation.present(node)
        known.names = frozenset(str(item["metadata"]["name"]) for item in publication.slices)
        digests = {content_digest(item["spec"]) for item in publication.slices}
        known.accepted = {sent: got for sent, got in known.accepted.items() if sent in digests}
        if any(lost.gate in (SHARING_GATE, "") for lost in known.dropped):
            # What lost its amounts must not be given out as a whole card: the mode withdraws it, everywhere.
            self._rights.report_dropped(known.dropped)
            return 0.1
        if self._must_take_away(known):
            return 0.1
        self._complete(node, done=True)
        if known.accepted and not plan.empty:
            _log.warning("the API server stores slices otherwise than they are sent")
        again_s = await self._say(node, _result(wanted, known.dropped), withheld=wanted.withheld)
        known.settled = inventory
        return again_s

    def _must_take_away(self, known: _Known) -> bool:
        """Whether a write lost fields without which something must not be on offer: see `publication_of`."""
        taints, counters = taints_of(known.dropped), counters_of(known.dropped)
        if taints:
            self._taints.lost()
        if counters:
            # Parts of a card are on offer that do not exclude each other.
            self._counters.lost()
        if taints or counters:
            known.dropped = ()
        return bool(taints or counters)

    async def _write(self, plan: Plan, known: _Known) -> list[DroppedField]:
        dropped: list[DroppedField] = []
        await self._delete(plan.deletes)
        for item in plan.updates:
            name = str(item["metadata"]["name"])
            self._check_leading()
            answer = await self._client.replace(RESOURCE_SLICES, item, name=name)
            dropped += self._read_back("update", item, answer, known)
        for item in plan.creates:
            self._check_leading()
            answer = await self._client.create(RESOURCE_SLICES, item)
            dropped += self._read_back("create", item, answer, known)
        _log.info(
            "slices written",
            deleted=len(plan.deletes),
            updated=len(plan.updates),
            created=len(plan.creates),
            dropped=len(dropped),
        )
        return dropped

    def _read_back(self, verb: str, sent: JSON, answer: JSON, known: _Known) -> tuple[DroppedField, ...]:
        self._metrics.slice_writes.labels(verb=verb).inc()
        self._stores.slices.observe(answer)
        dropped = dropped_fields(sent, answer)
        for lost in dropped:
            self._metrics.fields_dropped.labels(gate=lost.gate or "unknown").inc()
            _log.error("field dropped", path=lost.path, gate=lost.gate, object=sent["metadata"]["name"])
        wanted, stored = content_digest(sent["spec"]), content_digest(answer.get("spec") or {})
        if wanted != stored:
            known.accepted[wanted] = stored
        return dropped

    async def _withdraw(self, existing: Sequence[ExistingSlice]) -> None:
        if existing:
            _log.info("slices withdrawn", slices=len(existing))
        await self._delete(existing)

    async def _delete(self, slices: Sequence[ExistingSlice]) -> None:
        for item in slices:
            self._check_leading()
            with suppress(NotFoundError):
                await self._client.delete(
                    RESOURCE_SLICES, item.name, uid=item.uid, resource_version=item.resource_version
                )
                self._metrics.slice_writes.labels(verb="delete").inc()

    async def _say(
        self, node: str, condition: Condition, *, withheld: conditions.Withheld = conditions.NOTHING_WITHHELD
    ) -> float | None:
        """Writes what is to be said; seconds after which there may be something else to say."""
        inventory = self._stores.inventories.get(node)
        if condition.status == "False":
            self._complete(node, done=False)
        rest = self._rights.rest(node)
        again_s = rest.left_s if rest is not None else None
        if inventory is None:
            return again_s
        existing = self._stores.existing_slices(node)
        handed = conditions.handed_over(existing, fenced=self._rights.fenced, rest=rest, withheld=withheld)
        if conditions.same(inventory.published, condition) and conditions.same(inventory.handed_over, handed):
            return again_s
        self._check_leading()
        body = conditions.document(
            node,
            {PUBLISHED: condition, HANDED_OVER: handed},
            before={PUBLISHED: inventory.published, HANDED_OVER: inventory.handed_over},
            now=self._wall_clock(),
        )
        with suppress(NotFoundError):
            answer = await self._client.apply(
                ACCELERATOR_NODES,
                body,
                name=node,
                field_manager=conditions.FIELD_MANAGER,
                subresource="status",
            )
            self._stores.inventories.observe(answer)
        return again_s

    def _check_leading(self) -> None:
        if not self._rights.held():
            raise LeadershipLostError("Another replica may lead by now, so nothing is written.")

    def _complete(self, node: str, *, done: bool) -> None:
        known = self._known.get(node)
        if known is not None and known.complete != done:
            known.complete = done
            self._metrics.nodes_published.inc(1 if done else -1)

    def _forget(self, node: str) -> None:
        self._complete(node, done=False)
        self._known.pop(node, None)
        self._recreation.forget(node)


def _result(wanted: _Wanted, dropped: Sequence[DroppedField]) -> Condition:
    if dropped:
        return conditions.with_dropped_fields(dropped)
    slices = wanted.publication.slices
    return conditions.published(
        cards=wanted.cards,
        offered=sum(len(item["spec"].get("devices", ())) for item in slices),
        slices=len(slices),
        problems=(*conditions.waiting(wanted.withheld), *wanted.publication.problems),
    )
