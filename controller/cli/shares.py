"""What allocated claims hold of our cards.

Flow: `shares_of` reads a claim's allocation: amounts from the result where it has a shareID, else from our
allocator's ShareAllocation, else the card as a whole. What the agent says it put in force comes along.

Limits: for people to read; the allocator's books are its own. A claim that cannot be read holds the cards of
its results as a whole.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from driver.cards import CORES_PER_CARD, DRIVER_NAME, node_of_pool
from driver.errors import QuantityError
from driver.kube.client import JSON
from driver.places import place_of
from driver.quantities import format_bytes, parse_quantity


@dataclass(frozen=True, kw_only=True)
class Share:
    """What one result of a claim holds.

    Attributes:
        claim: `namespace/name` of the claim.
        request: Its request, `name` or `name/sub`.
        node: The card's node.
        device: The card.
        memory: Bytes; None for the whole card.
        cores: Percent, 0 for no cap; None for the whole card.
        admin: Administrative access: it takes nothing of the card.
        numbered: Whether it has a shareID.
        pods: Names of the pods that the claim is reserved for.
        limits: What the agent says it put in force, "" if it has said nothing.
        isolation: What holds the limits, by dimension, as far as it is known.
    """

    claim: str
    request: str
    node: str
    device: str
    memory: int | None = None
    cores: int | None = None
    admin: bool = False
    numbered: bool = False
    pods: tuple[str, ...] = ()
    limits: str = ""
    isolation: tuple[tuple[str, str], ...] = ()

    def words(self) -> str:
        """What it holds, in a few words."""
        if self.admin:
            return "a look, no share"
        if self.memory is None:
            return "the whole card" if place_of(self.device) is None else "the whole partition"
        cap = f"{self.cores} % of compute" if self.cores else "no cap on compute"
        return f"{format_bytes(self.memory)}, {cap}"

    def to_json(self) -> JSON:
        """Gives it as JSON."""
        return {
            "claim": self.claim,
            "request": self.request,
            "node": self.node,
            "card": self.device,
            "memory": None if self.memory is None else format_bytes(self.memory),
            "coresPercent": self.cores,
            "wholeCard": self.memory is None and not self.admin,
            "adminAccess": self.admin,
            "pods": list(self.pods),
            "limits": self.limits,
            "isolation": dict(self.isolation),
        }


def shares_of(claim: JSON) -> tuple[Share, ...]:
    """What a claim holds of our cards; nothing if it is not allocated."""
    status = claim.get("status") or {}
    allocation = status.get("allocation") or {}
    devices = allocation.get("devices") or {}
    results = [one for one in devices.get("results") or [] if one.get("driver") == DRIVER_NAME]
    if not results:
        return ()
    metadata = claim["metadata"]
    given = _given(devices.get("config") or [])
    told = _told(status.get("devices") or [])
    pods = tuple(str(one.get("name")) for one in status.get("reservedFor") or [])
    return tuple(
        _share(
            one,
            claim=f"{metadata.get('namespace')}/{metadata.get('name')}",
            pods=pods,
            given=given,
            told=told,
        )
        for one in results
    )


def trimmed(claim: JSON) -> JSON | None:
    """What has to be kept of a claim to know what it holds; None if that is nothing of ours."""
    status = claim.get("status") or {}
    devices = (status.get("allocation") or {}).get("devices") or {}
    if not any(one.get("driver") == DRIVER_NAME for one in devices.get("results") or []):
        return None
    metadata = {name: claim["metadata"].get(name) for name in ("name", "namespace", "uid")}
    kept = {name: status[name] for name in ("allocation", "reservedFor", "devices") if name in status}
    return {"metadata": metadata, "status": kept}


def by_card(shares: Iterable[Share]) -> Mapping[tuple[str, str], list[Share]]:
    """Shares by node and card, administrative access left out."""
    found: dict[tuple[str, str], list[Share]] = {}
    for one in shares:
        if not one.admin:
            found.setdefault((one.node, one.device), []).append(one)
    return found


def used_of(shares: Sequence[Share], *, memory: int, cores: int = CORES_PER_CARD) -> tuple[int, int]:
    """Bytes and percent that are held of a card, or partition, of this size."""
    if any(one.memory is None for one in shares):
        return memory, cores
    return sum(one.memory or 0 for one in shares), sum(one.cores or 0 for one in shares)


def _share(
    result: JSON,
    *,
    claim: str,
    pods: tuple[str, ...],
    given: Mapping[tuple[str, str, str], Mapping[str, str]],
    told: Mapping[tuple[str, str, str], JSON],
) -> Share:
    request, pool, device = (str(result.get(name) or "") for name in ("request", "pool", "device"))
    share_id = str(result.get("shareID") or "")
    amounts: Mapping[str, Any] | None = given.get((request, pool, device))
    if share_id:
        amounts = result.get("consumedCapacity") or {}
    memory = cores = None
    if amounts is not None:
        try:
            memory = parse_quantity(str(amounts.get("memory") or "0")).rounded_up
            cores = parse_quantity(str(amounts.get("cores") or "0")).rounded_up
        except QuantityError:
            memory = cores = None
    entry = told.get((pool, device, share_id)) or told.get((pool, device, "")) or {}
    data = mapping(entry.get("data"))
    limits = next(
        (
            str(one.get("message"))
            for one in mappings(entry.get("conditions"))
            if one.get("type") == "Limited"
        ),
        "",
    )
    named = (("memory", data.get("memoryIsolation")), ("cores", data.get("coresIsolation")))
    return Share(
        claim=claim,
        request=request,
        node=node_of_pool(pool),
        device=device,
        memory=memory,
        cores=cores,
        admin=bool(result.get("adminAccess")),
        numbered=bool(share_id),
        pods=pods,
        limits=limits,
        isolation=tuple((name, str(value)) for name, value in named if value),
    )


def _given(config: Sequence[JSON]) -> Mapping[tuple[str, str, str], Mapping[str, str]]:
    """What our allocator wrote down, where the API server keeps no amounts in results."""
    found: dict[tuple[str, str, str], Mapping[str, str]] = {}
    for entry in config:
        opaque = mapping(entry.get("opaque"))
        parameters = mapping(opaque.get("parameters"))
        ours = opaque.get("driver") == DRIVER_NAME and entry.get("source") == "FromClaim"
        if not ours or parameters.get("kind") != "ShareAllocation":
            continue
        for share in mappings(parameters.get("shares")):
            key = (str(share.get("request")), str(share.get("pool")), str(share.get("device")))
            found[key] = share
    return found


def mapping(value: Any) -> JSON:
    """An object of JSON; empty if it is none: what users write may be anything."""
    return value if isinstance(value, dict) else {}


def mappings(value: Any) -> list[JSON]:
    """The objects of a list of JSON; none if it is no list."""
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []


def _told(devices: Sequence[JSON]) -> Mapping[tuple[str, str, str], JSON]:
    return {
        (str(one.get("pool")), str(one.get("device")), str(one.get("shareID") or "")): one
        for one in devices
        if one.get("driver") == DRIVER_NAME
    }
