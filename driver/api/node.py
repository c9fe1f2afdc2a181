"""AcceleratorNode: a node's inventory, as its agent reports it in the object's status.

Flow: agent -> `status_of` -> server-side apply of the status -> controller -> `cards_of` -> ResourceSlices.
Limits: written only when the content changed; never a heartbeat.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from pydantic import Field

from driver.api.base import Document, decode
from driver.api.policy import EffectivePolicy, Partitions, Setting, effective_policy
from driver.api.rollout import PolicyChange
from driver.cards import CORES_PER_CARD, Card, Fault, IsolationLevel, Partition, TaintEffect


class FaultStatus(Document):
    """What is wrong with a card."""

    reason: str = Field(
        pattern=r"^[A-Za-z0-9]{1,63}$", description="CamelCase word, also the value of the card's taint."
    )
    message: str = Field(default="", max_length=1024)
    since: str = Field(pattern=r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$", description="When it was noticed.")
    effect: TaintEffect = Field(
        default=TaintEffect.NO_SCHEDULE,
        description="What becomes of the card, by the policy's unhealthyEffect.",
    )


class PartitionStatus(Document):
    """What a partition of a card is."""

    card_uuid: str = Field(default="", alias="cardUUID", description="UUID of the card.")
    profile: str = Field(description="The vendor's name of its size, such as 1g.10gb.")
    exists: bool = Field(
        default=False, description="It is there now; otherwise it is made for the claim that gets it."
    )
    ours: bool = Field(default=False, description="It is there because it was made for a claim.")


class CardStatus(Document):
    """One card, or a partition of one, as the agent sees it and as the effective policy leaves it."""

    name: str
    vendor: str
    model: str
    memory_mib: int = Field(alias="memoryMiB", description="Memory that may be given out, in MiB.")
    physical_memory_mib: int = Field(
        default=0,
        alias="physicalMemoryMiB",
        description="All memory of the card, in MiB; 0 where that is memoryMiB.",
    )
    uuid: str = ""
    architecture: str = ""
    driver_version: str = ""
    pci_bus_id: str = Field(default="", alias="pciBusID")
    pcie_root: str = ""
    numa_node: int | None = None
    memory_isolation: IsolationLevel = IsolationLevel.NONE
    cores_isolation: IsolationLevel = IsolationLevel.NONE
    shareable: bool = True
    allow_uncapped: bool = True
    unpublished: str = Field(default="", description="Why the card is not offered; empty if it is.")
    extra_attributes: dict[str, str | int | bool] = Field(default_factory=dict)
    fault: FaultStatus | None = Field(
        default=None, description="What is wrong with the card; missing if nothing is known to be."
    )
    cores: int | None = Field(
        default=None, description="Compute of a partition in percent of a card; missing: all of it."
    )
    partition: PartitionStatus | None = Field(
        default=None, description="What it is a partition of; missing: it is a card."
    )
    counters: dict[str, int] | None = Field(
        default=None,
        description="Of a card that is partitioned on demand what it has, of its partitions what they take.",
    )


class PolicySetting(Document):
    """A field of the effective policy and the AcceleratorPolicy that it came from."""

    field: str
    value: str
    source: str
    card: str = Field(default="", description="UUID of the card that the value is for; empty: all cards.")


class AgentStatus(Document):
    """The agent that wrote the status."""

    version: str
    pod_name: str = ""
    pod_uid: str = Field(default="", alias="podUID")


class Summary(Document):
    """The node in one line: what `kubectl get acceleratornodes` shows, as its columns cannot add up."""

    cards: int = Field(default=0, description="Cards that are offered.")
    memory: str = Field(default="0", description="Memory of the offered cards together, as a quantity.")
    vendors: str = Field(default="", description="Their vendors, sorted, separated by commas.")
    faulty: int | None = Field(
        default=None, description="Offered cards that have a fault; missing if none has."
    )


class AcceleratorNodeStatus(Document):
    """A node's cards and what was decided about them."""

    agent: AgentStatus
    summary: Summary = Field(default=Summary(), description="Follows from `cards`.")
    cards: tuple[CardStatus, ...] = ()
    policy: tuple[PolicySetting, ...] = ()
    policy_change: PolicyChange | None = Field(
        default=None,
        description="A change of policies that waits for the node's turn, or the last one that did.",
    )
    problems: tuple[str, ...] = Field(default=(), description="What could not be read, as sentences.")
    simulated: bool = Field(default=False, description="The cards are simulated: no hardware stands behind.")


def status_of(
    cards: Sequence[Card],
    *,
    agent: AgentStatus,
    policy: EffectivePolicy,
    problems: Sequence[str] = (),
    simulated: bool = False,
    change: PolicyChange | None = None,
) -> AcceleratorNodeStatus:
    """The status that says what this node has."""
    return AcceleratorNodeStatus(
        agent=agent,
        summary=_summary([card for card in cards if not card.unpublished]),
        cards=tuple(_card_status(card) for card in cards),
        policy=policy_settings(policy),
        policy_change=change,
        problems=tuple(problems),
        simulated=simulated,
    )


def policy_settings(policy: EffectivePolicy) -> tuple[PolicySetting, ...]:
    """A policy in force as a status says it; `policy_in_force` reads it."""
    settings = [
        PolicySetting(field=name, value=_text(setting.value), source=setting.source)
        for name, setting in sorted(policy.settings.items())
    ]
    settings += [
        PolicySetting(field=name, value=_text(setting.value), source=setting.source, card=uuid)
        for uuid, fields in sorted(policy.overrides.items())
        for name, setting in sorted(fields.items())
    ]
    return tuple(settings)


def policy_in_force(stored: object) -> EffectivePolicy | None:
    """The policy that `status.policy` says was in force, as an agent of this or another version wrote it.

    What it does not say was not known to its agent, so that defaults held; fields that are not known here are
    passed over.

    Returns:
        None if it says nothing that can be read.
    """
    if not isinstance(stored, list) or not stored:
        return None
    settings = dict(effective_policy((), node_labels={}).settings)
    overrides: dict[str, dict[str, Setting]] = {}
    try:
        for one in stored:
            name, value, card = str(one["field"]), str(one["value"]), str(one.get("card") or "")
            if name in _READERS:
                setting = Setting(value=_READERS[name](value), source=str(one["source"]))
                (overrides.setdefault(card, {}) if card else settings)[name] = setting
    except (KeyError, ValueError, TypeError, AttributeError):
        return None
    isolation = settings["isolation"].value
    if not isinstance(isolation, tuple):
        return None
    return EffectivePolicy(settings=settings, isolation=isolation, overrides=overrides)


def cards_of(status: AcceleratorNodeStatus) -> tuple[Card, ...]:
    """The cards that a status reports."""
    return tuple(
        Card(
            memory_bytes=card.memory_mib << 20,
            physical_memory_bytes=card.physical_memory_mib << 20,
            fault=Fault(**card.fault.model_dump(by_alias=False)) if card.fault else None,
            cores=CORES_PER_CARD if card.cores is None else card.cores,
            partition=Partition(**card.partition.model_dump(by_alias=False)) if card.partition else None,
            counters=card.counters or {},
            **card.model_dump(by_alias=False, exclude=set(_CONVERTED)),
        )
        for card in status.cards
    )


def decode_status(document: Mapping[str, Any]) -> AcceleratorNodeStatus:
    """Decodes `status` of an AcceleratorNode; conditions, which others write as well, are passed over.

    Raises:
        ConfigError: The status is not one that an agent of this version writes.
    """
    ours = {key: value for key, value in document.items() if key != "conditions"}
    return decode(AcceleratorNodeStatus, ours, field="status")


_CONVERTED = ("memory_mib", "physical_memory_mib", "fault", "cores", "partition", "counters")
"""Fields of a card that its status says in another way."""


def _listed(text: str) -> list[str]:
    return text.split(", ") if text else []


def _truth(text: str) -> bool:
    return {"true": True, "false": False}[text]


_READERS: Mapping[str, Callable[[str], object]] = {
    "allowHighPriority": _truth,
    "allowUncapped": _truth,
    "excluded": _truth,
    "ignoredXids": lambda text: tuple(map(int, _listed(text))),
    "isolation": lambda text: tuple(map(IsolationLevel, _listed(text))),
    "lowPriorityPercent": int,
    "partitions": Partitions,
    "reservedMemory": str,
    "sharing": _truth,
    "unhealthyEffect": TaintEffect,
}
"""How the text of each setting is read: the reverse of `_text`."""


def _summary(published: Sequence[Card]) -> Summary:
    # What may be made of a card is counted with the card.
    offered = [card for card in published if not card.is_promise]
    memory_mib = sum(card.memory_mib for card in offered)
    gib, rest = divmod(memory_mib, 1024)
    return Summary(
        cards=len(offered),
        memory=f"{memory_mib}Mi" if rest else f"{gib}Gi" if gib else "0",
        vendors=",".join(sorted({card.vendor for card in offered})),
        faulty=sum(card.fault is not None for card in offered) or None,
    )


def _card_status(card: Card) -> CardStatus:
    fields = {
        info.alias or name: getattr(card, name)
        for name, info in CardStatus.model_fields.items()
        if name not in _CONVERTED
    }
    amounts = {
        "memoryMiB": card.memory_mib,
        "physicalMemoryMiB": card.physical_memory_bytes >> 20,
        "fault": asdict(card.fault) if card.fault else None,
        "cores": card.cores if card.cores != CORES_PER_CARD else None,
        "partition": _partition_status(card.partition),
        "counters": dict(card.counters) or None,
    }
    return CardStatus.model_validate({**fields, **amounts}, strict=False)


def _partition_status(partition: Partition | None) -> PartitionStatus | None:
    return None if partition is None else PartitionStatus(**asdict(partition))


def _text(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return ", ".join(str(item) for item in value)
    return str(value)
