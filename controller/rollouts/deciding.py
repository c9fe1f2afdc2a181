"""Whose turn it is to take a change of a policy over.

Flow: the policy's turns of before, what is known of the nodes -> `decide` -> its new status and condition.

Rules: a turn ends when its node says that it is done and offers its cards again, or can never come back to
it: its Node is gone, its agent began anew, or it is at a later change. A change that waits for several
policies gets their turns in the order of the policies' names, so that two changes never wait for each other.
Nodes whose agent is not Ready count as unavailable, and get no turn.

Limits: pure. Nothing here trusts a cache about nodes that have a turn: what `Holder` says was read after the
turns were.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import NamedTuple

from driver.api.rollout import MAX_TURNS, AcceleratorPolicyStatus, PolicyTurn, allowed

LATE_S = 600.0
"""After so long a node that is not back is named, as Deployments do by default."""
AGAIN_S = 5.0
_SHOWN = 3
_FORMAT = "%Y-%m-%dT%H:%M:%SZ"

InProgress, Done, NodesNotBack, NodesUnavailable = "InProgress", "Done", "NodesNotBack", "NodesUnavailable"


class Change(NamedTuple):
    """A node's change as its AcceleratorNode has it: its number, whether it waits, and for which policies."""

    number: int
    waits: bool
    policies: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Node:
    """A node with cards, as far as a cache knows it.

    Attributes:
        name: Its name.
        change: Its change; None if it never had one.
        ready: Whether its agent is Ready.
        picked: Whether the policy picks it.
        offered: How many cards it offers.
    """

    name: str
    change: Change | None
    ready: bool
    picked: bool
    offered: int


class There(StrEnum):
    """What there is of a node."""

    BOTH = "both"
    NODE_ALONE = "node alone"
    NOTHING = "nothing"


@dataclass(frozen=True, kw_only=True)
class Holder:
    """A node that has a turn, as it was read after the turns were.

    Attributes:
        there: What there is of it.
        change: Its change; None if its AcceleratorNode has none.
        away: Why its cards are not on offer as it reported them; "" if they are.
    """

    there: There
    change: Change | None = None
    away: str = ""


@dataclass(frozen=True, kw_only=True)
class Decision:
    """What is to be written, and said.

    Attributes:
        status: The policy's status.
        holds: Status of its condition `RolledOut`.
        reason: Its reason.
        message: Its message.
        again_s: Seconds after which to look again; None if a change of nodes or policies brings it back.
    """

    status: AcceleratorPolicyStatus
    holds: bool
    reason: str
    message: str
    again_s: float | None


@dataclass(frozen=True, kw_only=True)
class Question:
    """What a decision depends on.

    Attributes:
        policy: Name of the policy.
        generation: Its generation.
        max_unavailable: What it says.
        before: Its status of before.
        nodes: All nodes with cards.
        holders: The nodes that have a turn, by name.
        has_turn: Whether a policy's status has a turn of a node with a number.
        behind: How many nodes have not taken the policy over, those that wait left out.
        now: The time.
    """

    policy: str
    generation: int
    max_unavailable: int | str
    before: AcceleratorPolicyStatus
    nodes: Sequence[Node]
    holders: Mapping[str, Holder]
    has_turn: Callable[[str, str, int], bool]
    behind: int
    now: datetime


def decide(asked: Question) -> Decision:
    """Says whose turn it is."""
    kept = [turn for one in asked.before.turns if (turn := _kept(one, asked)) is not None]
    having = {one.node for one in kept}
    picked = [one for one in asked.nodes if one.picked]
    waiting = [
        one
        for one in asked.nodes
        if one.change and one.change.waits and asked.policy in one.change.policies and one.name not in having
    ]
    # Nodes that leave the policy change as well.
    concerned = {one.name for one in (*picked, *waiting)} | having
    limit = min(allowed(asked.max_unavailable, nodes=len(concerned)), MAX_TURNS)
    absent = [one for one in picked if not one.ready and one.offered and one.name not in having]
    room = max(limit - len(kept) - len(absent), 0)
    may = [one for one in sorted(waiting, key=lambda one: one.name) if one.ready and _in_order(one, asked)]
    given = [
        PolicyTurn(node=one.name, number=one.change.number, since=_written(asked.now), offered=one.offered)
        for one in may[:room]
        if one.change is not None
    ]
    status = AcceleratorPolicyStatus(
        observed_generation=asked.generation,
        nodes=len(picked),
        waiting=len(waiting) - len(given),
        turns=(*kept, *given),
    )
    holds, reason, message = _told(asked, status, absent)
    busy = bool(status.turns or status.waiting or asked.behind)
    return Decision(
        status=status, holds=holds, reason=reason, message=message, again_s=AGAIN_S if busy else None
    )


def _kept(turn: PolicyTurn, asked: Question) -> PolicyTurn | None:
    """What becomes of a turn: it stays, is one for the node's next change, or ends (None)."""
    holder = asked.holders[turn.node]
    if holder.there is There.NODE_ALONE:
        # Its agent may be about to take the change over, and writes its AcceleratorNode again.
        return turn
    if holder.there is There.NOTHING or holder.change is None:
        return None
    change = holder.change
    if change.number <= turn.number and change.waits:
        return turn
    if change.waits and asked.policy in change.policies and _order(turn.node, change, asked):
        return _renewed(turn, number=change.number, since=_written(asked.now))
    # It offered nothing before: there is nothing to wait for.
    return turn if holder.away and turn.offered else None


def _renewed(turn: PolicyTurn, *, number: int, since: str) -> PolicyTurn:
    """The same turn for another change."""
    return turn.model_copy(update={"number": number, "since": since})


def _in_order(node: Node, asked: Question) -> bool:
    return node.change is not None and _order(node.name, node.change, asked)


def _order(node: str, change: Change, asked: Question) -> bool:
    """Whether all policies before this one, by name, have given the change its turn."""
    before = [name for name in change.policies if name < asked.policy]
    return all(asked.has_turn(name, node, change.number) for name in before)


def _told(asked: Question, status: AcceleratorPolicyStatus, absent: Sequence[Node]) -> tuple[bool, str, str]:
    late = [
        one for one in status.turns if (asked.now - _read(one.since, asked.now)).total_seconds() >= LATE_S
    ]
    if late:
        named = "; ".join(f"{one.node}: {_why(one, asked)}" for one in late[:_SHOWN])
        more = f"; and {len(late) - _SHOWN} more" if len(late) > _SHOWN else ""
        waits = f" {_nodes(status.waiting)} for it." if status.waiting else ""
        return False, NodesNotBack, f"Not back for more than {LATE_S / 60:g} minutes: {named}{more}.{waits}"
    if status.waiting and not status.turns and absent:
        named = ", ".join(one.name for one in absent[:_SHOWN])
        text = f"agents are not Ready on as many nodes as maxUnavailable allows ({named})"
        return False, NodesUnavailable, f"{_nodes(status.waiting)}: {text}."
    if status.turns or status.waiting:
        changing = ", ".join(one.node for one in status.turns[:_SHOWN]) or "none"
        more = f" and {len(status.turns) - _SHOWN} more" if len(status.turns) > _SHOWN else ""
        return False, InProgress, f"{_nodes(status.waiting)}; changing now: {changing}{more}."
    if asked.behind:
        text = f"{asked.behind} of {status.nodes} nodes have not told yet that they have it."
        return False, InProgress, text
    return True, Done, "All nodes have it."


def _why(turn: PolicyTurn, asked: Question) -> str:
    holder = asked.holders.get(turn.node)
    if holder is None:
        return "its agent has not begun"
    if holder.there is not There.BOTH:
        return "it has no AcceleratorNode"
    if holder.change is not None and holder.change.waits:
        return f"its agent has not begun{f' ({holder.away})' if holder.away else ''}"
    return holder.away or "its agent has not begun"


def _nodes(count: int) -> str:
    return "1 node waits" if count == 1 else f"{count} nodes wait"


def _written(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime(_FORMAT)


def _read(text: str, otherwise: datetime) -> datetime:
    try:
        return datetime.strptime(text, _FORMAT).replace(tzinfo=UTC)
    except ValueError:
        return otherwise
