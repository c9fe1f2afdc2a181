"""Cards of a node as ResourceSlices.

Flow: each offered card becomes one device; devices keep the order of the cards, because kube-scheduler tries
them in that order and takes the first that fits; they are cut into slices whose names sort in the same order.

Limits: 128 devices a slice, 64 as soon as one has taints or counters (API validation of resource.k8s.io/v1).
The generation is not decided here but in `plan`, as it depends on what exists. What cards have in common is
the same object in all of them and must not be changed: 8,000 cards take 12 MiB instead of 42.

Decisions that users see:

* `driverVersion` is a `version`, so that selectors can compare it, wherever the vendor's text can be read as
  one. Vendors write `535.104.05`, which is no semantic version (leading zero); such texts are normalised the
  way the rest of the ecosystem does it (`535.104.5`). Only what has no number in front stays a string.
* A card whose policy refuses uncapped shares has `cores` with minimum 1 and default 100: a claim that does
  not ask for cores consumes all of the card's compute. It is then the only one that computes there, so that
  no share runs uncapped beside another one, and it does not fit where anybody holds a percent. (A default has
  to lie in the range, so it cannot be 0; a small default would cap people who never asked for a cap.)
* Where a card is partitioned on demand, it and its partitions draw on counters of one set that has the card's
  name, so that they exclude each other. From Kubernetes 1.35 on, sets stand in slices without devices, at
  most eight in each. Where the API server drops counters, what would be made on demand is left out, and the
  card is offered without counters; fenced slices have none, since nobody allocates by them.
* A card with a fault carries one taint, `dragoman.dev/unhealthy`, whose value is the fault's reason: one key
  to tolerate, and a reason to be choosy by. Where the API server knows no taints such a card is left out:
  claims that hold it keep it, and no other gets it.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from driver.cards import DRIVER_NAME, Card, Fault, Partition, TaintEffect, pool_name
from driver.places import card_of
from driver.quantities import MIB, format_bytes, format_count

JSON = dict[str, Any]

FENCE: JSON = {
    "nodeSelectorTerms": [
        {
            "matchExpressions": [
                {"key": "dragoman.dev/allocated-by", "operator": "In", "values": ["kube-scheduler"]}
            ]
        }
    ]
}
"""Node selector of slices that kube-scheduler must not allocate from: no node carries this label.

It looks at a slice only if the node fits, before it looks at any class or claim; so no class of an admin gets
around it. An allocation that was written from outside is placed all the same (tried on 1.34.4 and 1.37.1).
"""

UNHEALTHY_TAINT = f"{DRIVER_NAME}/unhealthy"
"""Key of the taint of a card with a fault."""

MAX_DEVICES = 128
MAX_DEVICES_WITH_TAINTS = 64
MAX_COUNTER_SETS = 8
MAX_COUNTERS = 32

_MAX_STRING = 64
_MAX_ENTRIES = 32  # attributes and capacities of a device together
_MAX_NAME = 253
_MAX_POOL = 253

_STANDARD = "resource.kubernetes.io"
_PCI_BUS_ID = f"{_STANDARD}/pciBusID"
_PCIE_ROOT = f"{_STANDARD}/pcieRoot"
_NUMA_NODE = f"{_STANDARD}/numaNode"
_REMEMBERED = 1024
"""Values that cards have in common: models, versions, sizes. UUIDs pass through."""
_IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,31}")
_QUALIFIED = re.compile(
    r"(?=[^/]{1,63}/)[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*"
    r"/[A-Za-z_][A-Za-z0-9_]{0,31}"
)
_VERSION = re.compile(
    r"v?(\d+)(?:\.(\d+))?(?:\.(\d+))?((?:\.\d+)*)(?:[-+._ ]?([0-9A-Za-z][-0-9A-Za-z._+]*))?"
)


@dataclass(frozen=True, kw_only=True)
class Publication:
    """What a node offers.

    Attributes:
        slices: Complete ResourceSlices in order, but for `spec.pool.generation`; none if no card is offered.
        problems: Sentences about what could not be published as reported.
    """

    slices: tuple[JSON, ...]
    problems: tuple[str, ...] = ()


def publication_of(
    cards: Sequence[Card],
    *,
    node: str,
    node_uid: str = "",
    fenced: bool = False,
    taints: bool = True,
    counters: bool = True,
) -> Publication:
    """The slices of a node.

    Args:
        cards: The node's cards in their stable order; those that are `unpublished` are left out.
        node: Name of the Node.
        node_uid: UID of the Node, which then owns the slices; "" leaves the owner out.
        fenced: Make slices from which kube-scheduler can allocate under no class whatever (see `FENCE`),
            because our own allocator decides. They do not say how cards are shared: nobody allocates by them,
            and API servers before 1.36 would drop it.
        taints: Whether the API server keeps taints; if not, cards that would have one are left out.
        counters: Whether the API server keeps shared counters; if not, partitions that would be made on
            demand are left out.
    """
    pool = pool_name(node)
    if len(pool) > _MAX_POOL:
        return Publication(slices=(), problems=(f"The node's name is too long for the pool {pool!r}.",))
    problems: list[str] = []
    devices: dict[str, JSON] = {}
    withheld = 0
    # A set without its card draws on nothing, as sets are made of cards.
    sets = _counter_sets(cards) if counters and not fenced else {}
    for card in cards:
        if card.unpublished:
            continue
        if card.is_promise and not counters and not fenced:
            withheld += 1
            continue
        if card.name in devices:
            problems.append(f"Two cards are called {card.name}; only the first is published.")
            continue
        if card.fault is not None and tainted(card) and not taints:
            problems.append(f"Card {card.name} is withdrawn: {card.fault.reason}.")
            continue
        device = _device(card, problems, fenced=fenced)
        owner = card_of(card.name)
        if owner in sets and card.counters:
            device["consumesCounters"] = [{"counterSet": owner, "counters": _counters(card.counters)}]
        devices[card.name] = device
    if withheld:
        problems.append(
            f"{withheld} partitions that would be made on demand are withheld: the API server drops "
            "sharedCounters and consumesCounters (feature gate DRAPartitionableDevices is off)."
        )
    drawn = {device["consumesCounters"][0]["counterSet"] for device in devices.values() if _draws(device)}
    parts: list[JSON] = [{"devices": chunk} for chunk in _chunks(list(devices.values()))]
    parts += [
        {"sharedCounters": some} for some in _set_chunks([sets[name] for name in sets if name in drawn])
    ]
    return Publication(
        slices=tuple(
            _slice(part, index=index, count=len(parts), node=node, node_uid=node_uid, fenced=fenced)
            for index, part in enumerate(parts)
        ),
        problems=tuple(problems),
    )


def tainted(card: Card) -> bool:
    """Whether a card has a fault that keeps new claims away from it."""
    return card.fault is not None and card.fault.effect is not TaintEffect.NONE


def slice_name(node: str, index: int) -> str:
    """Name of a node's slice: a DNS subdomain, unique for the node, sorting by index.

    Stable names, not `generateName`: kube-scheduler sorts slices by name, a random name is a random policy.
    """
    prefix, suffix = f"{DRIVER_NAME}-", f"-{index:05d}"
    if len(prefix) + len(node) + len(suffix) > _MAX_NAME:
        digest = hashlib.sha256(node.encode()).hexdigest()[:16]
        room = _MAX_NAME - len(prefix) - len(suffix) - len(digest) - 1
        node = f"{node[:room].rstrip('-.')}-{digest}"
    return f"{prefix}{node}{suffix}"


def canonical(document: Mapping[str, Any]) -> bytes:
    """The one text of a JSON object: sorted keys, no blanks; `json.loads` reads it back unchanged."""
    text = json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    # What others wrote may hold half a surrogate pair, which strict UTF-8 has no bytes for.
    return text.encode("utf-8", "surrogatepass")


def content_digest(spec: Mapping[str, Any]) -> str:
    """Digest of a slice's spec without its generation: equal digests mean that nothing has to be written."""
    pool = {key: value for key, value in (spec.get("pool") or {}).items() if key != "generation"}
    return hashlib.sha256(canonical({**spec, "pool": pool})).hexdigest()


def _chunks(devices: list[JSON]) -> list[list[JSON]]:
    narrow = any(device.get("taints") or device.get("consumesCounters") for device in devices)
    size = MAX_DEVICES_WITH_TAINTS if narrow else MAX_DEVICES
    return [devices[start : start + size] for start in range(0, len(devices), size)]


def _counter_sets(cards: Sequence[Card]) -> dict[str, JSON]:
    return {
        card.name: {"name": card.name, "counters": _counters(card.counters)}
        for card in cards
        if card.partition is None and 0 < len(card.counters) <= MAX_COUNTERS
    }


def _counters(counters: Mapping[str, int]) -> JSON:
    return {name: {"value": str(value)} for name, value in sorted(counters.items())}


def _draws(device: JSON) -> bool:
    return "consumesCounters" in device


def _set_chunks(sets: list[JSON]) -> list[list[JSON]]:
    return [sets[start : start + MAX_COUNTER_SETS] for start in range(0, len(sets), MAX_COUNTER_SETS)]


def _slice(part: JSON, *, index: int, count: int, node: str, node_uid: str, fenced: bool) -> JSON:
    metadata: JSON = {"name": slice_name(node, index)}
    if node_uid:
        metadata["ownerReferences"] = [
            {"apiVersion": "v1", "kind": "Node", "name": node, "uid": node_uid, "controller": True}
        ]
    return {
        "apiVersion": "resource.k8s.io/v1",
        "kind": "ResourceSlice",
        "metadata": metadata,
        "spec": {
            "driver": DRIVER_NAME,
            **({"nodeSelector": FENCE} if fenced else {"nodeName": node}),
            "pool": {"name": pool_name(node), "resourceSliceCount": count},
            **part,
        },
    }


def _device(card: Card, problems: list[str], *, fenced: bool) -> JSON:
    # A range needs room for its minimum and one step (API validation), which a card of 1 MiB has not.
    shared = not fenced and card.shareable and card.memory_bytes >= 2 * MIB
    device: JSON = {
        "name": card.name,
        "attributes": _attributes(card, problems),
        "capacity": _capacity(
            card.memory_bytes, cores=card.cores, shared=shared, allow_uncapped=card.allow_uncapped
        ),
    }
    if shared:
        device["allowMultipleAllocations"] = True
    if card.fault is not None and tainted(card):
        device["taints"] = [_taint(card.fault)]
    return device


def _taint(fault: Fault) -> JSON:
    # With the time of its own: left to the API server, it would be another one after each write.
    return {
        "key": UNHEALTHY_TAINT,
        "value": fault.reason,
        "effect": fault.effect.value,
        "timeAdded": fault.since,
    }


@lru_cache(_REMEMBERED)
def _capacity(memory_bytes: int, *, cores: int, shared: bool, allow_uncapped: bool) -> JSON:
    everything, amount = format_count(cores), format_bytes(memory_bytes)
    if not shared:
        return {"cores": {"value": everything}, "memory": {"value": amount}}
    smallest, default = ("0", "0") if allow_uncapped else ("1", everything)
    step = format_bytes(MIB)
    return {
        "cores": {
            "value": everything,
            "requestPolicy": {
                "default": default,
                "validRange": {"min": smallest, "max": everything, "step": "1"},
            },
        },
        "memory": {
            "value": amount,
            "requestPolicy": {"default": amount, "validRange": {"min": step, "max": amount, "step": step}},
        },
    }


def _attributes(card: Card, problems: list[str]) -> JSON:
    attributes: JSON = {
        "vendor": _string(card.vendor),
        "model": _string(card.model),
        "memoryIsolation": _string(card.memory_isolation.value),
        "coresIsolation": _string(card.cores_isolation.value),
    }
    if card.uuid:
        attributes["uuid"] = _string(card.uuid)
    if card.architecture:
        attributes["architecture"] = _string(card.architecture)
    if card.driver_version:
        attributes["driverVersion"] = _version(card.driver_version)
    if card.pci_bus_id:
        attributes[_PCI_BUS_ID] = _string(card.pci_bus_id)
    if card.pcie_root:
        attributes[_PCIE_ROOT] = _string(card.pcie_root)
    if card.numa_node is not None and card.numa_node >= 0:
        attributes[_NUMA_NODE] = _int(card.numa_node)
    if card.partition is not None:
        attributes |= _partition_attributes(card.partition)
    for name, value in sorted(card.extra_attributes.items()):
        refusal = _refusal(name, value, taken=attributes)
        if refusal:
            problems.append(f"Card {card.name}: the attribute {name!r} is not published: {refusal}.")
        else:
            attributes[name] = _value(value)
    return attributes


def _partition_attributes(partition: Partition) -> JSON:
    attributes = {"profile": _string(partition.profile)}
    if partition.card_uuid:
        attributes["parentUUID"] = _string(partition.card_uuid)
    return attributes


def _refusal(name: str, value: str | int | bool, *, taken: JSON) -> str:  # noqa: FBT001 - a card's attribute
    if name in taken:
        return "the driver sets it itself"
    if not (_IDENTIFIER.fullmatch(name) or _QUALIFIED.fullmatch(name)):
        return "its name is not a C identifier of at most 32 characters, optionally behind a domain"
    if isinstance(value, str) and len(value.encode("utf-8", "replace")) > _MAX_STRING:
        return f"its text is longer than {_MAX_STRING} bytes"
    if isinstance(value, int) and not -(1 << 63) <= value < 1 << 63:
        return "its number does not fit into 64 bits"
    if len(taken) + 2 >= _MAX_ENTRIES:
        return f"a device holds at most {_MAX_ENTRIES} attributes and capacities"
    return ""


def _value(value: str | int | bool) -> JSON:  # noqa: FBT001 - a card's attribute
    if isinstance(value, bool):
        return {"bool": value}
    if isinstance(value, int):
        return _int(value)
    return _string(value)


@lru_cache(_REMEMBERED)
def _int(value: int) -> JSON:
    return {"int": value}


def _string(text: str) -> JSON:
    # The limit counts bytes; a character cut in half is dropped whole.
    return _short_string(text.encode("utf-8", "replace")[:_MAX_STRING].decode(errors="ignore"))


@lru_cache(_REMEMBERED)
def _short_string(text: str) -> JSON:
    return {"string": text}


def _version(text: str) -> JSON:
    # What a node reports must not cost time in the expression, hence the length first.
    return _short_version(text) if len(text) <= _MAX_STRING else _string(text)


@lru_cache(_REMEMBERED)
def _short_version(text: str) -> JSON:
    found = _VERSION.fullmatch(text.strip())
    if found is None:
        return _string(text)
    major, minor, patch, more, rest = found.groups()
    version = ".".join(str(int(part or 0)) for part in (major, minor, patch))
    tail = re.sub(r"[^0-9A-Za-z.-]+", "-", rest or "").strip("-.")
    if tail:
        # A numeric identifier of a pre-release must not begin with zeros either.
        identifiers = (str(int(part)) if part.isdigit() else part for part in tail.split(".") if part)
        version += "-" + ".".join(identifiers)
    if more:
        version += f"+{more.removeprefix('.')}"
    return {"version": version} if len(version) <= _MAX_STRING else _string(text)
