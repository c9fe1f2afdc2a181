"""What a claim is charged: the most that its requests could be given, of what the quota is about.

Flow: `charge_of` takes an `Ask`, a quota's `Scope` and the `Stock` and gives a `Charge`.

Rules: alternatives count the worst of them, in each amount. A request for memory alone counts no compute, as
it runs without a cap, unless the card has a default. One that names no memory gets a whole card, and a share
that takes all of a card's memory counts all of its compute. Cards that cannot be shared count whole, whatever
is asked of them; so do partitions, with the memory and compute that they have. `allocationMode: All` counts
32 devices, as in Kubernetes' ResourceQuota. Where several kinds of cards could be given, the worst counts, so
that a charge never grows by what the scheduler decides.

Limits: pure; it changes only with the cluster's cards and classes. A claim of somebody hostile costs bounded
time: of very many or very long selectors only the first are in its `Ask`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from driver.api.quota import AcceleratorQuotaSpec
from driver.cards import CORES_PER_CARD
from driver.quota.amounts import NOTHING, Charge
from driver.quota.asks import ANY_CLASS, Ask, Option
from driver.quota.errors import QuotaCardsUnknownError
from driver.quota.stock import CardKind, Stock


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """Which requests a quota counts, and how.

    Attributes:
        classes: Only these DeviceClasses; empty for all.
        vendors: Only what could get a card of these vendors; empty for all.
        models: Only what could get a card of these models, in small letters; empty for all.
        whole_card_mib: What a whole card counts; None for what the cluster's cards say.
    """

    classes: frozenset[str] = frozenset()
    vendors: frozenset[str] = frozenset()
    models: frozenset[str] = frozenset()
    whole_card_mib: int | None = None

    @classmethod
    def of(cls, spec: AcceleratorQuotaSpec) -> Scope:
        """The scope of a quota."""
        return cls(
            classes=frozenset(spec.device_class_names),
            vendors=frozenset(spec.vendors),
            models=frozenset(one.lower() for one in spec.models),
            whole_card_mib=spec.whole_card_mib,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Counted:
    """What a claim counts.

    Attributes:
        charge: Its amounts.
        unknown: Name of a request for a whole card of which nobody knows how much memory that is; "" if there
            is none. Its memory is missing in `charge`.
        everything: Name of a request for all devices that there are; "" if there is none.
    """

    charge: Charge
    unknown: str = ""
    everything: str = ""


def charge_of(ask: Ask, *, scope: Scope, stock: Stock, given: Mapping[str, bool] | None = None) -> Counted:
    """What a claim counts in a quota.

    Args:
        ask: What it asks for.
        scope: What the quota is about.
        stock: The cluster's cards and classes.
        given: For an allocated claim, which of its requests were given cards of ours (`drivers_of`).
    """
    total, unknown, everything = NOTHING, "", ""
    for request in ask.requests:
        if given is not None and not given.get(request.name, False):
            continue
        worst = NOTHING
        for option in request.options:
            found = _option(option, scope=scope, stock=stock, sure=given is not None)
            if found is None:
                continue
            charge, is_known = found
            worst = worst.worst(charge)
            unknown = unknown or ("" if is_known else request.name)
            everything = everything or (request.name if option.everything else "")
        total += worst
    return Counted(charge=total, unknown=unknown, everything=everything)


def check_known(counted: Counted, *, limits_memory: bool, quota: str) -> None:
    """Refuses a claim of which the quota cannot say how much memory it would take.

    Raises:
        QuotaCardsUnknownError: It asks for a whole card, and no card is known that says how much that is.
    """
    if counted.unknown and limits_memory:
        raise QuotaCardsUnknownError(
            f"It asks for a whole card, and quota {quota} limits memory, but the cluster has no card "
            "that would say how much that is.",
            field=f"spec.devices.requests[{counted.unknown}]",
            remedy="Ask for an amount of memory in capacity.requests; an administrator can set "
            "wholeCardMemory in the quota.",
        )


def _option(option: Option, *, scope: Scope, stock: Stock, sure: bool) -> tuple[Charge, bool] | None:
    """What an option counts, and whether its memory is known; None if it is not what the quota is about."""
    if scope.classes and option.class_name not in (ANY_CLASS, *scope.classes):
        return None
    choice = stock.choice(option.class_name, option.selectors)
    if not choice.ours and not sure:
        return None
    kinds = choice.kinds or choice.similar
    if scope.vendors or scope.models:
        if choice.vendor:
            # None of today's cards is its vendor's: what they have says nothing about it.
            kinds = frozenset()
            if scope.vendors and choice.vendor not in scope.vendors:
                return None
        picked = frozenset(kind for kind in kinds if _in_scope(kind, scope))
        if kinds and not picked:
            return None
        kinds = picked
    worst, is_known = _of_kinds(option, kinds, whole_mib=scope.whole_card_mib)
    return worst.times(option.count), is_known


def _in_scope(kind: CardKind, scope: Scope) -> bool:
    return (not scope.vendors or kind.vendor in scope.vendors) and (
        not scope.models or kind.model in scope.models
    )


def _of_kinds(option: Option, kinds: frozenset[CardKind], *, whole_mib: int | None) -> tuple[Charge, bool]:
    """The worst over the kinds of cards that have what is asked for, for one device."""
    asked = option.memory_mib
    fitting = [kind for kind in kinds if asked is None or kind.memory_mib >= asked]
    if not fitting:
        # None of today's cards can give it: a card that could may come, and would be taken whole at worst.
        largest = max((kind.memory_mib for kind in kinds), default=None)
        memory = asked if asked is not None else whole_mib if whole_mib is not None else largest
        if memory is None:
            return Charge(cores=CORES_PER_CARD, cards=1), False
        whole = asked is None or largest is not None
        cores = CORES_PER_CARD if whole else option.cores or 0
        return Charge(memory_mib=memory, cores=cores, cards=1), True
    worst = NOTHING
    for kind in fitting:
        is_whole = asked is None or asked == kind.memory_mib or not kind.shareable
        memory = asked if asked is not None and kind.shareable else kind.memory_mib
        if asked is None and whole_mib is not None and not kind.partition:
            memory = whole_mib
        cores = kind.cores if is_whole else kind.default_cores if option.cores is None else option.cores
        worst = worst.worst(Charge(memory_mib=memory, cores=cores, cards=1))
    return worst, True
