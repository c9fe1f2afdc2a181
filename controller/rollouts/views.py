"""What rollouts keep of AcceleratorPolicies, and read of AcceleratorNodes.

Limits: an AcceleratorNode is read leniently: what an agent of another version adds is passed over.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from controller.rollouts.deciding import Change
from driver.api.policy import EXCLUDED, NamedPolicy
from driver.api.policy_reading import read_policy
from driver.api.rollout import SHAPING
from driver.errors import ConfigError
from driver.kube.client import JSON

Shape = Mapping[tuple[str, str], str]
"""Values of the fields that shape cards, by field and UUID of a card, as a status says them."""


@dataclass(frozen=True, slots=True)
class PolicyView:
    """An AcceleratorPolicy.

    Attributes:
        policy: What of its spec holds, as for agents; None if nothing does.
        turns: Numbers of its turns by node.
        told: Whether its status says anything.
    """

    policy: NamedPolicy | None
    turns: tuple[tuple[str, int], ...]
    told: bool


@dataclass(frozen=True, slots=True)
class Reported:
    """What the agent of a node reported.

    Attributes:
        change: Its change of policies; None if it never had one.
        cards: Whether it has cards.
        offered: How many of them are offered.
        excluded: Whether policies exclude all of them.
        shape: What holds.
    """

    change: Change | None
    cards: bool
    offered: int
    excluded: bool
    shape: Shape


def policy_view(document: JSON) -> PolicyView:
    """Projects an AcceleratorPolicy."""
    status = _mapping(document.get("status"))
    try:
        spec, _ = read_policy(document.get("spec") or {})
        policy = NamedPolicy(name=str(document["metadata"]["name"]), spec=spec)
    except ConfigError:
        policy = None
    turns = _mappings(status.get("turns"))
    return PolicyView(
        policy=policy,
        turns=tuple((str(one.get("node")), int(one.get("number") or 0)) for one in turns),
        told=bool(status),
    )


def reported(status: bytes) -> Reported:
    """Reads an AcceleratorNode's status, as `controller.publishing.views.Inventory` keeps it."""
    document = _mapping(json.loads(status or b"{}"))
    cards, settings = _mappings(document.get("cards")), _mappings(document.get("policy"))
    return Reported(
        change=change_of(document.get("policyChange")),
        cards=bool(cards),
        offered=sum(not one.get("unpublished") for one in cards),
        excluded=all(one.get("unpublished") == EXCLUDED for one in cards),
        shape={
            (str(one.get("field")), str(one.get("card") or "")): str(one.get("value"))
            for one in settings
            if one.get("field") in SHAPING
        },
    )


def change_of(said: Any) -> Change | None:
    """A change as a status has it."""
    if not isinstance(said, Mapping) or not isinstance(said.get("number"), int):
        return None
    policies = said.get("policies")
    names = tuple(map(str, policies)) if isinstance(policies, list) else ()
    return Change(said["number"], said.get("state") == "Waiting", names)


def _mappings(value: Any) -> list[Mapping[str, Any]]:
    return [one for one in value if isinstance(one, Mapping)] if isinstance(value, list) else []


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
