"""What a claim means on this node, before anything is done about it.

Flow: `ClaimReader` reads claims and pods, each once for a call of the kubelet; `read` makes a `Plan` of them:
the shares, and where one of them is limited also every container that can use it with all else that this
container uses. `decide` picks methods and applies the rules.

Limits: `read` runs on the event loop and asks the API server only; `decide` may block and runs in a thread.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Coroutine, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, ClassVar, Protocol, TypeVar

from driver.api.share_config import Priority, ShareConfig
from driver.cards import Card, IsolationLevel
from driver.errors import ClaimError, IsolationError
from driver.isolation.choose import Chosen, core_policy_of
from driver.isolation.kernel_rules import check_kernel_rules
from driver.isolation.preload_one_card import check_one_card_rules
from driver.isolation.rules import ContainerUse, ShareFacts, ShareKey, card_sort_key, check_preload_rules
from driver.isolation.service_rules import check_service_rules
from driver.kube.client import JSON
from driver.shares import Share
from kubelet_plugin.prepare.cards import CardSource
from kubelet_plugin.prepare.claims import ClaimRef, ClaimSource
from kubelet_plugin.prepare.pods import (
    claim_names,
    container_uses,
    has_claim_names,
    is_pod_owned,
    reserving_pods,
    runs_here,
    share_key,
)
from kubelet_plugin.prepare.records import ClaimRecord, ShareRecord
from kubelet_plugin.prepare.shares_of import Given, NotAllocatedError, fingerprint, is_allocated, results_of

_NAMED_PODS = 2


class Rules(Protocol):
    """What a method cannot express, refused by name; see `driver.isolation.service_rules`."""

    def __call__(
        self,
        *,
        claim_shares: Collection[ShareKey],
        all_shares: Mapping[ShareKey, ShareFacts],
        containers: Sequence[ContainerUse],
        pod_owned: bool,
    ) -> None:
        """Checks the shares of one claim in all containers that can use them; raises IsolationError."""


_RULES: Mapping[IsolationLevel, Rules] = {
    IsolationLevel.KERNEL: check_kernel_rules,
    IsolationLevel.SERVICE: check_service_rules,
}


_T = TypeVar("_T")

Prepared = Callable[[str], ClaimRecord | None]
"""The record of a claim that is prepared on this node, by its UID."""


class PodUnknownError(ClaimError):
    """No pod of the claim can be read, so nobody knows which containers its limits would meet."""

    reason: ClassVar[str] = "PodUnknown"
    retriable: ClassVar[bool] = True


class ClaimReader:
    """Reads each claim and each pod once, however many claims of one call refer to it."""

    def __init__(self, source: ClaimSource) -> None:
        self._source = source
        self._asked: dict[tuple[str, ...], asyncio.Future[Any]] = {}

    async def claim(self, *, namespace: str, name: str) -> JSON:
        """See `ClaimSource.get_claim`."""
        found: JSON = await self._once(
            ("claim", namespace, name), lambda: self._source.get_claim(namespace=namespace, name=name)
        )
        return found

    async def pod(self, *, namespace: str, name: str, uid: str, node: str) -> JSON | None:
        """The pod of that UID if it is bound to that node, else None.

        Read from the API server's memory first: nothing that prepare looks at changes in a pod that is bound
        and whose claims have names. Any other pod is read again as it is now.
        """

        async def ask() -> JSON | None:
            found = await self._source.get_pod(namespace=namespace, name=name, cached=True)
            if found is None or not (runs_here(found, uid=uid, node=node) and has_claim_names(found)):
                found = await self._source.get_pod(namespace=namespace, name=name)
            return found if runs_here(found, uid=uid, node=node) else None

        answer: JSON | None = await self._once(("pod", namespace, name, uid), ask)
        return answer

    async def all(self, asked: Sequence[Coroutine[Any, Any, _T]]) -> list[_T]:
        """What several questions answer, asked all at once."""
        return await asyncio.gather(*asked)

    async def _once(self, key: tuple[str, ...], ask: Any) -> Any:
        if key not in self._asked:
            asked: Awaitable[Any] = ask()
            self._asked[key] = asyncio.ensure_future(asked)
        return await self._asked[key]


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A claim as it is to be prepared.

    Attributes:
        ref: The claim.
        allocation: Fingerprint of its allocation.
        given: Its results on this node.
        cards: The node's cards when it was planned.
        containers: All containers that can use the claim; empty where no share is limited.
        others: Results of other claims that those containers use.
        pods_known: Whether a pod of the claim could be read, where it matters which.
        pod_owned: The claim was made for the one pod that it is reserved for.
    """

    ref: ClaimRef
    allocation: str
    given: tuple[Given, ...]
    cards: Mapping[str, Card]
    containers: tuple[ContainerUse, ...] = ()
    others: tuple[Given, ...] = ()
    pods_known: bool = False
    pod_owned: bool = False


@dataclass(frozen=True, kw_only=True)
class Place:
    """Which node this is.

    Attributes:
        node: Name of the node.
        pool: Name of its pool.
    """

    node: str
    pool: str


async def read(
    claim: JSON, ref: ClaimRef, *, place: Place, cards: Mapping[str, Card], reader: ClaimReader
) -> Plan:
    """Plans an allocated claim.

    Raises:
        DragomanError: What was allocated cannot be given, or something that it depends on cannot be read.
    """
    given = results_of(claim, pool=place.pool, cards=cards)
    plan = Plan(
        ref=ref,
        allocation=fingerprint(claim, pool=place.pool),
        given=given,
        cards=cards,
        pod_owned=is_pod_owned(claim),
    )
    if not any(item.share.limits_memory or item.share.limits_cores for item in given):
        # Nothing of it can meet another limit: its pods do not matter.
        return plan
    return await _with_pods(plan, claim, place=place, reader=reader)


async def _with_pods(plan: Plan, claim: JSON, *, place: Place, reader: ClaimReader) -> Plan:
    namespace = plan.ref.namespace
    reserving = reserving_pods(claim)
    if not plan.pod_owned:
        # Limits that depend on pods are refused to it whoever they are; two are enough to be named.
        reserving = reserving[:_NAMED_PODS]
    found = await reader.all(
        [reader.pod(namespace=namespace, name=name, uid=uid, node=place.node) for name, uid in reserving]
    )
    pods = [pod for pod in found if pod is not None]
    names = sorted(frozenset[str]().union(*map(claim_names, pods)) - {plan.ref.name})
    read_others = await reader.all([reader.claim(namespace=namespace, name=name) for name in names])
    others: dict[str, tuple[Given, ...]] = {}
    for name, other in zip(names, read_others, strict=True):
        if not is_allocated(other):
            raise NotAllocatedError(
                f"ResourceClaim {namespace}/{name} of the same pod is not allocated, so nobody knows which "
                "cards the pod's containers will see.",
                field="status.allocation",
                remedy="The kubelet tries again once the scheduler has allocated it.",
            )
        others[name] = results_of(other, pool=place.pool, cards=plan.cards)
    all_given = {**others, plan.ref.name: plan.given}
    shares = {name: tuple(item.share for item in items) for name, items in all_given.items()}
    return Plan(
        ref=plan.ref,
        allocation=plan.allocation,
        given=plan.given,
        cards=plan.cards,
        containers=tuple(use for pod in pods for use in container_uses(pod, shares=shares)),
        others=tuple(item for items in others.values() for item in items),
        pods_known=bool(pods) or not plan.pod_owned,
        pod_owned=plan.pod_owned,
    )


def decide(plan: Plan, *, source: CardSource, prepared: Prepared) -> ClaimRecord:
    """Picks the methods that hold each share and applies the rules of those that need some.

    Raises:
        IsolationError: A limit cannot be put in force, or not in these containers.
        PodUnknownError: The rules need the claim's pods, and none can be read.
    """
    chosen = {
        share_key(item.share): _choose(item.share, config=item.config, plan=plan, source=source)
        for item in plan.given
    }
    index: Mapping[ShareKey, int] = {}
    levels = {
        level
        for level in (IsolationLevel.PRELOAD, *_RULES)
        if any(choice.holds(level) for choice in chosen.values())
    }
    if levels:
        _need_pods(plan)
        held = _held(plan, chosen=chosen, source=source, prepared=prepared)
        if IsolationLevel.PRELOAD in levels:
            index = _index(plan, held)
        for level in _RULES:
            if level in levels:
                _check(_RULES[level], level, plan, held)
    return ClaimRecord(
        uid=plan.ref.uid,
        namespace=plan.ref.namespace,
        name=plan.ref.name,
        allocation=plan.allocation,
        shares=tuple(
            ShareRecord(
                share=item.share,
                pool=item.pool,
                cdi_device=item.cdi_device,
                index=index.get(share_key(item.share), 0),
                core_policy=str(core_policy_of(item.config, card=plan.cards[item.share.device])),
                priority=str(item.config.priority or ""),
                memory_level=chosen[share_key(item.share)].memory,
                cores_level=chosen[share_key(item.share)].cores,
            )
            for item in plan.given
        ),
        warnings=tuple(text for choice in chosen.values() for text in choice.warnings),
        prepared=_now().strftime("%Y-%m-%dT%H:%M:%SZ"),
    )


def _now() -> datetime:
    return datetime.now(UTC)


def _choose(share: Share, *, config: ShareConfig, plan: Plan, source: CardSource) -> Chosen:
    return source.choose(share, card=plan.cards[share.device], config=config)


def _need_pods(plan: Plan) -> None:
    if not plan.pods_known:
        raise PodUnknownError(
            f"No pod on this node reserves ResourceClaim {plan.ref.namespace}/{plan.ref.name}, so nobody "
            "knows in which containers its limits have to hold.",
            field="status.reservedFor",
            remedy="The kubelet tries again.",
        )


@dataclass(frozen=True, kw_only=True)
class _Held:
    """How a share is held, as far as it is known.

    Attributes:
        facts: What the rules need to know of it, but for `limited`.
        chosen: None where nobody can say now.
    """

    facts: ShareFacts
    chosen: Chosen | None

    def under(self, level: IsolationLevel) -> ShareFacts:
        """The facts for the rules of a method.

        Where nobody can say what holds a share, it is limited for all of them: the method that is missing
        now may be there when its claim is prepared, and each rule refuses more, the more shares are limited.
        """
        return replace(self.facts, limited=self.chosen is None or self.chosen.holds(level))


def _held(
    plan: Plan, *, chosen: Mapping[ShareKey, Chosen], source: CardSource, prepared: Prepared
) -> Mapping[ShareKey, _Held]:
    found = {}
    for item in (*plan.given, *plan.others):
        key, card = share_key(item.share), plan.cards[item.share.device]
        core_policy, priority = str(core_policy_of(item.config, card=card)), str(item.config.priority or "")
        holding = chosen.get(key)
        if holding is None:
            record = _record_of(item, prepared=prepared)
            if record is None:
                holding = _other(item, plan, source)
            else:
                # What its containers were told stays so, whatever a policy says by now.
                core_policy, priority = record.core_policy, record.priority
                holding = Chosen(memory=record.memory_level, cores=record.cores_level)
        capped = item.share.limits_cores and (holding is None or holding.holds(IsolationLevel.PRELOAD))
        found[key] = _Held(
            facts=ShareFacts(
                card_sort_key=card_sort_key(card),
                limited=True,
                core_policy=core_policy if capped else "",
                first=priority == Priority.HIGH,
                vendor=card.vendor,
                partition=card.partition is not None,
            ),
            chosen=holding,
        )
    return found


def _record_of(item: Given, *, prepared: Prepared) -> ShareRecord | None:
    record = prepared(item.share.claim_uid)
    shares = record.shares if record is not None else ()
    return next((one for one in shares if one.share == item.share), None)


def _other(item: Given, plan: Plan, source: CardSource) -> Chosen | None:
    try:
        return _choose(item.share, config=item.config, plan=plan, source=source)
    except IsolationError:
        # That claim is refused in its own name.
        return None


def _index(plan: Plan, held: Mapping[ShareKey, _Held]) -> Mapping[ShareKey, int]:
    claim_shares = tuple(share_key(item.share) for item in plan.given)
    facts = {key: one.under(IsolationLevel.PRELOAD) for key, one in held.items()}
    indices = check_preload_rules(
        claim_shares=claim_shares, all_shares=facts, containers=plan.containers, pod_owned=plan.pod_owned
    )
    check_one_card_rules(claim_shares=claim_shares, all_shares=facts, containers=plan.containers)
    return indices


def _check(rules: Rules, level: IsolationLevel, plan: Plan, held: Mapping[ShareKey, _Held]) -> None:
    rules(
        claim_shares=tuple(share_key(item.share) for item in plan.given),
        all_shares={key: one.under(level) for key, one in held.items()},
        containers=plan.containers,
        pod_owned=plan.pod_owned,
    )
