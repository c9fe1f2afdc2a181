"""The node's cards: found by the vendors, shaped by the policy, kept in memory for everybody who asks.

Flow: each vendor is asked in a thread of its own -> the policy is applied and the isolation that this node
has is added -> `Snapshot`; listeners hear when it changed. A look happens at the start, once an interval, and
whenever `look` is called (policy changed, signal).

What is wrong with a card comes from `kubelet_plugin.card_health` by `judged`; a card that is not listed any
more stays for a while (`card_health.missing`), so that its fault can be told.

Limits: a vendor that hangs keeps its last answer and holds nobody up; while it hangs it is not asked again. A
vendor that fails in a way nobody foresaw keeps its cards as well: cards must not vanish by a bug of ours.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import structlog

from driver.api.policy import EffectivePolicy
from driver.api.rollout import PolicyChange
from driver.api.share_config import ShareConfig
from driver.cards import Card, Fault, IsolationLevel
from driver.cdi import ContainerEdits
from driver.errors import ConfigError, DeviceGoneError
from driver.host import Host
from driver.isolation.choose import (
    Chosen,
    Methods,
    choose_methods,
    choose_partition,
    context_for,
    edits_for,
    levels_for,
)
from driver.isolation.hardware import Hardware, PartitionsUnknownError
from driver.partitions.base import Partitioner
from driver.partitions.offer import offered
from driver.shares import Share
from driver.vendors.base import Discovery, Vendor
from kubelet_plugin.card_health.missing import Found, MissingCards
from kubelet_plugin.logs import operation
from kubelet_plugin.metrics import Metrics
from kubelet_plugin.policy_source import PolicySource, PolicyView
from kubelet_plugin.threads import in_daemon_thread
from kubelet_plugin.vendor_sources import VendorSource

log = structlog.get_logger(__name__)

VENDOR_PATIENCE_S = 20.0
"""For so long a look waits for a slow vendor; the vendor may answer later all the same."""


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """What the node has, as of one look.

    Attributes:
        cards: All cards by name, also those that are not offered.
        policy: What held when the cards were shaped.
        problems: Sentences for the AcceleratorNode.
        complete: Whether policy and faults are the real ones (False: the API server has not told yet, or the
            cards' health was not asked for yet).
        missing: Names of the cards that their vendor does not list any more.
        change: A change of policies that waits for this node's turn, or the last one that did.
    """

    cards: Mapping[str, Card]
    policy: EffectivePolicy
    problems: tuple[str, ...]
    complete: bool
    missing: frozenset[str] = frozenset()
    change: PolicyChange | None = None


@dataclass
class _Asked:
    """A vendor, its question under way, and its last answer."""

    vendor: Vendor
    answer: Discovery = field(default_factory=lambda: Discovery(cards=()))
    task: asyncio.Task[None] | None = None


class Inventory:
    """Finds cards; implements `kubelet_plugin.prepare.cards.CardSource`.

    Args:
        vendors: Whom to ask; read anew at each look.
        methods: The isolation methods of this agent.
        host: The node.
        policies: Which policy holds.
        metrics: Where looks are counted.
        withheld: Why cards of a vendor are not to be offered; "" if they may be.
        hardware: The method that makes partitions; None if nobody does.
    """

    def __init__(
        self,
        *,
        vendors: VendorSource,
        methods: Methods,
        host: Host,
        policies: PolicySource,
        metrics: Metrics,
        withheld: Callable[[str], str] = lambda _vendor: "",
        hardware: Hardware | None = None,
    ) -> None:
        self.ready = asyncio.Event()
        self._vendors = vendors
        self._vendor_problem = ""
        self._asked: dict[str, _Asked] = {}
        self._methods = methods
        self._host = host
        self._policies = policies
        self._metrics = metrics
        self._withheld = withheld
        self._hardware = hardware
        self._snapshot: Snapshot | None = None
        self._shaped_last: Snapshot | None = None
        self._found_by: Mapping[str, Vendor] = {}
        self._last_view: PolicyView | None = None
        self._missing = MissingCards()
        self._faults: Mapping[str, Fault] | None = {}
        self._wanted = asyncio.Event()
        self._listeners: list[Callable[[Snapshot], None]] = []

    def subscribe(self, listener: Callable[[Snapshot], None]) -> None:
        """Adds a listener; it is called in the event loop with each snapshot that differs from the last."""
        self._listeners.append(listener)

    @property
    def snapshot(self) -> Snapshot | None:
        """The last look; None before the first."""
        return self._snapshot

    @property
    def methods(self) -> Methods:
        """The isolation methods of this agent."""
        return self._methods

    def look(self) -> None:
        """Makes the next look happen now."""
        self._wanted.set()

    async def run(self, *, interval_s: float) -> None:
        """Looks again and again until cancelled."""
        while True:
            self._wanted.clear()
            with operation("discovery"):
                await self.refresh()
            try:
                await asyncio.wait_for(self._wanted.wait(), interval_s)
            except TimeoutError:
                continue

    async def refresh(self) -> None:
        """One look: asks all vendors, shapes the cards, tells the listeners if something changed."""
        await in_daemon_thread(self._read_vendors, name="vendors")
        tasks = [self._ask(asked) for asked in self._asked.values()]
        if tasks:
            await asyncio.wait(tasks, timeout=VENDOR_PATIENCE_S)
        self._shaped_last = await in_daemon_thread(self._shape, name="shape")
        # Not in the thread: a verdict that came meanwhile would be lost.
        snapshot = self._with_faults(self._shaped_last)
        self._count(snapshot)
        changed = snapshot != self._snapshot
        self._snapshot = snapshot
        self.ready.set()
        if changed:
            log.info(
                "cards found",
                cards=[
                    f"{card.name} {card.memory_mib} MiB"
                    for card in snapshot.cards.values()
                    # There may be hundreds of those.
                    if not card.is_promise
                ],
                problems=list(snapshot.problems),
            )
            for listener in self._listeners:
                listener(snapshot)

    def await_verdicts(self) -> None:
        """No snapshot is complete before `judged` is called: a fault of before a restart would vanish."""
        self._faults = None

    def judged(self, faults: Mapping[str, Fault]) -> None:
        """Takes what is wrong with the cards, by name; listeners hear if that is news."""
        self._faults = dict(faults)
        if self._shaped_last is None:
            return
        snapshot = self._with_faults(self._shaped_last)
        if snapshot != self._snapshot:
            self._snapshot = snapshot
            for listener in self._listeners:
                listener(snapshot)

    def by_vendor(self) -> list[tuple[Vendor, list[Card]]]:
        """The vendors of the cards that there are, each with its cards."""
        found: dict[str, tuple[Vendor, list[Card]]] = {}
        for name, card in self.cards().items():
            vendor = self._found_by.get(name)
            if vendor is not None:
                found.setdefault(vendor.name, (vendor, []))[1].append(card)
        return list(found.values())

    # CardSource

    def cards(self) -> Mapping[str, Card]:
        """The cards under the policy in force, by device name; from memory, at once."""
        return self._snapshot.cards if self._snapshot else {}

    def vendor_edits(self, card: Card) -> ContainerEdits:
        """What a container needs to reach the card at all."""
        # By who found it: simulated cards carry the names of real vendors.
        vendor = self._found_by.get(card.name)
        if vendor is None:
            raise DeviceGoneError(f"Card {card.name} is not on this node (any more).")
        return vendor.edits(card, host=self._host)

    def choose(self, share: Share, *, card: Card, config: ShareConfig) -> Chosen:
        """Which methods hold the share, by the policy's order; a partition the card itself holds."""
        if card.partition is not None:
            return choose_partition(share, card=card, config=config)
        order = self._snapshot.policy.isolation if self._snapshot else ()
        return choose_methods(
            share, card=card, config=config, order=order, methods=self._methods, host=self._host
        )

    def isolation_edits(
        self,
        share: Share,
        *,
        card: Card,
        chosen: Chosen,
        index: int,
        core_policy: str,
        priority: str = "",
    ) -> ContainerEdits:
        """What a container needs so that the share's limits hold."""
        if card.counters and card.partition is None and self._hardware is not None:
            self._hardware.prepare_card(card, host=self._host)
        return edits_for(
            share,
            card=card,
            chosen=chosen,
            index=index,
            core_policy=core_policy,
            methods=self._methods,
            host=self._host,
            priority=priority,
        )

    def stands(self, card: Card, edits: ContainerEdits) -> bool:
        """Whether edits of before still lead to the partition that the card is."""
        return self._hardware is None or self._hardware.stands(card, edits, host=self._host)

    def undo(self, share: Share, *, chosen: Chosen) -> None:
        """Removes what the methods made for a share, also for a card that is gone by now."""
        card = self.cards().get(share.device)
        for level, method in self._methods.items():
            if not chosen.holds(level):
                continue
            context = None
            if card is not None:
                context = context_for(
                    share, card=card, chosen=chosen, index=0, core_policy="force", level=level
                )
            method.undo(share, context=context, host=self._host)

    def partitioner(self, card: str, vendor: str) -> Partitioner | None:
        """Who partitions a card, also one that does not answer at the moment; None if nobody does.

        Raises:
            PartitionsUnknownError: Nobody has looked yet.
        """
        if self._snapshot is None:
            raise PartitionsUnknownError(
                f"It is not known yet who partitions card {card}: the node's cards were not looked for yet.",
                remedy="The kubelet tries again.",
            )
        found = self._found_by.get(card)
        asked = self._asked.get(vendor)
        for vendor_found in (found, asked.vendor if asked is not None else None):
            if isinstance(vendor_found, Partitioner):
                return vendor_found
        return None

    def held_claims(self) -> frozenset[str]:
        """UIDs of the claims for which a method made something that is still there."""
        return frozenset[str]().union(*(method.claims(host=self._host) for method in self._methods.values()))

    def undo_claim(self, uid: str) -> None:
        """Removes what the methods made for a claim whose shares nobody knows."""
        for method in self._methods.values():
            method.undo_claim(uid, host=self._host)

    # Looks

    def _read_vendors(self) -> None:
        try:
            vendors = self._vendors()
        except ConfigError as invalid:
            if self._snapshot is None:
                raise
            # The cards of before stay: pods are running on them.
            self._vendor_problem = str(invalid)
            return
        self._vendor_problem = ""
        asked = {}
        for vendor in vendors:
            asked[vendor.name] = self._asked.get(vendor.name) or _Asked(vendor)
            asked[vendor.name].vendor = vendor
        self._asked = asked

    def _ask(self, asked: _Asked) -> asyncio.Task[None]:
        if asked.task is None or asked.task.done():
            asked.task = asyncio.create_task(self._discover(asked), name=f"discover-{asked.vendor.name}")
        return asked.task

    async def _discover(self, asked: _Asked) -> None:
        name = asked.vendor.name
        began = time.monotonic()
        try:
            asked.answer = await in_daemon_thread(
                lambda: asked.vendor.discover(self._host), name=f"discover-{name}"
            )
            result = "problems" if asked.answer.problems else "ok"
        except Exception as failed:
            log.exception("a vendor's discovery failed", vendor=name, error=str(failed))
            asked.answer = Discovery(
                cards=asked.answer.cards, problems=(f"Looking for cards of {name} failed: {failed!r}.",)
            )
            result = "failed"
        self._metrics.observe(
            "discovery_duration_seconds", time.monotonic() - began, vendor=name, result=result
        )

    def _shape(self) -> Snapshot:
        view = self._view()
        problems = [*view.problems, *([self._vendor_problem] if self._vendor_problem else [])]
        found_cards: dict[str, Found] = {}
        for name, asked in self._asked.items():
            problems += asked.answer.problems
            if asked.task is not None and not asked.task.done():
                problems.append(f"Looking for cards of {name} takes longer than {VENDOR_PATIENCE_S:g} s.")
            for found in asked.answer.cards:
                if found.name in found_cards:
                    problems.append(f"Two cards are called {found.name}; only the first is used.")
                    continue
                found_cards[found.name] = Found(found, asked.vendor, asked.answer.final)
        missing = self._missing.update(found_cards, now=time.monotonic())
        everything = {**found_cards, **missing}
        self._found_by = {name: found.vendor for name, found in everything.items()}
        ruled = [view.policy.apply(found.card) for found in everything.values()]
        ours = self._hardware.ours() if self._hardware is not None else ()
        shaped = offered(ruled, policy=view.policy, ours=ours)
        return Snapshot(
            cards={card.name: self._shaped(card, view.policy) for card in shaped},
            policy=view.policy,
            problems=tuple(problems),
            complete=view.complete,
            missing=frozenset(missing),
            change=view.change,
        )

    def _with_faults(self, snapshot: Snapshot) -> Snapshot:
        faults = self._faults
        if faults is None:
            return replace(snapshot, complete=False)
        cards = {
            name: card if card.fault == faults.get(name) else replace(card, fault=faults.get(name))
            for name, card in snapshot.cards.items()
        }
        return replace(snapshot, cards=cards)

    def _shaped(self, found: Card, policy: EffectivePolicy) -> Card:
        card = replace(found, unpublished=found.unpublished or self._withheld(found.vendor))
        if card.partition is not None:
            # A vendor whose kernel driver helps the card to keep memory apart says so.
            by_kernel = card.memory_isolation is IsolationLevel.KERNEL
            memory = IsolationLevel.KERNEL if by_kernel else IsolationLevel.HARDWARE
            return card.with_isolation(memory=memory, cores=IsolationLevel.HARDWARE)
        memory, cores = levels_for(card, order=policy.isolation, methods=self._methods, host=self._host)
        if card.one_process and not _all_join_mps(card, memory=memory, cores=cores):
            # A second share's first program would fail, with an error of CUDA's that names neither.
            card = replace(card, shareable=False)
        return card.with_isolation(memory=memory, cores=cores)

    def _view(self) -> PolicyView:
        cards = {card.uuid for asked in self._asked.values() for card in asked.answer.cards}
        try:
            self._last_view = self._policies.view(cards=cards)
        except ConfigError as invalid:
            if self._last_view is None:
                raise
            # What held before keeps holding: a typing error must not open up the node's cards.
            return replace(self._last_view, problems=(*self._last_view.problems, str(invalid)))
        return self._last_view

    def _count(self, snapshot: Snapshot) -> None:
        self._metrics.clear("cards")
        counts: dict[tuple[str, str], int] = {}
        for card in snapshot.cards.values():
            if card.is_promise:
                continue
            key = (card.vendor, "no" if card.unpublished else "yes")
            counts[key] = counts.get(key, 0) + 1
        for (vendor, told), number in counts.items():
            self._metrics.gauge("cards", number, vendor=vendor, offered=told)


def _all_join_mps(card: Card, *, memory: IsolationLevel, cores: IsolationLevel) -> bool:
    """Whether all programs of shares come to the card by the one process of its MPS server."""
    service = IsolationLevel.SERVICE
    return memory is service or (cores is service and not card.allow_uncapped)
