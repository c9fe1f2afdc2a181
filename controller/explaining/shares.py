"""What a claim's ShareConfig has to do with its waiting: nothing for the scheduler, everything for the node.

Flow: `remark` reads the ShareConfigs that would be in force for a pod's requests, and looks at the cards: is
the isolation that the author wants to be had, and where?

Limits: the scheduler knows nothing of this, so a pod may be given a card on which the node then refuses it;
said here, its author knows before. A ShareConfig that does not decode is told with the path of its field.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from driver.allocation import Snapshot
from driver.api.asked import REMEDY, AmountsLostError, only_carried
from driver.api.share_config import config_for
from driver.cards import DRIVER_NAME, ISOLATION_ORDER, IsolationLevel, at_least
from driver.errors import ConfigError
from driver.isolation.choose import MinimumIsolationError
from driver.kube.client import JSON

_MAX_LABELS = 64


@dataclass(frozen=True, kw_only=True)
class Remark:
    """Something to be said about ShareConfigs.

    Attributes:
        reason: CamelCase word.
        note: A sentence.
        everywhere: Every node would refuse the pod.
    """

    reason: str
    note: str
    everywhere: bool


def remark(
    snapshot: Snapshot,
    *,
    claims: Sequence[JSON],
    configs: Sequence[Sequence[JSON]],
    class_configs: Mapping[str, Sequence[JSON]],
) -> Remark | None:
    """What would become of a pod on the node; None if nothing is to be said.

    Args:
        snapshot: The cards.
        claims: The pod's claims of our classes.
        configs: The configuration for our driver of each claim.
        class_configs: That of each class, by its name.
    """
    wanted: dict[str, IsolationLevel] = {}
    for claim, config in zip(claims, configs, strict=True):
        for label, name in _labels(claim):
            inherited = class_configs.get(name, ())
            try:
                share = config_for(inherited, request="", field=f"DeviceClass {name}: spec.config")
                if config:
                    share = config_for([*inherited, *config], request=label, field="spec.devices.config")
                if lost := _lost(claim, [*inherited, *config], label):
                    return lost
            except ConfigError as wrong:
                note = f"The node will refuse the pod: {wrong}"
                return Remark(reason=wrong.reason, note=note, everywhere=True)
            for dimension in ("memory", "cores"):
                level = getattr(share.minimum_isolation, dimension)
                if level is not None and (dimension not in wanted or at_least(level, wanted[dimension])):
                    wanted[dimension] = level
    return _isolation(snapshot, wanted) if wanted else None


def _lost(claim: JSON, entries: Sequence[JSON], label: str) -> Remark | None:
    """Amounts that stand in configuration alone, of which kube-scheduler knows nothing."""
    carried = only_carried(
        claim["spec"]["devices"], entries, request=label, field="configuration of class and claim"
    )
    if not carried:
        return None
    listed = " and ".join(f"{name}: {text}" for name, text in carried.items())
    note = (
        f"The node will refuse the pod: request {label} asks for {listed} in a ShareConfig only, of which "
        f"kube-scheduler knows nothing. {REMEDY}"
    )
    return Remark(reason=AmountsLostError.reason, note=note, everywhere=True)


def _isolation(snapshot: Snapshot, wanted: Mapping[str, IsolationLevel]) -> Remark | None:
    cards = strong = 0
    for one in snapshot.slices:
        for device in one.devices:
            if device.id.driver != DRIVER_NAME:
                continue
            cards += 1
            strong += all(
                _strong(device.attributes.get(f"{dimension}Isolation"), level)
                for dimension, level in wanted.items()
            )
    if strong == cards:
        return None
    listed = " and ".join(f"{dimension} by {level.value}" for dimension, level in wanted.items())
    who = (
        f"which {strong} of {cards} cards can give; on the others the node" if strong else "which no card can"
    )
    where = "refuses the pod" if strong else "give: every node will refuse the pod"
    note = f"ShareConfig's minimumIsolation wants {listed} or stronger, {who} {where}."
    return Remark(reason=MinimumIsolationError.reason, note=note, everywhere=not strong)


def _strong(found: tuple[str, object] | None, level: IsolationLevel) -> bool:
    value = found[1] if found is not None else None
    known = next((one for one in ISOLATION_ORDER if one.value == value), None)
    return known is not None and at_least(known, level)


def _labels(claim: JSON) -> Iterator[tuple[str, str]]:
    """Requests and sub-requests of a claim with their classes."""
    count = 0
    for request in claim["spec"]["devices"].get("requests") or []:
        name = request.get("name") or ""
        options = [(name, request["exactly"])] if request.get("exactly") else []
        options += [(f"{name}/{one.get('name')}", one) for one in request.get("firstAvailable") or []]
        for label, option in options:
            count += 1
            if count > _MAX_LABELS:
                return
            yield label, str(option.get("deviceClassName") or "")
