"""AcceleratorPolicy: what an administrator says about the cards of the nodes that a selector picks.

Flow: all policies whose nodeSelector holds are laid over each other, the highest priority first, field by
field (equal priorities: by name); overrides for a card's UUID win over settings of the same policy.
`effective_policy` says for each field which policy it came from, and AcceleratorNode's status repeats that.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Literal

from pydantic import Field, field_validator

from driver.api.base import Document
from driver.cards import LOW_PRIORITY_PERCENT, Card, IsolationLevel, TaintEffect
from driver.errors import QuantityError
from driver.quantities import MIB, parse_quantity

DEFAULTS = "default"
"""Where a field's value comes from if no policy sets it."""
EXCLUDED = "Excluded by policy."
"""Why a card is not offered that a policy excludes."""


class LabelExpression(Document):
    """One requirement of a Kubernetes label selector."""

    key: str
    operator: Literal["In", "NotIn", "Exists", "DoesNotExist"]
    values: tuple[str, ...] = ()


class NodeSelector(Document):
    """A Kubernetes label selector over nodes; empty picks every node."""

    match_labels: dict[str, str] = Field(default_factory=dict)
    match_expressions: tuple[LabelExpression, ...] = ()

    def matches(self, labels: Mapping[str, str]) -> bool:
        """Whether a node with these labels is picked (semantics of `metav1.LabelSelector`)."""
        return all(labels.get(key) == value for key, value in self.match_labels.items()) and all(
            _holds(expression, labels) for expression in self.match_expressions
        )


def _holds(expression: LabelExpression, labels: Mapping[str, str]) -> bool:
    present = expression.key in labels
    if expression.operator == "Exists":
        return present
    if expression.operator == "DoesNotExist":
        return not present
    inside = present and labels[expression.key] in expression.values
    return inside if expression.operator == "In" else not inside


class Partitions(StrEnum):
    """Whether partitions of a card that the hardware keeps apart are given out."""

    NONE = "None"
    STATIC = "Static"
    DYNAMIC = "Dynamic"


class CardSettings(Document):
    """What can be set for all cards, or for one."""

    sharing: bool | None = Field(default=None, description="false: the card is given out whole only.")
    excluded: bool | None = Field(default=None, description="true: the card is not offered at all.")
    reserved_memory: str | None = Field(
        default=None, description="Memory that is never given out, as a quantity in whole MiB, such as 512Mi."
    )
    allow_uncapped: bool | None = Field(
        default=None, description="false: a share has to ask for cores; one without a cap is refused."
    )
    allow_high_priority: bool | None = Field(
        default=None,
        description="true: while a share with priority: high computes, those of low priority on its card "
        "wait. false (the default): priority: high counts as low.",
    )
    low_priority_percent: int | None = Field(
        default=None,
        ge=0,
        le=99,
        description="Percent of the time in which shares of low priority compute however busy one of high "
        "priority is; 5 by default. 0: they wait for as long as it computes.",
    )

    unhealthy_effect: TaintEffect | None = Field(
        default=None,
        description="What becomes of a card with a fault. NoSchedule: no new claim gets it (the default). "
        "NoExecute: where the fault is certain, the pods that use it are ended as well. None: the fault is "
        "told, and the card is offered on.",
    )
    ignored_xids: tuple[int, ...] | None = Field(
        default=None,
        max_length=64,
        description="NVIDIA's XIDs that are no fault of the card, besides those that are an application's.",
    )
    partitions: Partitions | None = Field(
        default=None,
        description="Partitions that the hardware keeps apart, such as MIG instances. None (the default): "
        "they are not given out. Static: those that are there are given out. Dynamic: they are made for the "
        "claims that ask for them and removed afterwards, beside shares and the whole card.",
    )

    @field_validator("reserved_memory")
    @classmethod
    def _whole_mib(cls, value: str | None) -> str | None:
        if value is not None:
            try:
                amount = parse_quantity(value)
            except QuantityError as invalid:
                raise ValueError(str(invalid)) from None
            if not amount.is_integer or amount.rounded_up < 0 or amount.rounded_up % MIB:
                raise ValueError(f"{value!r} is not a whole number of MiB, 0 or more")
        return value


class CardOverride(CardSettings):
    """Settings for one card."""

    uuid: str = Field(description="UUID of the card, as AcceleratorNode's status shows it.")


class AcceleratorPolicySpec(CardSettings):
    """Settings for the nodes that the selector picks."""

    node_selector: NodeSelector = Field(default=NodeSelector(), description="Which nodes; empty: all.")
    priority: int = Field(default=0, description="The highest wins, field by field.")
    isolation: tuple[IsolationLevel, ...] | None = Field(
        default=None, description="Methods to try, in this order, for memory and for compute."
    )
    cards: tuple[CardOverride, ...] = Field(default=(), description="Overrides for single cards.")
    max_unavailable: int | str | None = Field(
        default=None,
        description="So many nodes at a time take a change over, as a number or as a percentage of the nodes "
        "that the policy picks (rounded up), such as 10%. Not set: all at once.",
    )

    @field_validator("max_unavailable")
    @classmethod
    def _some_nodes(cls, value: int | str | None) -> int | str | None:
        whole = isinstance(value, int) and value > 0
        percent = isinstance(value, str) and re.fullmatch(r"([1-9]\d?|100)%", value)
        if value is not None and not whole and not percent:
            raise ValueError(f"{value!r} is neither a number of nodes, 1 or more, nor 1% to 100%")
        return value


@dataclass(frozen=True, kw_only=True)
class NamedPolicy:
    """A policy as stored: its name and its decoded spec."""

    name: str
    spec: AcceleratorPolicySpec


@dataclass(frozen=True, kw_only=True)
class Setting:
    """A value and the policy it came from (`default` if from none)."""

    value: object
    source: str


@dataclass(frozen=True, kw_only=True)
class EffectivePolicy:
    """What holds on one node.

    Attributes:
        settings: Field name (camelCase) to value and source, for the node as a whole.
        isolation: Methods to try, in order.
        overrides: UUID to field name to value and source, for single cards.
    """

    settings: Mapping[str, Setting]
    isolation: tuple[IsolationLevel, ...]
    overrides: Mapping[str, Mapping[str, Setting]]

    def setting(self, name: str, *, uuid: str) -> Setting:
        """A field for one card, with where it came from."""
        return self.overrides.get(uuid, {}).get(name) or self.settings[name]

    def value(self, name: str, *, uuid: str) -> object:
        """The value of a field for one card."""
        return self.setting(name, uuid=uuid).value

    def apply(self, card: Card) -> Card:
        """The card as it may be offered under this policy; its partitions: `driver.partitions.offer`."""
        if card.partition is not None:
            excluded = self.value("excluded", uuid=card.partition.card_uuid)
            unpublished = EXCLUDED if excluded else card.unpublished
            return replace(card, shareable=False, unpublished=unpublished)
        reserved = parse_quantity(str(self.value("reservedMemory", uuid=card.uuid))).rounded_up
        if reserved >= card.memory_bytes:
            return replace(card, unpublished="The policy reserves all of the card's memory.")
        unpublished = card.unpublished
        if self.value("excluded", uuid=card.uuid):
            unpublished = EXCLUDED
        return replace(
            card,
            memory_bytes=card.memory_bytes - reserved,
            physical_memory_bytes=card.physical_memory_mib * MIB if reserved else card.physical_memory_bytes,
            shareable=bool(self.value("sharing", uuid=card.uuid)),
            allow_uncapped=bool(self.value("allowUncapped", uuid=card.uuid)),
            allow_high_priority=bool(self.value("allowHighPriority", uuid=card.uuid)),
            low_priority_percent=int(str(self.value("lowPriorityPercent", uuid=card.uuid))),
            unpublished=unpublished,
        )


_FIELDS: Mapping[str, tuple[str, object]] = {
    "sharing": ("sharing", True),
    "excluded": ("excluded", False),
    "reservedMemory": ("reserved_memory", "0"),
    "allowUncapped": ("allow_uncapped", True),
    "allowHighPriority": ("allow_high_priority", False),
    "lowPriorityPercent": ("low_priority_percent", LOW_PRIORITY_PERCENT),
    "unhealthyEffect": ("unhealthy_effect", TaintEffect.NO_SCHEDULE),
    "ignoredXids": ("ignored_xids", ()),
    "partitions": ("partitions", Partitions.NONE),
}

DEFAULT_ISOLATION: tuple[IsolationLevel, ...] = (IsolationLevel.PRELOAD,)
"""`none` is not in it: a limit that nothing holds has to be asked for by name (invariant 2)."""


def effective_policy(policies: Iterable[NamedPolicy], *, node_labels: Mapping[str, str]) -> EffectivePolicy:
    """Lays the policies that pick a node over each other, the highest priority first."""
    picked = sorted(
        (policy for policy in policies if policy.spec.node_selector.matches(node_labels)),
        key=lambda policy: (-policy.spec.priority, policy.name),
    )
    settings: dict[str, Setting] = {}
    overrides: dict[str, dict[str, Setting]] = {}
    for policy in picked:
        for name, (attribute, _) in _FIELDS.items():
            value = getattr(policy.spec, attribute)
            if value is not None:
                settings.setdefault(name, Setting(value=value, source=policy.name))
                # A setting of a higher priority also stands above a card's override of a lower one.
                for card in overrides.values():
                    card.setdefault(name, Setting(value=value, source=policy.name))
        for card_override in policy.spec.cards:
            card = overrides.setdefault(card_override.uuid, dict(_above(settings, policy.name)))
            for name, (attribute, _) in _FIELDS.items():
                value = getattr(card_override, attribute)
                if value is not None and (name not in card or card[name].source == policy.name):
                    card[name] = Setting(value=value, source=policy.name)
    for name, (_, default) in _FIELDS.items():
        settings.setdefault(name, Setting(value=default, source=DEFAULTS))
    ordered = [(policy.spec.isolation, policy.name) for policy in picked if policy.spec.isolation is not None]
    isolation, source = ordered[0] if ordered else (DEFAULT_ISOLATION, DEFAULTS)
    settings["isolation"] = Setting(value=isolation, source=source)
    return EffectivePolicy(settings=settings, isolation=isolation, overrides=overrides)


def _above(settings: Mapping[str, Setting], policy: str) -> dict[str, Setting]:
    return {name: setting for name, setting in settings.items() if setting.source != policy}
