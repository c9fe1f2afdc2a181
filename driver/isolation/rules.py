"""What `preload` cannot express, refused by name; and the index at which each limit stands.

Purpose: CDI knows no containers. Every container that names a request gets that request's edits, several
claims' edits meet in one container in an undefined order, and a second pod of a prepared claim causes no
prepare. Limits of the preload library are keyed by the card's position in the container's own view (PCI
order) and counted in one region. So at prepare, the agent hands in all containers of all pods of the claim,
with all shares that they use, and `check_preload_rules` returns the one index of each share, or refuses.

Flow: pods + allocations -> `ContainerUse`, `ShareFacts` -> `check_preload_rules` -> {share: index} -> edits.

Limits: cards that come into a container by another way (another DRA driver, a device plugin) are not seen
here and would shift the view; nor is a second pod that names a claim made for another one after that claim
was prepared. Privileged containers, which see every card of the node, are refused.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Literal

from driver.cards import Card
from driver.errors import IsolationError
from driver.isolation.preload import MAX_CARDS

_WHOLE_CARD = "A whole card without a cap on compute has no such limit."
SEES_ALL_CARDS = "sees all cards of the node"
"""Why a privileged container is refused where a method limits what it may see or map."""


class TwoIndicesError(IsolationError):
    """A share would stand at two positions in two containers."""

    reason = "TwoIndices"


class SameCardTwiceError(IsolationError):
    """Two shares of one card meet in one container."""

    reason = "SameCardTwice"


class ConcurrentContainersError(IsolationError):
    """Two containers can use one limited share at the same time."""

    reason = "ConcurrentContainers"


class SharedBetweenPodsError(IsolationError):
    """Several pods can use one limited share."""

    reason = "SharedBetweenPods"


class CorePolicyConflictError(IsolationError):
    """Shares in one container want the cap on compute both forced and disabled."""

    reason = "CorePolicyConflict"


class PriorityConflictError(IsolationError):
    """Shares in one container have different priorities."""

    reason = "PriorityConflict"


class DifferentSharesInTurnError(IsolationError):
    """Containers that use one share in turn hold different other shares."""

    reason = "DifferentSharesInTurn"


class PrivilegedContainerError(IsolationError):
    """A privileged container sees all cards of the node."""

    reason = "PrivilegedContainer"


class TooManyCardsError(IsolationError):
    """A limited share stands beyond the positions that the library can hold."""

    reason = "TooManyCards"


class PartitionBesideShareError(IsolationError):
    """A container would get a limited share and a partition of cards of one vendor."""

    reason = "PartitionBesideShare"


BESIDE_REMEDY = "Give each a container of its own, or ask for a whole card without a cap on compute."


def beside(who: str, *, share: str, other: str) -> str:
    """The sentence that refuses a limited share and a partition in one container.

    Source: NVIDIA's MIG user guide, "CUDA Device Enumeration": with a MIG device CUDA shows that one alone.
    """
    return (
        f"{who} would get a share with a limit ({share}) beside {other}: a program does not see cards by the "
        "same numbers then (CUDA shows one MIG device and no card beside it), so the preload library could "
        "hold the limit of another card, or none."
    )


@dataclass(frozen=True, kw_only=True, order=True)
class ShareKey:
    """One allocated result."""

    claim_uid: str
    request: str
    device: str
    share_id: str = ""


@dataclass(frozen=True, kw_only=True)
class ShareFacts:
    """What the rules need to know of a share.

    Attributes:
        card_sort_key: Where the card stands among its vendor's cards; see `card_sort_key`.
        limited: `preload` holds its memory limit, its cap on compute, or both.
        core_policy: `force` or `disable` where the share has a cap on compute; "" where it has none.
        first: Its author wants it to go before others (`priority: high`).
        vendor: The card's vendor: each vendor's library counts its own cards only.
        partition: It is a partition of a card, such as a MIG device.
    """

    card_sort_key: str
    limited: bool
    core_policy: str = ""
    first: bool = False
    vendor: str = ""
    partition: bool = False


@dataclass(frozen=True, kw_only=True)
class ContainerUse:
    """One container of a pod and the shares that it can use.

    Attributes:
        pod_uid: UID of the pod.
        pod_name: Name of the pod, for sentences.
        container: Name of the container.
        kind: `init`; `sidecar`, an init container with `restartPolicy: Always`; or `app`.
        order: Position in `spec.initContainers` or `spec.containers`.
        uses: The shares of our driver that it gets, of all claims.
        privileged: `securityContext.privileged`.
    """

    pod_uid: str
    pod_name: str
    container: str
    kind: Literal["init", "sidecar", "app"]
    order: int
    uses: frozenset[ShareKey]
    privileged: bool = False


def card_sort_key(card: Card) -> str:
    """A text that orders a vendor's cards as its library lists them: by PCI address, then by name.

    A domain above ffff has more than four digits, so the address alone would not sort.
    """
    domain, _, rest = card.pci_bus_id.partition(":")
    return f"{domain.zfill(8)}:{rest}" if rest else f"~{card.name}"


def check_preload_rules(
    *,
    claim_shares: Collection[ShareKey],
    all_shares: Mapping[ShareKey, ShareFacts],
    containers: Sequence[ContainerUse],
    pod_owned: bool,
) -> Mapping[ShareKey, int]:
    """Checks the shares of one claim in all containers that can use them.

    Args:
        claim_shares: The claim's shares on this node, adminAccess included.
        all_shares: Facts of these and of every other share that `containers` use.
        containers: All containers of all pods that may use the claim.
        pod_owned: The claim was made from a template for one pod (or for its extended resources), and is
            reserved for no other pod.

    Returns:
        For each share of the claim its card's index in the container. For a share that nothing limits, or no
        container uses, the index means nothing and is the lowest that occurs, or 0.

    Raises:
        IsolationError: A subclass for each rule; message and remedy name pod, container and request.
    """
    ours = set(claim_shares)
    limited = sorted(key for key in ours if all_shares[key].limited)
    concerned = [use for use in containers if use.uses & ours]
    for share in limited:
        _check_pods(share, [use for use in concerned if share in use.uses], pod_owned=pod_owned)
    for use in concerned:
        _check_container(use, all_shares, ours=ours)
    for share in limited:
        _check_containers(share, [use for use in concerned if share in use.uses], all_shares)
    return _indices(sorted(ours), concerned, all_shares)


def _check_pods(share: ShareKey, uses: Sequence[ContainerUse], *, pod_owned: bool) -> None:
    pods = sorted({use.pod_name for use in uses})
    users = f" ({', '.join(pods)})" if len(pods) > 1 else ""
    refuse_several_pods(
        uses,
        pod_owned=pod_owned,
        message=f"Request {share.request} has a limit that the preload library holds, but several "
        f"pods{users} can use its claim: they would not count together.",
        more_remedy=_WHOLE_CARD,
    )


def _check_container(use: ContainerUse, facts: Mapping[ShareKey, ShareFacts], *, ours: set[ShareKey]) -> None:
    limited = sorted(key for key in use.uses if facts[key].limited)
    if not limited:
        return
    refuse_privileged(use, ours.intersection(limited), because=SEES_ALL_CARDS)
    refuse_same_card(use, facts, because="the preload library holds one limit for each card")
    _refuse_partition(use, limited, facts)
    policies = {facts[key].core_policy: key for key in limited if facts[key].core_policy}
    if len(policies) > 1:
        raise CorePolicyConflictError(
            f"{named(use)} would get shares with different core policies "
            f"({', '.join(f'{key.request}: {policy}' for policy, key in sorted(policies.items()))}); "
            "the preload library has one for a container.",
            field="corePolicy",
            remedy="Give all requests that one container uses the same corePolicy.",
        )
    high = [key.request for key in limited if facts[key].first]
    low = [key.request for key in limited if not facts[key].first]
    if high and low:
        raise PriorityConflictError(
            f"{named(use)} would get shares with different priorities ({high[0]}: high, {low[0]}: low); "
            "the preload library makes all of a container wait, or nothing of it.",
            field="priority",
            remedy="Give all requests that one container uses the same priority.",
        )


def _refuse_partition(
    use: ContainerUse, limited: Sequence[ShareKey], facts: Mapping[ShareKey, ShareFacts]
) -> None:
    for share in limited:
        for key in sorted(use.uses):
            if facts[key].partition and facts[key].vendor == facts[share].vendor and key != share:
                raise PartitionBesideShareError(
                    beside(
                        named(use),
                        share=f"request {share.request}",
                        other=f"a partition of a card (request {key.request})",
                    ),
                    field="spec.containers[].resources.claims",
                    remedy=BESIDE_REMEDY,
                )


def _check_containers(
    share: ShareKey, uses: Sequence[ContainerUse], facts: Mapping[ShareKey, ShareFacts]
) -> None:
    for first, second in combinations(uses, 2):
        refuse_overlap(
            first,
            second,
            what=f"the limited share of request {share.request}",
            because="the preload library would count each on its own",
            more_remedy=_WHOLE_CARD,
        )
        held, wanted = (frozenset(key for key in use.uses if facts[key].limited) for use in (first, second))
        if held != wanted:
            raise DifferentSharesInTurnError(
                f"{named(first)} and container {second.container} use the share of request {share.request} "
                f"in turn, but not the same other limited shares ({_requests(held ^ wanted)}); the limits of "
                "the first would stay in force for the second.",
                field="spec.containers[].resources.claims",
                remedy="Give both containers the same requests, or each a request of its own.",
            )


def can_overlap(first: ContainerUse, second: ContainerUse) -> bool:
    """Whether two containers can run at the same time, by the order in which a kubelet starts them."""
    if first.pod_uid != second.pod_uid:
        return True
    kinds = {first.kind, second.kind}
    if kinds <= {"app", "sidecar"}:
        return True
    if kinds == {"init", "sidecar"}:
        sidecar, init = (first, second) if first.kind == "sidecar" else (second, first)
        return sidecar.order < init.order
    return False


def _indices(
    shares: Iterable[ShareKey], uses: Sequence[ContainerUse], facts: Mapping[ShareKey, ShareFacts]
) -> dict[ShareKey, int]:
    views = [(use, _view(use, facts)) for use in uses]
    found: dict[ShareKey, int] = {}
    for share in shares:
        places = {view[share]: use for use, view in views if share in view}
        found[share] = min(places, default=0)
        if not facts[share].limited:
            continue
        if len(places) > 1:
            first, second = sorted(places)[:2]
            raise TwoIndicesError(
                f"The card of request {share.request} would be number {first} in {named(places[first])} and "
                f"number {second} in container {places[second].container}; a limit has one number only.",
                field="spec.containers[].resources.claims",
                remedy="Give both containers the same requests, or each a request of its own.",
            )
        if found[share] >= MAX_CARDS:
            raise TooManyCardsError(
                f"The card of request {share.request} would be number {found[share]} in "
                f"{named(places[found[share]])}; the preload library holds the first {MAX_CARDS} only.",
                field="spec.containers[].resources.claims",
                remedy=f"Give a container with a limited share at most {MAX_CARDS} cards.",
            )
    return found


def _view(use: ContainerUse, facts: Mapping[ShareKey, ShareFacts]) -> dict[ShareKey, int]:
    """Index of each share's card among the cards of its vendor that the container sees."""
    cards: dict[str, set[str]] = defaultdict(set)
    for key in use.uses:
        cards[facts[key].vendor].add(facts[key].card_sort_key)
    order = {vendor: sorted(keys) for vendor, keys in cards.items()}
    return {key: order[facts[key].vendor].index(facts[key].card_sort_key) for key in use.uses}


def named(use: ContainerUse) -> str:
    """A container as refusals name it."""
    return f"pod {use.pod_name}, container {use.container}"


# What several methods refuse alike, each with its own reason why.


def refuse_several_pods(
    uses: Sequence[ContainerUse], *, pod_owned: bool, message: str, more_remedy: str = ""
) -> None:
    """Refuses a share that several pods can use.

    Raises:
        SharedBetweenPodsError: The claim was not made for one pod, or several use the share already.
    """
    if pod_owned and len({use.pod_uid for use in uses}) <= 1:
        return
    raise SharedBetweenPodsError(
        message,
        field="spec.resourceClaims[].resourceClaimName",
        remedy=f"Use resourceClaimTemplateName, so that each pod has its own claim. {more_remedy}".rstrip(),
    )


def refuse_overlap(
    first: ContainerUse, second: ContainerUse, *, what: str, because: str, more_remedy: str = ""
) -> None:
    """Refuses two containers that can use one share at the same time.

    Raises:
        ConcurrentContainersError: They can run at the same time.
    """
    if can_overlap(first, second):
        raise ConcurrentContainersError(
            f"{named(first)} and container {second.container} can use {what} at the same time; {because}.",
            field="spec.containers[].resources.claims",
            remedy=f"Give each container a request of its own. {more_remedy}".rstrip(),
        )


def refuse_privileged(use: ContainerUse, limited: Collection[ShareKey], *, because: str) -> None:
    """Refuses a privileged container with limited shares.

    Raises:
        PrivilegedContainerError: It is privileged, and `limited` is not empty.
    """
    if use.privileged and limited:
        raise PrivilegedContainerError(
            f"{named(use)} is privileged and {because}; the limit of request "
            f"{min(limited).request} cannot be put in force in it.",
            field="spec.containers[].securityContext.privileged",
            remedy="Run the container without privileged, or ask for whole cards.",
        )


def refuse_same_card(use: ContainerUse, facts: Mapping[ShareKey, ShareFacts], *, because: str) -> None:
    """Refuses two shares of one card in one container, where one of them is limited.

    Raises:
        SameCardTwiceError: It has such shares.
    """
    on_card: dict[str, list[ShareKey]] = defaultdict(list)
    for key in sorted(use.uses):
        on_card[key.device].append(key)
    for device, keys in on_card.items():
        if len(keys) > 1 and any(facts[key].limited for key in keys):
            raise SameCardTwiceError(
                f"{named(use)} would get {len(keys)} shares of card {device} (requests {_requests(keys)}); "
                f"{because}.",
                field="spec.containers[].resources.claims",
                remedy="Ask for one larger share, or add a constraint distinctAttribute: dragoman.dev/uuid.",
            )


def _requests(keys: Iterable[ShareKey]) -> str:
    return ", ".join(sorted({key.request for key in keys}))
