"""What a core ResourceQuota says about HAMi's and device plugins' resources, as AcceleratorQuotas.

Purpose: converted pods do not carry the names any more that `limits.nvidia.com/gpumem` and its kin are about,
so such a ResourceQuota would silently hold nothing. It is translated, and holds for claims.

Flow: `hard_of` is the projection of the ResourceQuotas' informer; `wanted` gives the AcceleratorQuotas that
one of them stands for: one for each group of names that belong together, such as those of one vendor.

Limits: pure. `requests.` and `limits.` of a name mean the same, the smaller one counts. A ResourceQuota with
the annotation `dragoman.dev/quota: ignored` is left alone. Amounts in percent of a card are not translated:
a sum over cards of several sizes would mean nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from driver.cards import CORES_PER_CARD, DRIVER_NAME
from driver.conversion import ConversionSettings
from driver.errors import QuantityError
from driver.kube.client import JSON
from driver.kube.resources import ACCELERATOR_QUOTAS, RESOURCE_QUOTAS
from driver.quantities import format_bytes, parse_quantity
from driver.vendors.legacy import LegacyNames

FROM = f"{DRIVER_NAME}/from-resource-quota"
"""Annotation of an AcceleratorQuota that was made of a ResourceQuota: its name."""
IGNORE = f"{DRIVER_NAME}/quota"
"""Annotation of a ResourceQuota that is left alone, with the value `ignored`."""
_PREFIXES = ("limits.", "requests.")
_MAX_NAME = 253


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Names that belong together.

    Attributes:
        vendor: The vendor's short name.
        names: What they mean.
    """

    vendor: str
    names: LegacyNames

    @property
    def counted(self) -> tuple[str, ...]:
        """The names that a ResourceQuota can limit."""
        return tuple(one for one in (self.names.count, self.names.memory, self.names.cores) if one)


def groups_of(settings: ConversionSettings) -> tuple[Group, ...]:
    """The names that pods are converted by, as this cluster calls them and in its units."""
    return tuple(
        Group(
            vendor=family.vendor.name,
            names=replace(
                family.entry,
                count=family.resources["count"],
                memory=family.resources.get("memory", ""),
                cores=family.resources.get("cores", ""),
                memory_unit=family.entry.memory_unit * settings.memory_factors.get(family.entry.memory, 1),
            ),
        )
        for family in settings.catalogue.families
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class LegacyQuota:
    """A ResourceQuota, as far as it is about our resources.

    Attributes:
        namespace: Its namespace.
        name: Its name.
        uid: Its UID.
        hard: Limits by the resource's name without prefix, in the units of the resource.
    """

    namespace: str
    name: str
    uid: str
    hard: tuple[tuple[str, int], ...]


class Translation:
    """Translates ResourceQuotas."""

    def __init__(self, groups: Iterable[Group]) -> None:
        """Prepares, for all names that conversion knows."""
        self._groups = tuple(groups)
        self._known = frozenset(name for group in self._groups for name in group.counted)

    def hard_of(self, document: JSON) -> LegacyQuota | None:
        """What a ResourceQuota says about our resources; None if that is nothing."""
        metadata = document.get("metadata") or {}
        if (metadata.get("annotations") or {}).get(IGNORE) == "ignored":
            return None
        found: dict[str, int] = {}
        for key, value in ((document.get("spec") or {}).get("hard") or {}).items():
            name = next((key.removeprefix(one) for one in _PREFIXES if key.startswith(one)), "")
            if name not in self._known:
                continue
            try:
                amount = max(0, parse_quantity(str(value)).rounded_up)
            except QuantityError:
                # No API server stores it; nothing is the one reading that gives nothing away.
                amount = 0
            found[name] = min(amount, found.get(name, amount))
        if not found:
            return None
        return LegacyQuota(
            namespace=str(metadata.get("namespace") or ""),
            name=str(metadata.get("name") or ""),
            uid=str(metadata.get("uid") or ""),
            hard=tuple(sorted(found.items())),
        )

    def wanted(self, quota: LegacyQuota) -> list[JSON]:
        """The AcceleratorQuotas that a ResourceQuota stands for."""
        hard = dict(quota.hard)
        return [
            _document(quota, group, limits)
            for group in self._groups
            if (limits := _limits(group.names, hard))
        ]


def is_as_wanted(stored: Mapping[str, Any], wanted: JSON) -> bool:
    """Whether a stored AcceleratorQuota is what a ResourceQuota stands for now."""
    metadata = stored.get("metadata") or {}
    owners = [one.get("uid") for one in metadata.get("ownerReferences") or []]
    return stored.get("spec") == wanted["spec"] and owners == [
        one["uid"] for one in wanted["metadata"]["ownerReferences"]
    ]


def _limits(names: LegacyNames, hard: Mapping[str, int]) -> JSON:
    found: JSON = {}
    if names.memory and names.memory in hard:
        found["memory"] = format_bytes(hard[names.memory] * names.memory_unit)
    if names.cores and names.cores in hard:
        found["cores"] = str(hard[names.cores] * CORES_PER_CARD // names.cores_of)
    if names.count in hard:
        found["cards"] = str(hard[names.count])
    return found


def _document(quota: LegacyQuota, group: Group, limits: JSON) -> JSON:
    spec: JSON = {"hard": limits, "vendors": [group.vendor]}
    if group.names.models:
        spec["models"] = list(group.names.models)
    suffix = group.names.count.lower().replace("/", ".").replace("_", "-")
    return {
        "apiVersion": ACCELERATOR_QUOTAS.api_version,
        "kind": ACCELERATOR_QUOTAS.kind,
        "metadata": {
            "name": f"{quota.name[: _MAX_NAME - len(suffix) - 1].rstrip('-.')}.{suffix}",
            "namespace": quota.namespace,
            "labels": {"app.kubernetes.io/managed-by": "dragoman"},
            "annotations": {FROM: quota.name},
            "ownerReferences": [
                {
                    "apiVersion": RESOURCE_QUOTAS.api_version,
                    "kind": RESOURCE_QUOTAS.kind,
                    "name": quota.name,
                    "uid": quota.uid,
                    "controller": True,
                }
            ],
        },
        "spec": spec,
    }
