"""The cluster that `hack/replay admit` answers for, read from manifests.

Flow: documents -> `Scene`, by kind. What cannot be read, or is of a kind that might have been meant to count,
ends with the document's number and name; other objects of a cluster's dump are passed over, and named.

Limits: where cards are there and no DeviceClass is, those of the chart are. AcceleratorNodes count more than
ResourceSlices of the same node, since slices are made of them. A slice is read back into cards, which says
less of them: how much a policy reserves is not in it.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml

from driver.api.base import decode
from driver.api.node import cards_of, decode_status
from driver.api.policy import AcceleratorPolicySpec, NamedPolicy, effective_policy
from driver.api.quota import AcceleratorQuotaSpec
from driver.cards import CORES_PER_CARD, DRIVER_NAME, Card, IsolationLevel, Partition, node_of_pool
from driver.errors import DragomanError
from driver.places import place_of
from driver.quantities import parse_quantity
from driver.slices import FENCE
from tooling.generate.device_classes import VENDORS, device_classes
from tooling.replay.admit_settings import KIND as SETTINGS
from tooling.replay.admit_settings import ReplaySettings, read_settings
from tooling.replay.admit_versions import as_v1
from tooling.replay.errors import ReplayError

JSON = dict[str, Any]

PASSED_OVER = ("Pod", "ResourceClaimTemplate", "Lease", "ConfigMap", "Service", "ServiceAccount")
"""Kinds that a dump of a cluster may hold and that no answer depends on."""
_OURS = "dragoman.dev"
_ALIKE = 0.8
_ENDLESS = 1 << 62
_SOMETHING = re.compile(r"\S")


@dataclass
class Scene:
    """A cluster.

    Attributes:
        cards: By node.
        classes: DeviceClass documents by name.
        policies: By name.
        quotas: AcceleratorQuotas.
        resource_quotas: Core ResourceQuotas.
        claims: ResourceClaims that exist.
        namespaces: Labels by name.
        labels: Those of Nodes, by name.
        settings: What the file says of the controller's settings; None if nothing.
        passed_over: Where objects are of which nothing is known here, as sentences.
    """

    cards: dict[str, list[Card]] = field(default_factory=dict)
    classes: dict[str, JSON] = field(default_factory=dict)
    policies: dict[str, NamedPolicy] = field(default_factory=dict)
    quotas: list[JSON] = field(default_factory=list)
    resource_quotas: list[JSON] = field(default_factory=list)
    claims: list[JSON] = field(default_factory=list)
    namespaces: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    labels: dict[str, Mapping[str, str]] = field(default_factory=dict)
    settings: ReplaySettings | None = None
    passed_over: list[str] = field(default_factory=list)


def read_scene(paths: list[Path]) -> Scene:
    """Reads manifests: several documents a file, lists as well, YAML or JSON.

    Raises:
        ReplayError: A file cannot be read, or a document is of no use here.
    """
    scene, slices = Scene(), list[JSON]()
    readers: Mapping[str, Callable[[JSON], None]] = {
        "AcceleratorNode": lambda one: _node(scene, one),
        "ResourceSlice": slices.append,
        "DeviceClass": lambda one: scene.classes.update({_name(one): one}),
        "AcceleratorPolicy": lambda one: _policy(scene, one),
        "AcceleratorQuota": lambda one: _quota(scene, one),
        "ResourceQuota": scene.resource_quotas.append,
        "ResourceClaim": scene.claims.append,
        "Node": lambda one: scene.labels.update({_name(one): one["metadata"].get("labels") or {}}),
        "Namespace": lambda one: scene.namespaces.update({_name(one): one["metadata"].get("labels") or {}}),
        SETTINGS: lambda one: _settings(scene, one),
        **dict.fromkeys(PASSED_OVER, lambda _one: None),
    }
    for path in paths:
        for number, document in enumerate(_documents(path), 1):
            for one in _objects(document, where=f"{path}: document {number}"):
                kind = str(one.get("kind") or "")
                where = f"{path}: document {number}: {kind} {_name(one)}"
                if kind not in readers:
                    _refuse_misspelt(one, kind, known=readers, where=where)
                    scene.passed_over.append(f"{where}: objects of this kind play no part here.")
                    continue
                try:
                    readers[kind](as_v1(one))
                except DragomanError as invalid:
                    raise ReplayError(f"{where}: {invalid}") from None
                except (KeyError, TypeError, AttributeError, ValueError) as odd:
                    raise ReplayError(f"{where}: it cannot be read: {odd!r}") from None
    inventoried = frozenset(scene.cards)
    for one in slices:
        _slice(scene, one)
    for node in scene.cards.keys() - inventoried:
        _under_policies(scene, node)
    if scene.cards:
        scene.classes = {_name(one): one for one in device_classes(VENDORS)} | scene.classes
    return scene


def _refuse_misspelt(one: JSON, kind: str, *, known: Iterable[str], where: str) -> None:
    """Refuses what would have counted had it been written as it was meant."""
    version = str(one.get("apiVersion") or "")
    near = difflib.get_close_matches(kind, known, n=1, cutoff=_ALIKE)
    if version and kind and not near and version.partition("/")[0] != _OURS:
        return
    told = f"Did you mean {near[0]}?" if near else f"Known kinds: {', '.join(sorted(known))}."
    raise ReplayError(f"{where}: the kind {kind!r} is not known here. {told}")


def _documents(path: Path) -> Iterator[Any]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as unreadable:
        raise ReplayError(f"{path} cannot be read: {unreadable}") from None
    try:
        yield from _json(text) or _yaml(text)
    except (yaml.YAMLError, RecursionError, ValueError) as invalid:
        # ValueError: a day that there is not, a number of thousands of digits.
        raise ReplayError(f"{path} is no YAML: {' '.join(str(invalid).split())}") from None


def _yaml(text: str) -> Iterator[Any]:
    # Python's own parser takes ten times as long as libyaml.
    return yaml.load_all(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))


def _json(text: str) -> list[Any]:
    """JSON documents one after the other, which is no YAML; none if it is not that."""
    decoder, found, at = json.JSONDecoder(), [], 0
    while (begin := _SOMETHING.search(text, at)) is not None:
        try:
            one, at = decoder.raw_decode(text, begin.start())
        except ValueError:
            return []
        found.append(one)
    return found


def _objects(document: Any, *, where: str) -> Iterator[JSON]:
    if document is None:
        return
    if isinstance(document, list):
        for one in document:
            yield from _objects(one, where=where)
        return
    if not isinstance(document, dict):
        raise ReplayError(f"{where} is no object.")
    if str(document.get("kind") or "").endswith("List") and isinstance(document.get("items"), list):
        for one in document["items"]:
            yield from _objects(one, where=where)
        return
    if not isinstance(document.get("metadata") or {}, dict):
        raise ReplayError(f"{where}: metadata is no object.")
    yield document


def _name(one: Mapping[str, Any]) -> str:
    return str((one.get("metadata") or {}).get("name") or "")


def _node(scene: Scene, one: JSON) -> None:
    status = dict(one.get("status") or {})
    # Who wrote it plays no part here, and whoever writes a case by hand leaves it out.
    status.setdefault("agent", {"version": "none"})
    scene.cards[_name(one)] = list(cards_of(decode_status(status)))


def _policy(scene: Scene, one: JSON) -> None:
    spec = decode(AcceleratorPolicySpec, one.get("spec") or {}, field="spec")
    scene.policies[_name(one)] = NamedPolicy(name=_name(one), spec=spec)


def _quota(scene: Scene, one: JSON) -> None:
    decode(AcceleratorQuotaSpec, one.get("spec") or {}, field="spec")
    scene.quotas.append(one)


def _settings(scene: Scene, one: JSON) -> None:
    if scene.settings is not None:
        raise ValueError("there are two of them")
    scene.settings = read_settings(one.get("spec") or {})


def _slice(scene: Scene, one: JSON) -> None:
    name = _name(one)
    try:
        spec = one["spec"]
        if spec["driver"] != DRIVER_NAME:
            return
        node = str(
            spec.get("nodeName") or node_of_pool(str((spec.get("pool") or {}).get("name") or "")) or name
        )
        fenced = spec.get("nodeSelector") == FENCE
        cards = [_card(device, fenced=fenced) for device in spec.get("devices") or []]
    except DragomanError as invalid:
        raise ReplayError(f"ResourceSlice {name}: {invalid}") from None
    except (KeyError, TypeError, AttributeError, ValueError) as odd:
        raise ReplayError(f"ResourceSlice {name}: it cannot be read: {odd!r}") from None
    known = scene.cards.setdefault(node, [])
    names = {card.name for card in known}
    known += [card for card in cards if card.name not in names]


def _under_policies(scene: Scene, node: str) -> None:
    """What policies say of cards and ResourceSlices do not: an AcceleratorNode would say it.

    Memory that a policy reserves is no part of what a slice has.
    """
    policy = effective_policy(scene.policies.values(), node_labels=scene.labels.get(node, {}))

    def said(card: Card) -> Card:
        ruled = policy.apply(replace(card, memory_bytes=_ENDLESS))
        return replace(
            ruled,
            memory_bytes=card.memory_bytes,
            physical_memory_bytes=card.physical_memory_bytes,
            shareable=card.shareable and ruled.shareable,
            allow_uncapped=card.allow_uncapped and ruled.allow_uncapped,
        )

    scene.cards[node] = [said(card) for card in scene.cards[node]]


_FIELDS = {
    "vendor": "vendor",
    "model": "model",
    "uuid": "uuid",
    "architecture": "architecture",
    "driverVersion": "driver_version",
    "resource.kubernetes.io/pciBusID": "pci_bus_id",
    "resource.kubernetes.io/pcieRoot": "pcie_root",
    "resource.kubernetes.io/numaNode": "numa_node",
}
_LEVELS = {"memoryIsolation": "memory_isolation", "coresIsolation": "cores_isolation"}


def _card(device: Mapping[str, Any], *, fenced: bool) -> Card:
    fields: JSON = {"vendor": "", "model": ""}
    extra: JSON = {}
    for raw, value in (device.get("attributes") or {}).items():
        (content,) = value.values()
        name = str(raw).removeprefix(f"{DRIVER_NAME}/")
        if name in _FIELDS:
            fields[_FIELDS[name]] = content
        elif name in _LEVELS:
            fields[_LEVELS[name]] = IsolationLevel(content)
        else:
            extra[name] = content
    capacity = {
        str(name).removeprefix(f"{DRIVER_NAME}/"): value
        for name, value in (device.get("capacity") or {}).items()
    }
    if "memory" not in capacity:
        raise ValueError(f"device {device.get('name')} has no memory")
    cores = (capacity.get("cores") or {}).get("requestPolicy") or {}
    least = str((cores.get("validRange") or {}).get("min") or "0")
    name = str(device["name"])
    if "profile" in extra and place_of(name) is not None:
        fields["partition"] = Partition(
            card_uuid=str(extra.pop("parentUUID", "")),
            profile=str(extra.pop("profile")),
            # One that is made for claims draws on its card's counters.
            exists=not device.get("consumesCounters"),
        )
        whole = str((capacity.get("cores") or {}).get("value") or CORES_PER_CARD)
        fields["cores"] = parse_quantity(whole).rounded_up
        fenced = False
    return Card(
        name=name,
        memory_bytes=parse_quantity(str(capacity["memory"]["value"])).rounded_up,
        # Fenced slices do not say how cards are shared.
        shareable=fenced or device.get("allowMultipleAllocations") is True,
        allow_uncapped=parse_quantity(least).nano == 0,
        extra_attributes=extra,
        **fields,
    )
