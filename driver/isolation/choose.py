"""Which method holds which dimension of a share, and what a card's isolation is published as.

Flow: policy order + methods + the share's config -> `choose_methods` -> `Chosen` -> `edits_for` -> CDI edits.

Limits: the choice is made per dimension, memory and compute; a dimension that the share does not limit needs
no method, and a cap on compute that its author disabled (`corePolicy: disable`) needs none either. Where a
policy refuses shares without a cap, a share cannot fail open to none.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from driver.api.share_config import CorePolicy, OnUnavailable, ShareConfig
from driver.cards import Card, IsolationLevel, at_least
from driver.cdi import ContainerEdits
from driver.errors import IsolationError
from driver.host import Host
from driver.isolation.base import Availability, IsolationMethod, ShareContext
from driver.shares import Share

Dimension = Literal["memory", "cores"]
Methods = Mapping[IsolationLevel, IsolationMethod]


class MinimumIsolationError(IsolationError):
    """Only methods weaker than the share accepts are available."""

    reason = "MinimumIsolationUnmet"


@dataclass(frozen=True, kw_only=True)
class Chosen:
    """What holds a share.

    Attributes:
        memory: Level that holds the memory limit; None where the share has none.
        cores: Level that holds the cap on compute; None where the share has none, or disabled it.
        warnings: Sentences for the claim's status: what is not held although it was asked for.
    """

    memory: IsolationLevel | None
    cores: IsolationLevel | None
    warnings: tuple[str, ...] = ()

    def holds(self, level: IsolationLevel) -> bool:
        """Whether a method of this level holds anything of the share."""
        return level in (self.memory, self.cores)


def choose_methods(
    share: Share,
    *,
    card: Card,
    config: ShareConfig,
    order: Sequence[IsolationLevel],
    methods: Methods,
    host: Host,
) -> Chosen:
    """Takes, for each dimension with a limit, the first method in order that is available and strong enough.

    Args:
        share: The share.
        card: The card that it is part of.
        config: Minimum isolation, core policy, and whether to fail open or closed.
        order: The policy's order of methods.
        methods: The methods that this agent has.
        host: The node.

    Raises:
        MinimumIsolationError: Methods are available, but weaker than the config's minimum.
        IsolationError: No method is available; its subclass says why, for instance PreloadLibraryMissing.
    """
    candidates = [
        (level, methods[level].available(card=card, host=host)) for level in order if level in methods
    ]
    memory, memory_warning = _choose(
        "memory",
        limited=share.limits_memory,
        minimum=config.minimum_isolation.memory,
        request=share.request,
        config=config,
        candidates=candidates,
    )
    cores, cores_warning = _choose(
        "cores",
        limited=share.limits_cores and config.core_policy is not CorePolicy.DISABLE,
        minimum=config.minimum_isolation.cores,
        request=share.request,
        config=config,
        candidates=candidates,
        may_be_unheld=card.allow_uncapped or share.whole,
    )
    return Chosen(
        memory=memory, cores=cores, warnings=tuple(text for text in (memory_warning, cores_warning) if text)
    )


def choose_partition(share: Share, *, card: Card, config: ShareConfig) -> Chosen:
    """What holds a partition: the card itself, whatever a policy's order is.

    Raises:
        MinimumIsolationError: The config asks for more than the partition's memory is held by, where the
            kernel helps the card (`Card.memory_isolation`).
    """
    chosen = Chosen(memory=IsolationLevel.HARDWARE, cores=IsolationLevel.HARDWARE)
    minimum = config.minimum_isolation.memory
    if minimum is None or at_least(card.memory_isolation, minimum):
        return chosen
    refusal = MinimumIsolationError(
        f"The memory limit of request {share.request} has to be held by {minimum} or stronger; that of "
        f"partition {card.name} is held by {card.memory_isolation}.",
        field="minimumIsolation.memory",
        remedy="Accept a weaker method, or select partitions by their isolation attributes.",
    )
    if config.on_unavailable is OnUnavailable.FAIL_CLOSED:
        raise refusal
    return replace(chosen, warnings=(f"As the share fails open, this is not so: {refusal.message}",))


def edits_for(
    share: Share,
    *,
    card: Card,
    chosen: Chosen,
    index: int,
    core_policy: str,
    methods: Methods,
    host: Host,
    priority: str = "",
) -> ContainerEdits:
    """The edits of all methods that hold something of the share, added up.

    Args:
        share: The share.
        card: Its card.
        chosen: What `choose_methods` answered for it.
        index: The card's index in the container (see `driver.isolation.rules`).
        core_policy: See `core_policy_of`.
        methods: The methods that this agent has.
        host: The node.
        priority: `high` or `low` where the share's author says one.

    Raises:
        IsolationError: A method cannot put its limit in force.
    """
    edits = ContainerEdits()
    for level in dict.fromkeys((chosen.memory, chosen.cores)):
        if level is None or level is IsolationLevel.NONE:
            continue
        if level not in methods:
            # It was prepared by an agent that had it: a method can be taken away from under a running pod.
            raise IsolationError(
                f"The share of request {share.request} is held by {level}, which this agent does not have.",
                remedy="An administrator installs the method again, or deletes the pod.",
            )
        context = context_for(
            share,
            card=card,
            chosen=chosen,
            index=index,
            core_policy=core_policy,
            level=level,
            priority=priority,
        )
        edits += methods[level].edits(share, context=context, host=host)
    return edits


def context_for(
    share: Share,
    *,
    card: Card,
    chosen: Chosen,
    index: int,
    core_policy: str,
    level: IsolationLevel,
    priority: str = "",
) -> ShareContext:
    """What the method of this level is told about the share."""
    return ShareContext(
        card=card,
        index=index,
        core_policy=core_policy,
        claim_uid=share.claim_uid,
        priority=priority,
        holds_memory=chosen.memory is level,
        holds_cores=chosen.cores is level,
    )


def core_policy_of(config: ShareConfig, *, card: Card) -> CorePolicy:
    """What becomes of the cap on compute: what the share's author says, but for a policy that wants caps."""
    if config.core_policy is CorePolicy.DEFAULT and not card.allow_uncapped:
        return CorePolicy.FORCE
    return config.core_policy


def levels_for(
    card: Card, *, order: Sequence[IsolationLevel], methods: Methods, host: Host
) -> tuple[IsolationLevel, IsolationLevel]:
    """What to publish as the card's `memoryIsolation` and `coresIsolation`: the first that is available."""
    candidates = [
        (level, methods[level].available(card=card, host=host)) for level in order if level in methods
    ]
    memory = next((level for level, found in candidates if found.memory), IsolationLevel.NONE)
    cores = next((level for level, found in candidates if found.cores), IsolationLevel.NONE)
    return memory, cores


_NAMES: Mapping[Dimension, str] = {"memory": "memory limit", "cores": "cap on compute"}


def _choose(
    dimension: Dimension,
    *,
    limited: bool,
    minimum: IsolationLevel | None,
    request: str,
    config: ShareConfig,
    candidates: Sequence[tuple[IsolationLevel, Availability]],
    may_be_unheld: bool = True,
) -> tuple[IsolationLevel | None, str]:
    if not limited:
        return None, ""
    what = f"{_NAMES[dimension]} of request {request}"
    usable = [level for level, found in candidates if _can(found, dimension)]
    strong = [level for level in usable if minimum is None or at_least(level, minimum)]
    if strong:
        return strong[0], _unheld(what, strong[0], because="the policy names the method none.")
    error = _refusal(dimension, what=what, minimum=minimum, usable=usable, candidates=candidates)
    if config.on_unavailable is OnUnavailable.FAIL_CLOSED:
        raise error
    held = usable[0] if usable else IsolationLevel.NONE
    if held is IsolationLevel.NONE:
        if not may_be_unheld:
            # To fail open is the wish of the claim's author; the administrator's policy stands above it.
            raise error
        return held, _unheld(what, held, because=f"the share fails open: {error.message}")
    return held, f"The {what} is held by {held} only, as the share fails open: {error.message}"


def _can(found: Availability, dimension: Dimension) -> bool:
    return found.memory if dimension == "memory" else found.cores


def _unheld(what: str, level: IsolationLevel, *, because: str) -> str:
    return f"Nothing holds the {what}: {because}" if level is IsolationLevel.NONE else ""


def _refusal(
    dimension: Dimension,
    *,
    what: str,
    minimum: IsolationLevel | None,
    usable: Sequence[IsolationLevel],
    candidates: Sequence[tuple[IsolationLevel, Availability]],
) -> IsolationError:
    if usable:
        return MinimumIsolationError(
            f"The {what} has to be held by {minimum} or stronger; this node has {', '.join(usable)}.",
            field=f"minimumIsolation.{dimension}",
            remedy="Accept a weaker method, or select cards by their isolation attributes.",
        )
    concerned = [
        (level, found) for level, found in candidates if dimension == "memory" or not found.memory_only
    ]
    causes = [found for _, found in concerned if not _can(found, dimension) and found.reason]
    if causes:
        # Of several methods the last is the weakest, and the one that is the easiest to provide.
        return causes[-1].refusal(
            f"The {what} cannot be put in force. {' '.join(found.reason for found in causes)}",
            remedy=causes[-1].remedy or "onUnavailable: FailOpen in ShareConfig starts it without the limit.",
        )
    if candidates and not concerned:
        named = ", ".join(level for level, _ in candidates)
        return IsolationError(
            f"The {what} cannot be put in force: {named} holds memory only.",
            remedy="An administrator names a method for compute as well in AcceleratorPolicy.",
        )
    return IsolationError(
        f"The {what} cannot be put in force: no method of the policy's order is known to this agent.",
        remedy="An administrator names methods in AcceleratorPolicy's field isolation.",
    )
