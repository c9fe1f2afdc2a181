"""From `status.allocation` of a claim to the shares that this node has to hold.

Purpose: the one reader of allocations on the node. Amounts come from there alone, which users cannot write.

Flow: `check_claim` -> `results_of` -> `Given`, one for each result of our driver in this node's pool; results
of other drivers, pools and nodes are passed over.

Rules (design 3, "What was given"):

* with a shareID, `consumedCapacity` counts, always, and both `memory` and `cores` have to be in it: our
  slices publish both with a default, so the scheduler writes both, and what lacks one came another way;
* without a shareID, the ShareAllocation counts that our allocator wrote into the allocation: for servers that
  drop `shareID` and `consumedCapacity`. It counts only where the claim's own spec brings none, since
  kube-scheduler copies what stands there into the allocation;
* with neither, a card that is given out whole only is given whole; of any other card nothing is known, and it
  is refused rather than given whole;
* all memory that a card gives out makes a share whole: nobody else is on the card. It is limited all the same
  where that is less than the card has, since a policy reserves the rest;
* memory is a whole number of MiB, because our slices ask for steps of 1Mi. Anything else was not rounded by
  their request policy. It is refused: rounded down it is less than was promised, rounded up the card's sum
  can grow beyond what the allocator counted;
* adminAccess: device nodes only, no amounts;
* where configuration asks for amounts that the request itself does not, because the API server that stored
  it dropped them, and the allocator gave more of a card that is shared, it is refused: kube-scheduler knows
  nothing of such amounts and gives the whole card.

Limits: pure. Reads nothing but its arguments.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from driver.api.asked import only_carried, refuse_lost
from driver.api.share_allocation import GivenShare, shares_given
from driver.api.share_config import CorePolicy, ShareConfig, config_for
from driver.cards import CORES_PER_CARD, DRIVER_NAME, Card
from driver.cdi.spec import device_name_of
from driver.errors import ClaimError, DeviceGoneError, spelled
from driver.kube.client import JSON
from driver.quantities import MIB, Quantity, parse_quantity
from driver.shares import Share
from driver.validation.itself import refuse_first
from kubelet_plugin.prepare.claims import ClaimRef

_RESULTS = "status.allocation.devices.results"
_CONFIG = "status.allocation.devices.config"
_SPEC = "spec.devices"
_ANEW = "Delete the pod and its claim; a new claim is allocated anew."


class ClaimReplacedError(ClaimError):
    """The claim of this name is another one by now."""

    reason: ClassVar[str] = "ClaimReplaced"


class NotAllocatedError(ClaimError):
    """The claim has no allocation."""

    reason: ClassVar[str] = "ClaimNotAllocated"
    retriable: ClassVar[bool] = True


class AllocationUnusableError(ClaimError):
    """What was allocated cannot be given: amounts are missing, wrong or more than the card has."""

    reason: ClassVar[str] = "AllocationUnusable"


@dataclass(frozen=True, kw_only=True)
class Given:
    """One result of the allocation that this node has to hold.

    Attributes:
        share: What was given.
        pool: Pool of the result.
        config: How the share is to be held.
        cdi_device: Name of its CDI device.
    """

    share: Share
    pool: str
    config: ShareConfig
    cdi_device: str


def check_claim(claim: JSON, ref: ClaimRef) -> None:
    """Checks that this is the claim that the kubelet means, and that it is allocated.

    Raises:
        ClaimReplacedError: Another claim has its name.
        NotAllocatedError: It has no allocation.
    """
    uid = (claim.get("metadata") or {}).get("uid")
    if uid != ref.uid:
        raise ClaimReplacedError(
            f"ResourceClaim {ref.namespace}/{ref.name} was made anew: its UID is {uid}, not {ref.uid}.",
            field="metadata.uid",
            remedy="Delete the pod that waits for the old claim.",
        )
    if not is_allocated(claim):
        raise NotAllocatedError(
            f"ResourceClaim {ref.namespace}/{ref.name} is not allocated.",
            field="status.allocation",
            remedy="The kubelet tries again once the scheduler has allocated it.",
        )


def is_allocated(claim: JSON) -> bool:
    """Whether the claim has an allocation."""
    return bool((claim.get("status") or {}).get("allocation"))


def has_results_here(claim: JSON, *, pool: str) -> bool:
    """Whether the allocation names a card of this node."""
    return any(True for _ in _ours(claim, pool=pool))


def devices_here(claim: JSON, *, pool: str) -> frozenset[str]:
    """Names of the cards of this node that the allocation names."""
    return frozenset(str(result.get("device")) for _, result in _ours(claim, pool=pool))


def fingerprint(claim: JSON, *, pool: str) -> str:
    """Stands for the part of the allocation that is ours: equal as long as nothing in it changed."""
    part = {
        "results": [result for _, result in _ours(claim, pool=pool)],
        "config": [
            entry for entry in _config(claim) if (entry.get("opaque") or {}).get("driver") == DRIVER_NAME
        ],
    }
    text = json.dumps(part, sort_keys=True, separators=(",", ":"))
    return "sha256:" + hashlib.sha256(text.encode()).hexdigest()


def results_of(claim: JSON, *, pool: str, cards: Mapping[str, Card]) -> tuple[Given, ...]:
    """What this node has to hold of an allocated claim; empty if nothing.

    Raises:
        DeviceGoneError: A card is not there, or not offered.
        AllocationUnusableError: Amounts are missing or wrong; the field says which.
        ConfigError: A ShareConfig does not decode.
    """
    uid = claim["metadata"]["uid"]
    _check_spec(claim, pool=pool)
    given = shares_given(_config(claim), field=_CONFIG)
    found: dict[str, Given] = {}
    for index, result in _ours(claim, pool=pool):
        field = f"{_RESULTS}[{index}]"
        card = _card(result, cards=cards, field=field)
        share = _share(result, uid=uid, card=card, given=given, field=field)
        config = config_for(_config(claim), request=share.request, field=_CONFIG)
        _check_asked(share, claim=claim, card=card, field=field)
        _check_cap(share, config=config, card=card, field=field)
        name = device_name_of(
            claim_uid=uid, request=share.base_request, device=share.device, share_id=share.share_id
        )
        if name in found:
            raise AllocationUnusableError(
                f"Request {share.request} was given the same share of {share.device} twice.",
                field=field,
                remedy=_ANEW,
            )
        found[name] = Given(share=share, pool=pool, config=config, cdi_device=name)
    return tuple(found.values())


def _ours(claim: JSON, *, pool: str) -> Iterator[tuple[int, Mapping[str, Any]]]:
    for index, result in enumerate(_devices(claim).get("results") or []):
        if result.get("driver") == DRIVER_NAME and result.get("pool") == pool:
            yield index, result


def _config(claim: JSON) -> Sequence[Mapping[str, Any]]:
    return _devices(claim).get("config") or []


def _check_spec(claim: JSON, *, pool: str) -> None:
    """Refuses what admission refuses, in the same words: it may have been stored without being asked."""
    asked = {str(result.get("request")) for _, result in _ours(claim, pool=pool)}
    devices = (claim.get("spec") or {}).get("devices") or {}
    refuse_first(devices, field=_SPEC, is_ours=lambda option: option.label in asked)


def _devices(claim: JSON) -> Mapping[str, Any]:
    allocation = (claim.get("status") or {}).get("allocation") or {}
    return allocation.get("devices") or {}


def _card(result: Mapping[str, Any], *, cards: Mapping[str, Card], field: str) -> Card:
    name = str(result.get("device"))
    card = cards.get(name)
    if card is None:
        raise DeviceGoneError(
            f"Card {name} is not on this node (any more).", field=f"{field}.device", remedy=_ANEW
        )
    if card.unpublished:
        raise DeviceGoneError(
            f"Card {name} is not offered any more: {card.unpublished}", field=f"{field}.device", remedy=_ANEW
        )
    return card


def _share(
    result: Mapping[str, Any],
    *,
    uid: str,
    card: Card,
    given: Mapping[tuple[str, str, str], GivenShare],
    field: str,
) -> Share:
    request, share_id = str(result.get("request")), str(result.get("shareID") or "")
    if result.get("adminAccess"):
        return Share(claim_uid=uid, request=request, device=card.name, share_id=share_id, admin=True)
    written = given.get((request, str(result.get("pool")), card.name)) if not share_id else None
    if not share_id and written is None:
        if card.shareable:
            raise AllocationUnusableError(
                f"Request {request} was given an unknown part of card {card.name}: there is no shareID.",
                field=f"{field}.shareID",
                remedy="Switch on DRAConsumableCapacity in API server and scheduler. " + _ANEW,
            )
        return Share(
            claim_uid=uid,
            request=request,
            device=card.name,
            memory_mib=card.memory_mib,
            whole=True,
            memory_reserved=card.memory_mib < card.physical_memory_mib,
        )
    if written is None:
        consumed, field = result.get("consumedCapacity") or {}, f"{field}.consumedCapacity"
    else:
        consumed, field = {"memory": written.memory, "cores": written.cores}, f"{_CONFIG} (ShareAllocation)"
    memory = _memory(consumed, card=card, field=f"{field}.memory")
    cores = _cores(consumed, field=f"{field}.cores")
    whole = memory == card.memory_mib
    return Share(
        claim_uid=uid,
        request=request,
        device=card.name,
        share_id=share_id,
        memory_mib=memory,
        cores_percent=cores,
        whole=whole,
        memory_reserved=whole and memory < card.physical_memory_mib,
    )


def _check_asked(share: Share, *, claim: JSON, card: Card, field: str) -> None:
    if share.admin or not card.shareable:
        return
    devices = (claim.get("spec") or {}).get("devices") or {}
    carried = only_carried(devices, _config(claim), request=share.request, field=_CONFIG)
    given = {"memory": share.memory_mib * MIB, "cores": share.cores_percent}
    refuse_lost(carried, given, request=share.request, field=field)


def _check_cap(share: Share, *, config: ShareConfig, card: Card, field: str) -> None:
    if share.admin or share.whole or card.allow_uncapped:
        return
    if share.cores_percent == 0:
        raise AllocationUnusableError(
            f"Request {share.request} has no cap on compute, and a policy refuses that on card {card.name}.",
            field=f"{field}.consumedCapacity.cores",
            remedy="Ask for cores in the claim.",
        )
    if config.core_policy is CorePolicy.DISABLE:
        raise AllocationUnusableError(
            f"Request {share.request} disables its cap on compute, and a policy refuses shares without "
            f"one on card {card.name}.",
            field="corePolicy",
            remedy="Leave corePolicy: disable out of the claim's ShareConfig.",
        )


def _memory(consumed: Mapping[str, Any], *, card: Card, field: str) -> int:
    amount = _amount(consumed, "memory", field=field)
    if amount.nano <= 0:
        raise AllocationUnusableError(f"{amount} of memory is no share.", field=field, remedy=_ANEW)
    size = amount.rounded_up
    if size > card.memory_bytes:
        raise AllocationUnusableError(
            f"{amount} is more than the {card.memory_mib}Mi that card {card.name} has.",
            field=field,
            remedy=_ANEW,
        )
    if not amount.is_integer or size % MIB:
        raise AllocationUnusableError(
            f"{amount} is not a whole number of MiB, so it was not allocated from this driver's slices.",
            field=field,
            remedy=_ANEW,
        )
    return size // MIB


def _cores(consumed: Mapping[str, Any], *, field: str) -> int:
    amount = _amount(consumed, "cores", field=field)
    if not amount.is_integer or not 0 <= amount.rounded_up <= CORES_PER_CARD:
        raise AllocationUnusableError(
            f"{amount} is not a whole number of percent from 0 to {CORES_PER_CARD}.",
            field=field,
            remedy=_ANEW,
        )
    return amount.rounded_up


def _amount(consumed: Mapping[str, Any], name: str, *, field: str) -> Quantity:
    value = consumed.get(name)
    if value is None:
        raise AllocationUnusableError(
            f"The allocation does not say how much {name} was given.",
            field=field,
            remedy="Switch on DRAConsumableCapacity in API server and scheduler. " + _ANEW,
        )
    return parse_quantity(spelled(value), field=field)
