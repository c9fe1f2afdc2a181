"""Annotations that choose cards: by UUID, by type, by NUMA node; modes are in `ways`.

Flow: `choice_of` reads the annotations that a family knows; its selectors go into each request, `fits` says
which kinds of cards, and of partitions of cards, they leave.

Rules that people see: entries are divided by commas and blanks around them do not count; a type is any part
of vendor and model, whatever the case, as HAMi's scheduler has it (not its DRA webhook, which wants all of
it); a list of UUIDs to use that names none is refused, since it would let no card through. Where an entry has
the form of a PCI address, cards are chosen by that.

Limits: 64 entries a list, 64 bytes each, which is the longest that a card can be called.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from driver.conversion import cel_text
from driver.conversion.errors import LegacyChoiceError
from driver.conversion.names import Family
from driver.conversion.stock import CardKind, Stock
from driver.conversion.ways import Way, ways_of

_MOST_ENTRIES = 64
_MOST_BYTES = 64
_MOST_EXPRESSION = 10 * 1024
_PCI = re.compile(r"[0-9a-fA-F]{4,8}:[0-9a-fA-F]{2}:[0-9a-fA-F]{2}\.[0-7]")
_TRUE = frozenset({"1", "t", "T", "TRUE", "true", "True"})
_FALSE = frozenset({"0", "f", "F", "FALSE", "false", "False"})
_QOS = ("best-effort", "fixed-share", "burst-share")


@dataclass(frozen=True, kw_only=True)
class Choice:
    """Which cards a pod leaves for a family.

    Attributes:
        selectors: CEL expressions for cards; all have to hold.
        of_partitions: The same for partitions of such cards.
        because: By selector, the path of the annotation that it comes from, where it comes from one.
        ways: The ways of sharing that the pod accepts, in its order; at least one.
        implied: Whether it names none, and gets a partition for an amount since the cluster shares no card.
        fits: Whether a kind of card is left, as far as its vendor, model and memory tell.
        one_numa_node: Whether all cards of a container have to be at one NUMA node.
        best_effort: Whether caps on compute are not held (MetaX).
    """

    selectors: tuple[str, ...]
    of_partitions: tuple[str, ...]
    because: Mapping[str, str]
    ways: tuple[Way, ...]
    implied: bool = False
    fits: Callable[[CardKind], bool]
    one_numa_node: bool = False
    best_effort: bool = False


def choice_of(
    family: Family, annotations: Mapping[str, str], *, stock: Stock, warn: Callable[[str], None]
) -> Choice:
    """Reads the annotations that the family's table names.

    Args:
        family: The names.
        annotations: Of the pod.
        stock: The cluster's cards, which say what a pod without a mode can mean.
        warn: Takes a sentence for whoever made the pod.

    Raises:
        LegacyChoiceError: One cannot be kept to.
    """
    entry = family.entry
    models = [cel_text.model_is(entry.models, field="")] if entry.models else []
    cards, parents = (_named(family, annotations, attribute=one) for one in ("uuid", "parentUUID"))
    because = {**cards, **parents, cel_text.HELD_BY_MPS: _field(entry.annotation("mode"))}
    selectors: list[str] = []
    wanted = _types(annotations, entry.annotation("useType"))
    unwanted = _types(annotations, entry.annotation("avoidType"))
    if entry.type_name:
        _check_name(family, wanted, unwanted)
        wanted, unwanted = [], []
    prefix = entry.type_prefix
    if wanted:
        field = _field(entry.annotation("useType"))
        selectors.append(_short(cel_text.type_contains(wanted, prefix=prefix, field=field), field))
        because[selectors[-1]] = field
    if unwanted:
        field = _field(entry.annotation("avoidType"))
        selectors.append(_short(f"!({cel_text.type_contains(unwanted, prefix=prefix, field=field)})", field))
        because[selectors[-1]] = field
    ways = ways_of(family, annotations)
    lowered = frozenset(map(str.lower, entry.models))

    def fits(kind: CardKind) -> bool:
        if kind.vendor != family.vendor.name or (lowered and kind.model.lower() not in lowered):
            return False
        name = cel_text.lowered(prefix + kind.model)
        if wanted and not any(cel_text.lowered(one) in name for one in wanted):
            return False
        return not any(cel_text.lowered(one) in name for one in unwanted)

    implied = ways == (Way.SHARE,) and _only_partitions(family, annotations, filter(fits, stock))
    return Choice(
        selectors=(*models, *cards, *selectors, *([cel_text.HELD_BY_MPS] if Way.MPS in ways else ())),
        of_partitions=(cel_text.vendor_is(family.vendor.name), *models, *parents, *selectors),
        because=because,
        ways=(Way.PARTITION,) if implied else ways,
        implied=implied,
        fits=fits,
        one_numa_node=_one_numa_node(family, annotations, warn=warn),
        best_effort=_best_effort(family, annotations, warn=warn),
    )


def _only_partitions(family: Family, annotations: Mapping[str, str], kinds: Iterable[CardKind]) -> bool:
    """Whether a pod without a mode could get nothing but partitions, as on HAMi's nodes in mode mig."""
    said = annotations.get(family.entry.annotation("mode"), "").strip()
    if said or Way.PARTITION not in family.entry.modes:
        return False
    profiles = [kind.profile for kind in kinds]
    return bool(profiles) and all(profiles)


def _named(family: Family, annotations: Mapping[str, str], *, attribute: str) -> dict[str, str]:
    """Selectors by UUID, each with the path of its annotation."""
    found = {}
    for role, key in family.entry.annotations:
        if role in ("useUUID", "avoidUUID") and key in annotations:
            field = _field(key)
            for one in _uuids(annotations[key], use=role == "useUUID", attribute=attribute, field=field):
                found[one] = field
    return found


def _uuids(text: str, *, use: bool, attribute: str, field: str) -> list[str]:
    entries = _entries(text, field=field)
    if not entries:
        if not use:
            return []
        raise LegacyChoiceError(
            "No card is named, so none could be used.",
            field=field,
            remedy="Name the cards, or leave the annotation out.",
        )
    addresses = [one.lower() for one in entries if _PCI.fullmatch(one)]
    uuids = [one for one in entries if not _PCI.fullmatch(one)]
    parts = []
    if uuids:
        parts.append(cel_text.one_of(attribute, uuids, field=field))
    if addresses:
        parts.append(cel_text.one_of("pciBusID", addresses, field=field, domain="resource.kubernetes.io"))
    either = " || ".join(parts)
    return [_short(either if use else f"!({either})", field)]


def _types(annotations: Mapping[str, str], key: str) -> list[str]:
    return _entries(annotations[key], field=_field(key)) if key in annotations else []


def _entries(text: str, *, field: str) -> list[str]:
    if not isinstance(text, str) or len(text) > _MOST_ENTRIES * (_MOST_BYTES + 2):
        raise LegacyChoiceError(
            f"The list is longer than {_MOST_ENTRIES} names of cards.",
            field=field,
            remedy=f"Name at most {_MOST_ENTRIES}, or choose by type.",
        )
    found = list(dict.fromkeys(one.strip() for one in text.split(",") if one.strip()))
    if len(found) > _MOST_ENTRIES:
        raise LegacyChoiceError(
            f"{len(found)} names are more than {_MOST_ENTRIES}.",
            field=field,
            remedy=f"Name at most {_MOST_ENTRIES}, or choose by type.",
        )
    for one in found:
        if len(one.encode("utf-8", "replace")) > _MOST_BYTES:
            raise LegacyChoiceError(
                f"{one[:20]!r}... is longer than {_MOST_BYTES} bytes, which no card's name is.",
                field=field,
                remedy="Write the names as `kubectl get resourceslices -o yaml` shows them.",
            )
    return found


def _short(expression: str, field: str) -> str:
    if len(expression) > _MOST_EXPRESSION:
        raise LegacyChoiceError(
            f"The selector for it would be longer than the {_MOST_EXPRESSION} bytes that the API allows.",
            field=field,
            remedy="Name fewer cards, or shorter parts of their names.",
        )
    return expression


def _check_name(family: Family, wanted: list[str], unwanted: list[str]) -> None:
    name = cel_text.lowered(family.entry.type_name)
    taken = not wanted or any(cel_text.lowered(one) in name for one in wanted)
    if not taken or any(cel_text.lowered(one) in name for one in unwanted):
        role = "avoidType" if taken else "useType"
        raise LegacyChoiceError(
            f"It leaves no card for {family.count}, whose cards are all {family.entry.type_name}.",
            field=_field(family.entry.annotation(role)),
            remedy=f"Leave it out, or name {family.entry.type_name}.",
        )


def _one_numa_node(family: Family, annotations: Mapping[str, str], *, warn: Callable[[str], None]) -> bool:
    key = family.entry.annotation("numaBind")
    said = annotations.get(key, "") if key else ""
    if said and said not in _TRUE | _FALSE:
        # HAMi passes it over as well, without a word.
        warn(f"{_field(key)}: {said[:40]!r} is neither true nor false, so it has no effect.")
    return said in _TRUE


def _best_effort(family: Family, annotations: Mapping[str, str], *, warn: Callable[[str], None]) -> bool:
    key = family.entry.annotation("qos")
    said = annotations.get(key, "") if key else ""
    if not said:
        return False
    if said not in _QOS:
        raise LegacyChoiceError(
            f"{said[:40]!r} is no policy that is known.",
            field=_field(key),
            remedy=f"Write one of {', '.join(_QOS)}.",
        )
    if said == "burst-share":
        warn(f"{_field(key)}: burst-share is held as fixed-share: no share goes beyond its cap.")
    return said == "best-effort"


def _field(key: str) -> str:
    return f"metadata.annotations[{key}]"
