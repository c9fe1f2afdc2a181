"""Counts, and where changes may help.

Purpose: what a survey of nodes remembers, in bounded space: a `Tally` of each reason, and for each request
that is to blame its `Hints`.

Flow: the survey adds; `why` makes grounds of tallies, `changes` tries what the hints say.

Limits: of each kind the first, or the best, `MAX_HINTS` are kept.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from driver.allocation.why_not.obstacles import Cut
from driver.quantities import Quantity

MAX_HINTS = 8
_Key = TypeVar("_Key", bound=Hashable)


@dataclass(slots=True)
class Tally:
    """How often something stands in the way, and where first.

    Attributes:
        cards: How many cards.
        nodes: How many nodes.
        node: The first node.
        device: The first card there.
        message: What was said of it.
        varies: Whether something else was said of others.
    """

    cards: int = 0
    nodes: int = 0
    node: str = ""
    device: str = ""
    message: str = ""
    varies: bool = False
    _last: str = ""

    def add(self, node: str, device: str, message: str, *, cards: int = 1) -> None:
        """Count a card, or with `cards=0` a node."""
        if not self.nodes:
            self.node, self.device, self.message = node, device, message
        elif message != self.message:
            self.varies = True
        if node != self._last:
            self.nodes += 1
            self._last = node
        self.cards += cards


@dataclass(frozen=True, slots=True, order=True)
class Reduction:
    """Smaller amounts with which a node would have cards enough for a request."""

    loss: float
    node: str
    amounts: tuple[tuple[str, Quantity], ...] = field(compare=False)


@dataclass(slots=True)
class Hints:
    """Where changes to one request may help.

    Attributes:
        reductions: The smallest losses of amounts.
        fewer: The largest number of cards that a node has, and the node.
        released: Nodes on which only what others hold stands in the way.
        taints: Nodes by taint.
        selectors: Nodes by place of the selector and the part of it that is false.
        few: Nodes that have not cards enough, whatever else stands in the way.
        fitting: The fewest and the most cards that serve the request on any of these nodes.
    """

    reductions: list[Reduction] = field(default_factory=list)
    fewer: tuple[int, str] = (0, "")
    released: list[str] = field(default_factory=list)
    taints: dict[tuple[str, str, str], list[str]] = field(default_factory=dict)
    selectors: dict[tuple[int, str], list[str]] = field(default_factory=dict)
    few: Tally = field(default_factory=Tally)
    fitting: tuple[int, int] | None = None

    def reduce(self, node: str, cuts: Sequence[Cut]) -> None:
        """Remember a node that would have cards enough if they were asked for less."""
        loss = cuts[-1].loss
        if len(self.reductions) >= MAX_HINTS and loss >= self.reductions[-1].loss:
            return
        amounts: dict[str, Quantity] = {}
        for one in cuts:
            for name, amount in one.amounts:
                amounts[name] = min(amounts.get(name, amount), amount)
        self.reductions.append(Reduction(loss, node, tuple(amounts.items())))
        self.reductions.sort()
        del self.reductions[MAX_HINTS:]


def remember(nodes: dict[_Key, list[str]], key: _Key, node: str) -> None:
    """Add a node to those of a key, as long as there are few."""
    known = nodes.get(key)
    if known is None:
        if len(nodes) >= MAX_HINTS:
            return
        known = nodes[key] = []
    if len(known) < MAX_HINTS and node not in known:
        known.append(node)
