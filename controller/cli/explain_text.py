"""An explanation for a person.

Limits: at most `GROUNDS` reasons, `CHANGES` remedies and `HOLDERS` holders of a card, unless all are wanted.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from controller.cli.facts import CONTROLLER
from controller.cli.screen import Screen, count
from driver.kube.client import JSON

GROUNDS = 6
CHANGES = 4
HOLDERS = 4
EVENTS = 3
_NAMES = 3
_CONTROLLER = "dragoman.dev/controller"
_OTHERS = {
    "resource_claim": "What kube-controller-manager said last",
    "karpenter": "What Karpenter said last",
    "cluster-autoscaler": "What cluster-autoscaler said last",
}
_OPEN = ("Waiting", "Unknown", "Gated")
_SETTLED = ("NoClaims", "Succeeded", "Failed", "Deleting", "Allocated", "OtherDriver")


def show(document: JSON, screen: Screen, *, everything: bool, now: datetime | None = None) -> None:
    """Writes a document of `explanation`."""
    screen.line(document["words"])
    _claims(document["claims"], screen)
    answer = document["answer"]
    if answer is not None and not answer["fits"]:
        show_answer(answer, screen, everything=everything)
    _said(document, screen, everything=everything, now=now or datetime.now(UTC))
    if document["neededRights"] and document["state"] in _OPEN:
        screen.heading("For an answer of its own this command needs the right to")
        for right in document["neededRights"]:
            screen.line(right, indent=2)


def show_answer(answer: JSON, screen: Screen, *, everything: bool, indent: int = 0) -> None:
    """Writes an answer of `answer_of`: grounds, what would help, cards with their holders."""
    grounds = answer["grounds"]
    left_out = answer["leftOut"]
    if grounds or left_out:
        screen.heading("Why not", indent=indent)
        shown = grounds if everything else grounds[:GROUNDS]
        for one in shown:
            screen.line(_ground(one), indent=indent + 2)
        if len(shown) < len(grounds):
            rest = sum(one["cards"] for one in grounds[len(shown) :])
            screen.line(
                f"{count(len(grounds) - len(shown), 'further reason')} ({rest:,} cards; --all)",
                indent=indent + 2,
            )
        for one in left_out if everything else left_out[:GROUNDS]:
            names = one["nodes"] if everything else one["nodes"][:_NAMES]
            more = len(one["nodes"]) - len(names)
            where = ", ".join(names) + (f" and {more:,} more" if more else "")
            screen.line(f"{count(len(one['nodes']), 'node')} ({where}): {one['message']}", indent=indent + 2)
    if answer["shareConfig"] is not None:
        screen.line(answer["shareConfig"]["message"], indent=indent + 2)
    if answer["changes"]:
        screen.heading("What would help", indent=indent)
        for one in answer["changes"] if everything else answer["changes"][:CHANGES]:
            where = ", ".join(filter(None, (one["node"], *one["devices"][:2])))
            verb = "then it fits on" if one["passing"] else "it would fit on"
            screen.line(f"{one['text']}: {verb} {where}", indent=indent + 2)
    _cards(answer, screen, everything=everything, indent=indent)


def _ground(one: JSON) -> str:
    where = count(one["nodes"], "node")
    if one["cards"]:
        where = f"{count(one['cards'], 'card')} on {where}"
    request = f"{one['request']}: " if one["request"] else ""
    example = one["example"]
    named = " on ".join(part for part in (example["device"], example["node"]) if part)
    words = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", one["reason"]).lower()
    return f"{where}: {words}: {request}{one['text']} (for example {named})"


def _cards(answer: JSON, screen: Screen, *, everything: bool, indent: int) -> None:
    cards = answer["cards"]
    if not cards:
        return
    hidden = answer["nodes"] - answer["cardsOfNodes"]
    more = f" of {count(answer['cardsOfNodes'], 'node')}; {hidden:,} more with --all" if hidden > 0 else ""
    screen.heading(f"Cards{more}", indent=indent)
    rows = [
        (
            one["node"],
            one["card"],
            f"{one['memoryFree']} of {one['memory']}",
            f"{one['coresFreePercent']} %",
            one["reason"] or "would do",
        )
        for one in cards
    ]
    columns = ("NODE", "CARD", "MEMORY FREE", "CORES FREE", "WHY NOT")
    holders = [_holders(one, everything=everything) for one in cards]
    sentences = [_card(one, who) for one, who in zip(cards, holders, strict=True)]
    if screen.table(columns, rows, indent=indent + 2, otherwise=sentences) and any(holders):
        screen.heading("Held by", indent=indent)
        for one, who in zip(cards, holders, strict=True):
            if who:
                screen.line(f"{one['card']} on {one['node']}: {who}", indent=indent + 2)


def _card(one: JSON, holders: str) -> str:
    free = f"{one['memoryFree']} of {one['memory']} and {one['coresFreePercent']} % free"
    held = f"; held by {holders}" if holders else ""
    return f"{one['card']} on {one['node']}: {one['reason'] or 'would do'}; {free}{held}"


def _holders(card: JSON, *, everything: bool) -> str:
    told = [_holder(one) for one in card["holders"]]
    shown = told if everything else told[:HOLDERS]
    if len(shown) < len(told):
        shown = [*shown, f"{len(told) - len(shown):,} more"]
    return "; ".join(shown)


def _holder(one: JSON) -> str:
    what = "the whole card" if one["wholeCard"] else f"{one['memory']}"
    if one["coresPercent"]:
        what += f", {one['coresPercent']} %"
    pods = f", pod {', '.join(one['pods'][:2])}" if one["pods"] else ""
    return f"{one['claim']} ({what}{pods})"


def _claims(claims: Sequence[JSON], screen: Screen) -> None:
    for one in claims:
        label = " ".join(filter(None, ("Claim", one["name"] or one["entry"] or "(extended resources)")))
        template = f", from template {one['template']}" if one["template"] else ""
        screen.heading(f"{label}{template}")
        screen.line(one["words"], indent=2)
        if one["remedy"]:
            screen.line(one["remedy"], indent=2)
        if one["shares"]:
            rows = [
                (
                    each["request"],
                    each["node"],
                    " ".join(filter(None, (each["card"], f"({each['model']})" if each["model"] else ""))),
                    each["words"],
                    each["limits"] or "The node has not said it yet.",
                )
                for each in one["shares"]
            ]
            sentences = [f"{row[0]}: {row[2]} on {row[1]}: {row[3]}. {row[4]}" for row in rows]
            columns = ("REQUEST", "NODE", "CARD", "SHARE", "LIMITS IN FORCE")
            screen.table(columns, rows, indent=2, otherwise=sentences)


def _said(document: JSON, screen: Screen, *, everything: bool, now: datetime) -> None:
    """What others said; the controller only where nothing is computed here."""
    answer, events = document["answer"], document["events"]
    node = [one for one in events if one["by"].startswith("dragoman.dev/") and one["by"] != _CONTROLLER]
    # The agent says it in the same words, and of what is final.
    node = node or [one for one in events if one["by"] == "kubelet"]
    if document["state"] not in ("Running", *_SETTLED):
        _events("What the node said last", node, screen, everything=everything, now=now)
    fits = answer is not None and bool(answer["fits"])
    # Where the controller allocates it knows what objects do not tell, such as a write that was refused.
    if not document["node"] and (answer is None or (fits and document["mode"] == CONTROLLER)):
        heading = "The controller's last answer"
        told = [one for one in events if one["by"] == _CONTROLLER]
        _events(heading, told, screen, everything=everything, now=now)
        if not told and answer is None and document["state"] == "Waiting":
            screen.heading(heading)
            hidden = [one for one in document["missingRights"] if one.startswith("list events ")]
            why = "There is none yet: it answers after a few seconds, in Events on the pod."
            screen.line(f"It cannot be seen without the right to {hidden[0]}." if hidden else why, indent=2)
    if not document["node"] and document["state"] not in _SETTLED:
        for who, heading in _OTHERS.items():
            found = [one for one in events if one["by"] == who]
            _events(heading, found[:1], screen, everything=everything, now=now)


def _events(heading: str, events: Sequence[JSON], screen: Screen, *, everything: bool, now: datetime) -> None:
    if events:
        screen.heading(heading)
    for one in events if everything else events[:EVENTS]:
        times = f", {one['count']:,} times" if one["count"] > 1 else ""
        screen.line(
            f"{_age(one['last'], now)}{times}, on {one['about']}: {one['reason']}: {one['note']}", indent=2
        )


def _age(moment: str, now: datetime) -> str:
    try:
        then: Any = datetime.fromisoformat(moment)
        seconds = max(int((now - then).total_seconds()), 0)
    except (ValueError, TypeError):
        return "at an unknown time"
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds // size} {unit} ago"
    return f"{seconds} s ago"
