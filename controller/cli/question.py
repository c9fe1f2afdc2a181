"""Claims as a question to the allocator, and its answer with the cards and who holds them.

Flow: `kind_of` says whether a claim is ours to explain; `asked` gives it its amounts back where the API
server drops them; `answer_of` asks why not, and lists cards with what is free and who holds the rest.

Limits: cards are listed for few nodes unless all are wanted: first those where little would help.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from enum import StrEnum

from controller.cli.facts import CONTROLLER, HANDOVER, Facts, cards_of
from controller.cli.rules import Question, Rules
from controller.cli.shares import by_card, used_of
from controller.cli.world import LeftOut, World
from driver.allocation.why_not import WhyNot, why_not, why_not_on
from driver.api.asked import check_stamp, restored
from driver.api.share_allocation import refuse_in_spec
from driver.cards import CORES_PER_CARD, node_of_pool
from driver.kube.client import JSON
from driver.quantities import MIB, format_bytes

CARDS = 16
"""So many cards are listed; those of at least one node."""
_FIRST_KEEPING = (1, 36)


class Kind(StrEnum):
    """Whose devices a claim asks for."""

    OURS = "ours"
    OTHERS = "others"
    MIXED = "mixed"
    NOTHING = "nothing"


def devices_of(claim: JSON) -> JSON:
    """`spec.devices` of a claim."""
    return dict((claim.get("spec") or {}).get("devices") or {})


def class_names(devices: JSON) -> list[str]:
    """Names of the classes that requests and sub-requests name, without repeats."""
    names: list[str] = []
    for request in devices.get("requests") or []:
        options = [request.get("exactly") or {}, *(request.get("firstAvailable") or [])]
        names += [str(one["deviceClassName"]) for one in options if one.get("deviceClassName")]
    return list(dict.fromkeys(names))


class Classes:
    """DeviceClasses by name, and which are ours."""

    def __init__(self, documents: Iterable[JSON], rules: Rules) -> None:
        self._known = {str(one["metadata"]["name"]): one for one in documents}
        self._rules = rules
        self._ours: dict[str, bool] = {}

    def is_ours(self, name: str) -> bool:
        """Whether a class is ours; by its name alone if it is not known."""
        if name not in self._ours:
            document = self._known.get(name) or {"metadata": {"name": name}}
            self._ours[name] = self._rules.is_ours(document)
        return self._ours[name]

    def missing(self, claim: JSON) -> list[str]:
        """Classes that a claim names and that do not exist."""
        return [name for name in class_names(devices_of(claim)) if name not in self._known]

    def kind_of(self, claim: JSON) -> Kind:
        """Whose devices a claim asks for."""
        kinds = {self.is_ours(name) for name in class_names(devices_of(claim))}
        if not kinds:
            return Kind.NOTHING
        return Kind.MIXED if len(kinds) > 1 else Kind.OURS if kinds.pop() else Kind.OTHERS


def keeps_amounts(release: str) -> bool:
    """Whether an API server of this release, as it comes, keeps amounts that claims ask for."""
    found = re.fullmatch(r"(\d+)\.(\d+)", release)
    return found is None or (int(found[1]), int(found[2])) >= _FIRST_KEEPING


def asked(claim: JSON, classes: Classes, *, facts: Facts, stored: bool) -> JSON:
    """A claim with the amounts that it asks for.

    Where kube-scheduler allocates it is the claim as it stands. Our allocator counts what the admission
    webhook carried over into a ShareConfig as well, and takes nothing without a stamp where the API server
    drops amounts, nor what has lost them since it was stamped. Whether the server drops them is told by its
    release: a gate that was switched off by hand is not seen.

    Args:
        claim: The claim.
        classes: Which classes are ours.
        facts: The cluster.
        stored: Whether it comes from the API server, which may have dropped amounts, or from its author.

    Raises:
        ClaimNotStampedError: It may have lost its amounts.
        ConfigError: Its configuration does not decode, or claims to be an allocator's.
    """
    devices = devices_of(claim)
    name = str(claim["metadata"].get("name"))
    refuse_in_spec(devices.get("config") or [], field=f"{name}: spec.devices.config")
    if facts.allocating not in (CONTROLLER, HANDOVER):
        return claim
    if stored:
        annotations, kept = claim["metadata"].get("annotations") or {}, keeps_amounts(facts.release)
        check_stamp(devices, annotations, is_ours=classes.is_ours, kept=kept)
    return {**claim, "spec": {"devices": restored(devices, is_ours=classes.is_ours)}}


def answer_of(
    world: World,
    claims: Sequence[JSON],
    nodes: Sequence[str],
    *,
    everything: bool,
    left_out: Sequence[LeftOut],
) -> JSON:
    """Why claims get nothing, or where they would fit.

    Args:
        world: The cards.
        claims: The claims, with their amounts.
        nodes: Nodes that may be used.
        everything: List every card.
        left_out: Nodes that may not be used, with reasons.
    """
    if nodes:
        found = why_not(world.snapshot, claims=claims, nodes=nodes, release=world.release)
    else:
        found = WhyNot(reason="NoNode", message=_no_node(left_out), retriable=True)
    said = None
    if nodes and not found.field:
        question = Question(snapshot=world.snapshot, claims=claims, classes=world.facts.classes)
        said = world.rules.remark(question)
    # Where something is wrong with the claim itself the cards have no part in it.
    about_cards = not found.fits and not found.field
    listed = _listed(world, found, nodes, everything=everything) if about_cards else []
    return {
        **found.to_json(),
        "headline": found.headline(),
        "shareConfig": None
        if said is None
        else {"reason": said.reason, "message": said.note, "everywhere": said.everywhere},
        "leftOut": [one.to_json() for one in left_out],
        "cards": cards_of_nodes(world, claims, listed),
        "cardsOfNodes": len(listed),
    }


def cards_of_nodes(world: World, claims: Sequence[JSON], nodes: Sequence[str]) -> list[JSON]:
    """The cards of nodes: what rules each out, what is free, and who holds the rest."""
    held = by_card(world.facts.shares())
    rows: list[JSON] = []
    for node in nodes:
        inventory = world.facts.inventories.get(node) or {}
        known = {str(one.get("name")): one for one in cards_of(inventory)}
        for answer in why_not_on(world.snapshot, node=node, claims=claims, release=world.release):
            card = known.get(answer.device) or {}
            memory = int(card.get("memoryMiB") or 0) * MIB
            shares = held.get((node_of_pool(answer.pool) or node, answer.device), [])
            used, cores = used_of(shares, memory=memory)
            rows.append(
                {
                    "node": node,
                    "card": answer.device,
                    "model": str(card.get("model") or ""),
                    "memory": format_bytes(memory),
                    "memoryFree": format_bytes(max(memory - used, 0)),
                    "coresFreePercent": max(CORES_PER_CARD - cores, 0),
                    "reason": answer.reason,
                    "text": answer.text,
                    "request": answer.request,
                    "holders": [
                        one.to_json() for one in sorted(shares, key=lambda one: -(one.memory or 1 << 62))
                    ],
                }
            )
    return rows


def _listed(world: World, found: WhyNot, nodes: Sequence[str], *, everything: bool) -> list[str]:
    if everything:
        return list(nodes)
    near = [one.node for one in found.changes] + [one.node for one in found.grounds]
    ordered = dict.fromkeys([*(name for name in near if name in set(nodes)), *nodes])
    listed: list[str] = []
    cards = 0
    for name in ordered:
        cards += sum(len(one.devices) for one in world.snapshot.local(name))
        if listed and cards > CARDS:
            break
        listed.append(name)
    return sorted(listed)


def _no_node(left_out: Sequence[LeftOut]) -> str:
    if not left_out:
        return "no node has cards of ours: no AcceleratorNode is there"
    listed = "; ".join(f"{_nodes(len(one.nodes))}: {one.message.rstrip('.')}" for one in left_out[:4])
    return f"no node with cards can be used ({listed})"


def _nodes(number: int) -> str:
    return f"{number:,} node" if number == 1 else f"{number:,} nodes"
