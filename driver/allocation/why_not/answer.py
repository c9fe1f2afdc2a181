"""The answer to "why not", and how it reads.

Purpose: 5,000 nodes in ten lines for a person, and the same as JSON for a program.

Flow: `why_not` makes a `WhyNot`; `to_text` and `to_json` are all that is done with it.

Limits: it names nodes and cards, and never claims, pods or namespaces: whoever asks may not be allowed to see
those that hold the cards.
"""

from __future__ import annotations

import textwrap
from dataclasses import dataclass
from typing import Any

from driver.quantities import Quantity

_MAX_VALUES = 3


@dataclass(frozen=True, slots=True)
class Span:
    """A range of amounts, or one amount if both ends are equal."""

    least: Quantity
    most: Quantity

    def __str__(self) -> str:
        if self.least.nano == self.most.nano:
            return self.least.canonical()
        return f"{self.least.canonical()}-{self.most.canonical()}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Values:
    """What cards have where a selector wants something else.

    Attributes:
        name: Attribute or capacity.
        values: The most frequent values, as a person writes them.
        others: How many further values there are.
        span: The range, where all are amounts or numbers.
    """

    name: str
    values: tuple[str, ...]
    others: int = 0
    span: Span | None = None

    def __str__(self) -> str:
        if self.span is not None and len(self.values) + self.others > 1:
            return f"{self.name} is {self.span}"
        if self.values == ("absent",) and not self.others:
            return f"{self.name} is absent"
        shown = self.values[:_MAX_VALUES]
        hidden = self.others + len(self.values) - len(shown)
        more = f" or one of {hidden} more" if hidden else ""
        return f"{self.name} is {' or '.join(shown)}{more}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Ground:
    """A reason that rules cards out, or whole nodes.

    Attributes:
        reason: Stable CamelCase word.
        text: What all these cards have in common.
        request: The request that they cannot serve, "" if it is not about one.
        cards: How many cards.
        nodes: On how many nodes.
        node: The first node, as an example.
        device: The first card there, "" if it is about the node.
        message: The allocator's own sentence about that card.
        values: What the cards have where a selector wants something else.
        free: What is free of the capacity that is short.
        size: How large that capacity is, or how much of it one request may have.
        passing: Whether it can go away while the claim stays as it is.
    """

    reason: str
    text: str
    request: str = ""
    cards: int = 0
    nodes: int = 0
    node: str = ""
    device: str = ""
    message: str = ""
    values: tuple[Values, ...] = ()
    free: Span | None = None
    size: Span | None = None
    passing: bool = False

    def sentence(self) -> str:
        """Say it without counts."""
        text = self.text
        if self.size is not None and self.free is not None:
            text += f", free {self.free} of {self.size}"
        elif self.size is not None:
            has = "a request may have" if self.reason == "CapacityRequestTooLarge" else "the card has"
            text += f", {has} {self.size}"
        if self.values:
            text += f" ({', '.join(map(str, self.values))})"
        return text

    def line(self) -> str:
        """Say it in one line, with counts and an example."""
        where = f"{_count(self.cards, 'card')} on {_count(self.nodes, 'node')}"
        if not self.cards:
            where = _count(self.nodes, "node")
        example = " ".join(part for part in (self.node, self.device) if part)
        return f"{where}: {self.reason}: {self.sentence()} (e.g. {example})"

    def to_json(self) -> dict[str, Any]:
        """Give it as JSON."""
        return {
            "reason": self.reason,
            "text": self.sentence(),
            "request": self.request,
            "cards": self.cards,
            "nodes": self.nodes,
            "example": {"node": self.node, "device": self.device, "message": self.message},
            "values": [
                {"name": one.name, "values": list(one.values), "others": one.others} for one in self.values
            ],
            "free": None if self.free is None else _span_json(self.free),
            "size": None if self.size is None else _span_json(self.size),
            "passing": self.passing,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """Something that would help, tried with the allocator.

    Attributes:
        kind: `Release`, `Amount`, `Count`, `Tolerate`, `Constraint`, `Selector`, or `Several` of these.
        text: What to do, or what to wait for.
        request: The request that would change, "" if none.
        node: Where it would fit then.
        devices: The cards that it would get there.
        passing: Whether the claim may stay as it is.
    """

    kind: str
    text: str
    request: str = ""
    node: str = ""
    devices: tuple[str, ...] = ()
    passing: bool = False

    def line(self) -> str:
        """Say it in one line."""
        shown = ", ".join(self.devices[:4]) + (", …" if len(self.devices) > 4 else "")
        verb = "fits" if self.passing else "would fit"
        return f"{self.text}: {verb} on {self.node}{f' ({shown})' if shown else ''}"

    def to_json(self) -> dict[str, Any]:
        """Give it as JSON."""
        return {
            "kind": self.kind,
            "text": self.text,
            "request": self.request,
            "node": self.node,
            "devices": list(self.devices),
            "passing": self.passing,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class WhyNot:
    """Why claims get nothing, on all nodes together.

    Attributes:
        reason: Stable CamelCase word; "" if they fit.
        message: What is wrong, as a sentence.
        field: Path in the claim where one applies.
        remedy: What to do, "" where nothing can be advised.
        retriable: Whether waiting can help.
        nodes: How many nodes were asked about.
        fits: How many of them could take the claims.
        example: One that could, "" if none.
        skipped: How many were not searched, as the claims are hard to allocate.
        grounds: What rules cards and nodes out, the most frequent first.
        changes: What would help, the smallest change first.
    """

    reason: str
    message: str
    field: str = ""
    remedy: str = ""
    retriable: bool = False
    nodes: int = 0
    fits: int = 0
    example: str = ""
    skipped: int = 0
    grounds: tuple[Ground, ...] = ()
    changes: tuple[Change, ...] = ()

    def to_text(self, width: int = 0, *, max_lines: int = 10) -> str:
        """Say it in a few lines.

        Args:
            width: Characters of a line; longer ones are cut. 0 leaves them as they are.
            max_lines: How many lines at most; at least 3.
        """
        room = max(max_lines, 3) - 1
        changes = [f"would help: {change.line()}" for change in self.changes]
        grounds = [ground.line() for ground in self.grounds]
        kept = changes[: max(1, room // 3)]
        places = room - len(kept)
        if len(grounds) > places:
            hidden = self.grounds[places - 1 :]
            cards = sum(one.cards for one in hidden)
            words = ", ".join(dict.fromkeys(one.reason for one in hidden[:8]))
            last = f"{_count(cards, 'card')}: {len(hidden)} further reasons ({words})"
            grounds = [*grounds[: places - 1], last]
        spare = room - len(grounds)
        lines = [self.headline(), *grounds, *changes[: max(len(kept), spare)]]
        return "\n".join(_fitting(line, width) for line in lines)

    def headline(self) -> str:
        """Say the first line: what is wrong, or that it fits."""
        where = f"{self.field}: " if self.field else ""
        stop = "" if self.message.endswith((".", "!", "?")) else "."
        advice = f" {self.remedy}" if self.remedy else ""
        return f"{where}{self.message}{stop}{advice}"

    def to_json(self) -> dict[str, Any]:
        """Give it as JSON."""
        return {
            "reason": self.reason,
            "message": self.message,
            "field": self.field,
            "remedy": self.remedy,
            "retriable": self.retriable,
            "nodes": self.nodes,
            "fits": self.fits,
            "example": self.example,
            "skipped": self.skipped,
            "grounds": [one.to_json() for one in self.grounds],
            "changes": [one.to_json() for one in self.changes],
        }


def _span_json(span: Span) -> dict[str, str]:
    return {"least": span.least.canonical(), "most": span.most.canonical()}


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def _fitting(line: str, width: int) -> str:
    # What users wrote is in it: a line has to stay one, and half a surrogate pair cannot be printed.
    flat = " ".join(line.encode("utf-8", "replace").decode().split())
    return flat if not width or len(flat) <= width else textwrap.shorten(flat, width, placeholder=" …")
