"""The names that are converted, as a cluster calls them.

Flow: the vendors' tables and what an administrator renamed -> `Catalogue` -> which names of a container are
which amount of which family.

Limits: a family is one counting resource and those that size it. Two names for one thing are two families.
Names that stand for DeviceClasses are none of the catalogue's: the cluster says which they are (`ClassOf`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

from driver.errors import ConfigError
from driver.vendors.catalogue import VENDORS
from driver.vendors.facts import Identity, VendorFacts
from driver.vendors.legacy import LegacyNames

ClassOf: TypeAlias = Callable[[str], str | None]
"""The DeviceClass of ours that an extended resource stands for, and that nobody else makes a claim of; None
where there is none."""

_ROLES = ("count", "memory", "memory_percent", "cores", "priority")


@dataclass(frozen=True, kw_only=True, eq=False)
class Family:
    """Names that belong together.

    Attributes:
        vendor: Whose cards.
        entry: What the names mean.
        resources: What the cluster calls them, by role: `count`, `memory`, `memory_percent`, `cores`,
            `priority`; without those that there are none of.
    """

    vendor: VendorFacts
    entry: LegacyNames
    resources: Mapping[str, str]

    @property
    def count(self) -> str:
        """What the cluster calls the counting resource."""
        return self.resources["count"]

    @property
    def told_apart_by(self) -> str:
        """The attribute that every card of the vendor has, and each another one of on a node."""
        if self.vendor.identity is Identity.UUID:
            return "dragoman.dev/uuid"
        return "resource.kubernetes.io/pciBusID"


@dataclass(frozen=True, kw_only=True)
class Catalogue:
    """All families of a cluster.

    Attributes:
        names: All their names, for a quick look.
        roles: Family and role by name.
        families: In the order of the vendors.
        left_alone: Names that a device plugin goes on to serve.
    """

    names: frozenset[str]
    roles: Mapping[str, tuple[Family, str]]
    families: tuple[Family, ...]
    left_alone: frozenset[str] = frozenset()

    def class_of(self, name: str, class_of: ClassOf) -> str | None:
        """The class that a name stands for; None if it stands for none, or has a meaning of its own."""
        if "/" not in name or name in self.names or name in self.left_alone:
            return None
        return class_of(name)

    @classmethod
    def build(cls, *, renamed: Mapping[str, str], left_alone: frozenset[str]) -> Catalogue:
        """The catalogue of a cluster.

        Args:
            renamed: What the cluster calls a resource, by the name that it has by default.
            left_alone: Default names of counting resources whose families are left out.

        Raises:
            ConfigError: A name is not known, or stands for two things.
        """
        every = {name for facts in VENDORS for entry in facts.legacy for name in entry.names}
        counts = {entry.count for facts in VENDORS for entry in facts.legacy}
        _known(renamed, among=every, field="renamed")
        _known(left_alone, among=counts, field="leftAlone")
        families = tuple(
            Family(vendor=facts, entry=entry, resources=_resources(entry, renamed))
            for facts in VENDORS
            for entry in facts.legacy
            if entry.count not in left_alone
        )
        roles: dict[str, tuple[Family, str]] = {}
        for family in families:
            for role, name in family.resources.items():
                if name in roles:
                    raise ConfigError(
                        f"{name} would stand for two things, one of {roles[name][0].entry.count} and one of "
                        f"{family.entry.count}.",
                        field="renamed",
                        remedy="Give each resource a name of its own, or leave one of the two alone.",
                    )
                roles[name] = (family, role)
        left = {
            name
            for facts in VENDORS
            for entry in facts.legacy
            if entry.count in left_alone
            for name in _resources(entry, renamed).values()
        }
        return cls(
            names=frozenset(roles), roles=roles, families=families, left_alone=frozenset(left - set(roles))
        )


def _resources(entry: LegacyNames, renamed: Mapping[str, str]) -> dict[str, str]:
    names = {role: getattr(entry, role) for role in _ROLES}
    return {role: renamed.get(name, name) for role, name in names.items() if name}


def _known(said: Mapping[str, str] | frozenset[str], *, among: set[str], field: str) -> None:
    unknown = sorted(set(said) - among)
    if unknown:
        raise ConfigError(
            f"{unknown[0]!r} is none of the names that are converted.",
            field=field,
            remedy="The names, as they are by default, are listed in docs/reference/old-names.md.",
        )
