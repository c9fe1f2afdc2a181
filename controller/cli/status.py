"""The cluster's state as one document: who allocates, nodes and agents, what is free.

Flow: facts -> `status_of` -> a JSON document, which is what `-o json` prints.

Limits: who allocates is told by the slices that there are; what a handover waits for is read off conditions
(`HandedOver` and `Published`), agents and claims.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from controller.cli.facts import (
    CONTROLLER,
    HANDOVER,
    NATIVE,
    NOTHING,
    Facts,
    cards_of,
    handed_over,
    is_fenced,
    published,
    slice_node,
)
from controller.cli.shares import Share, by_card, used_of
from driver.cards import CORES_PER_CARD
from driver.kube.client import JSON
from driver.quantities import MIB, format_bytes

_SHOWN = 5
_FIRST_NATIVE = (1, 36)


def status_of(facts: Facts, *, now: datetime) -> JSON:
    """Says how things are.

    Args:
        facts: What was read.
        now: The time, to tell how long a handover has been resting.
    """
    shares = facts.shares()
    held = by_card(shares)
    nodes = [_node(name, facts, held) for name in sorted(facts.inventories)]
    offered = [one for one in nodes if one["offered"]]
    return {
        "mode": _mode(facts, shares, now=now),
        "kubernetes": {"version": facts.version, "note": _kubernetes(facts)},
        "controllers": None
        if facts.parts is None
        else [
            {"name": one.name, "namespace": one.namespace, "ready": one.ready} for one in facts.controllers
        ],
        "agents": _agents(facts),
        "totals": {
            "nodes": len(nodes),
            "cards": sum(one["cards"] for one in nodes),
            "offered": sum(one["offered"] for one in nodes),
            "faulty": sum(len(one["faults"]) for one in nodes),
            "claims": len({one.claim for one in shares}),
            "memory": _sum(offered, "memory"),
            "cores": _sum(offered, "cores"),
        },
        "rollouts": [_rollout(one) for one in sorted(facts.policies, key=_name)],
        "notices": _notices(nodes),
        "nodes": nodes,
        "missingRights": list(facts.missing),
    }


def _node(name: str, facts: Facts, held: Mapping[tuple[str, str], Sequence[Share]]) -> JSON:
    inventory = facts.inventories[name]
    cards = cards_of(inventory)
    # What has no slices can be given to nobody, whatever the agent reports.
    there = name in facts.nodes_with_slices
    offered = [one for one in cards if there and not one.get("unpublished")]
    memory = cores = 0
    for card in offered:
        used = used_of(held.get((name, str(card.get("name"))), ()), memory=_bytes(card), cores=_percent(card))
        memory, cores = memory + used[0], cores + used[1]
    # What may be made of a card is counted with the card.
    cards, offered = ([one for one in some if not _is_promise(one)] for some in (cards, offered))
    status, condition = inventory.get("status") or {}, published(inventory)
    agent = facts.agent(name)
    total = sum(map(_bytes, offered))
    return {
        "name": name,
        "agent": {
            "ready": None if facts.parts is None else agent is not None and agent.ready,
            "pod": agent.name if agent is not None else "",
            "version": str((status.get("agent") or {}).get("version") or ""),
        },
        "published": {
            "status": str(condition.get("status") or "Unknown"),
            "reason": str(condition.get("reason") or "NotSaid"),
            "message": str(
                condition.get("message") or "The controller has said nothing about this node yet."
            ),
        },
        "handedOver": {
            name: str(said.get(name) or otherwise)
            for said in (handed_over(inventory),)
            for name, otherwise in (("status", "Unknown"), ("reason", "NotSaid"), ("message", ""))
        },
        "cards": len(cards),
        "offered": len(offered),
        "memory": _amount(memory, total),
        "cores": {"usedPercent": cores, "totalPercent": sum(map(_percent, offered))},
        "faults": [fault for card in cards if (fault := _fault(card))],
        "problems": [str(one) for one in status.get("problems") or []],
        "simulated": bool(status.get("simulated")),
    }


def _rollout(policy: JSON) -> JSON:
    """How far a policy that goes from node to node is."""
    status = policy.get("status") or {}
    said: Mapping[str, Any] = next(
        (one for one in status.get("conditions") or [] if one.get("type") == "RolledOut"), {}
    )
    # What is said of an older generation is not said of this one.
    current = said.get("observedGeneration") == policy["metadata"].get("generation")
    return {
        "policy": _name(policy),
        "maxUnavailable": policy["spec"]["maxUnavailable"],
        "done": bool(current and said.get("status") == "True"),
        "reason": str(said.get("reason") or "NotSaid") if current else "NotSaid",
        "message": str(said.get("message") or "")
        if current
        else "The controller has said nothing about this change yet.",
        "nodes": int(status.get("nodes") or 0),
        "waiting": int(status.get("waiting") or 0),
        "changing": [str(one.get("node")) for one in status.get("turns") or []],
    }


def _name(document: JSON) -> str:
    return str(document["metadata"]["name"])


def _fault(card: Mapping[str, Any]) -> JSON | None:
    said = card.get("fault")
    if not isinstance(said, Mapping):
        return None
    told = {name: str(said.get(name) or "") for name in ("reason", "message", "since", "effect")}
    return {"card": str(card.get("name") or ""), **told}


def _mode(facts: Facts, shares: Sequence[Share], *, now: datetime) -> JSON:
    settings = facts.settings
    wanted = settings.get("DRAGOMAN_MODE", "")
    fenced = sorted({slice_node(one) for one in facts.slices if is_fenced(one)})
    still_open = sorted({slice_node(one) for one in facts.slices if not is_fenced(one)})
    seen = facts.mode
    waits: list[str] = []
    changing = seen == HANDOVER or (wanted in (NATIVE, CONTROLLER) and seen not in (wanted, NOTHING))
    told = Counter(one.settings.get("DRAGOMAN_MODE", "") for one in facts.controllers)
    if len(told) > 1:
        listed = ", ".join(
            f"{number} {mode or 'of an older version'}" for mode, number in sorted(told.items())
        )
        waits.append(f"Controllers of different modes run, as a change is being rolled out: {listed}.")
    if changing and wanted != NATIVE:
        waits += _waits_for(still_open, facts, "kube-scheduler may still allocate there")
    if changing and wanted != CONTROLLER:
        waits += _waits_for(fenced, facts, "only the controller could allocate there")
    if wanted != NATIVE and seen in (CONTROLLER, HANDOVER):
        waits += _resting(facts, now=now)
    if wanted == NATIVE or (not wanted and seen == NATIVE):
        waits += _without_number(facts, shares)
    return {
        "seen": seen,
        "wanted": wanted,
        "words": _words(seen, wanted),
        "waitsFor": waits,
        "nodesOpen": len(still_open),
        "nodesFenced": len(fenced),
    }


def _words(seen: str, wanted: str) -> str:
    if seen == NOTHING:
        to = {NATIVE: " kube-scheduler is to allocate.", CONTROLLER: " The controller is to allocate."}
        return f"Nothing is published.{to.get(wanted, '')}"
    told = {
        NATIVE: "kube-scheduler allocates.",
        CONTROLLER: "The controller allocates; kube-scheduler cannot use the slices.",
        HANDOVER: "A handover is under way: on each node one of the two allocates.",
    }[seen]
    if seen in (NATIVE, CONTROLLER) and wanted and wanted != seen:
        return f"{told} A handover to mode {wanted} has begun."
    return told


def _waits_for(nodes: Sequence[str], facts: Facts, why: str) -> list[str]:
    if not nodes:
        return []
    reasons = Counter(
        str(published(facts.inventories[node]).get("reason") or "NotSaid")
        if node in facts.inventories
        else "Gone"
        for node in nodes
    )
    reasons.pop("Published", None)
    listed = ", ".join(f"{number} {reason}" for reason, number in reasons.most_common(3))
    because = f" ({listed})" if listed else ""
    return [f"The slices of {_some(nodes)} are as before{because}: {why}."]


def _resting(facts: Facts, *, now: datetime) -> list[str]:
    told = {
        node: str(said.get("message") or "")
        for node, inventory in facts.inventories.items()
        if (said := handed_over(inventory)).get("reason") == "KubeSchedulerMayBind"
    }
    young = {
        node: left_s
        for node in facts.nodes_with_slices
        if node not in told and (left_s := facts.resting(node, now=now)) > 0
    }
    alike: dict[str, list[str]] = {}
    for node in sorted(told):
        alike.setdefault(told[node], []).append(node)
    waits = [f"{_some(nodes)}: {message}" for message, nodes in alike.items()]
    if young:
        waits.append(
            f"{_some(sorted(young))}: kube-scheduler lost sight of the cards a moment ago and may still bind "
            f"pods; they are given out in {max(young.values()):.0f} s at the latest."
        )
    return waits


def _without_number(facts: Facts, shares: Sequence[Share]) -> list[str]:
    shareable = {
        (name, str(card.get("name")))
        for name, inventory in facts.inventories.items()
        for card in cards_of(inventory)
        if card.get("shareable") is not False
    }
    found = sorted(
        {
            one.claim
            for one in shares
            if not one.numbered and not one.admin and (one.node, one.device) in shareable
        }
    )
    if not found:
        return []
    text = (
        f"Cards that were given out in mode controller without a shareID are not published until their "
        f"claims are gone, as kube-scheduler would count wrongly: {_some(found)}."
    )
    return [text]


def _kubernetes(facts: Facts) -> str:
    major, _, minor = facts.release.partition(".")
    if minor and (int(major), int(minor)) < _FIRST_NATIVE:
        return "kube-scheduler cannot give out shares before 1.36; mode controller can."
    return ""


def _agents(facts: Facts) -> JSON | None:
    if facts.parts is None:
        return None
    found = [one for one in facts.parts if one.component == "agent"]
    return {"pods": len(found), "ready": sum(one.ready for one in found)}


def _notices(nodes: Sequence[JSON]) -> list[JSON]:
    """What conditions and agents say beside "all is well", equal words together."""
    found: dict[tuple[str, str], list[str]] = {}
    for one in nodes:
        said = one["published"]
        usual = said["status"] == "True" and said["reason"] == "Published"
        plain = f"{one['offered']} of {one['cards']} cards are published in "
        more = said["message"].partition(plain)[2].partition(". ")[2]
        if not usual:
            found.setdefault((said["reason"], said["message"]), []).append(one["name"])
        elif more:
            found.setdefault((said["reason"], more), []).append(one["name"])
        handed = one["handedOver"]
        if handed["reason"] == "SharesNotKnown":
            found.setdefault((handed["reason"], handed["message"]), []).append(one["name"])
        if one["agent"]["ready"] is False and said["reason"] != "AgentNotReady":
            key = ("AgentNotReady", "The agent on this node is not Ready.")
            found.setdefault(key, []).append(one["name"])
        for problem in one["problems"]:
            found.setdefault(("Problem", problem), []).append(one["name"])
    ordered = sorted(found.items(), key=lambda item: (-len(item[1]), item[0]))
    return [{"reason": reason, "message": message, "nodes": names} for (reason, message), names in ordered]


def _bytes(card: Mapping[str, Any]) -> int:
    amount = card.get("memoryMiB")
    return amount * MIB if isinstance(amount, int) else 0


def _percent(card: Mapping[str, Any]) -> int:
    amount = card.get("cores")
    return amount if isinstance(amount, int) else CORES_PER_CARD


def _is_promise(card: Mapping[str, Any]) -> bool:
    partition = card.get("partition")
    return isinstance(partition, Mapping) and (not partition.get("exists") or bool(partition.get("ours")))


def _amount(used: int, total: int) -> JSON:
    return {"used": format_bytes(used), "total": format_bytes(total), "usedBytes": used, "totalBytes": total}


def _sum(nodes: Sequence[JSON], name: str) -> JSON:
    if name == "memory":
        return _amount(
            sum(one["memory"]["usedBytes"] for one in nodes),
            sum(one["memory"]["totalBytes"] for one in nodes),
        )
    keys = ("usedPercent", "totalPercent")
    return {key: sum(one["cores"][key] for one in nodes) for key in keys}


def _some(names: Sequence[str]) -> str:
    shown = ", ".join(names[:_SHOWN])
    return f"{shown} and {len(names) - _SHOWN:,} more" if len(names) > _SHOWN else shown
