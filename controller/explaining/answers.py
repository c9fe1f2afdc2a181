"""What the allocator says about every node, put into an Event's note.

Flow: `answer` asks `driver.allocation.why_not`, which looks at every card of every node, and `Answer.note` is
what a person reads: how many nodes, the reasons with an example each, and what would help.

Limits: pure, and made to run in a thread; at most as long as an Event's note may be, in which what would help
has its place before the rarer reasons. Claims that are hard to allocate are not tried on every node (see
`why_not`). It names nodes and cards, and nothing of other claims.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from controller.events import cut
from controller.explaining.shares import Remark, remark
from driver.allocation import Snapshot
from driver.allocation.why_not import Change, Ground, WhyNot, why_not
from driver.kube.client import JSON

CARDS_AVAILABLE = "CardsAvailable"
NO_CARDS = "NoCards"
_MAX_GROUNDS = 6
_MAX_CHANGES = 3
_MAX_SENTENCE = 330
"""Bytes of one reason, so that others have room beside it."""


@dataclass(frozen=True, kw_only=True)
class Answer:
    """Why a pod waits.

    Attributes:
        reason: CamelCase word, stable.
        note: Sentences.
        fits: Some node could take the pod's claims: the cards are not the reason.
    """

    reason: str
    note: str
    fits: bool = False


@dataclass(frozen=True, kw_only=True)
class Configs:
    """Configuration for our driver.

    Attributes:
        claims: That of each claim, in their order.
        classes: That of each class, by its name.
    """

    claims: Sequence[Sequence[JSON]] = ()
    classes: Mapping[str, Sequence[JSON]] = field(default_factory=dict)


def answer(
    snapshot: Snapshot, *, nodes: Sequence[str], claims: Sequence[JSON], configs: Configs | None = None
) -> Answer:
    """Asks about all nodes.

    Args:
        snapshot: Slices, classes, and what is held.
        nodes: Names of the nodes that publish cards.
        claims: The pod's claims of our classes that are not allocated, named `pod/claim-1` and so on.
        configs: Their configuration; none if not given.
    """
    if not nodes:
        return Answer(
            reason=NO_CARDS,
            note="No node publishes any card. The condition Published of each AcceleratorNode says why "
            "(kubectl get acceleratornodes -o yaml).",
        )
    found = why_not(snapshot, claims=claims, nodes=nodes)
    said = None
    if configs is not None and not found.field:
        said = remark(snapshot, claims=claims, configs=configs.claims, class_configs=configs.classes)
    if found.fits:
        return _available(found, said)
    return _refused(found, said, single=len(claims) == 1)


def note_of(found: WhyNot, *, single: bool) -> str:
    """What a person reads of an answer that is no.

    Args:
        found: The answer, about claims named `pod/claim-1` and so on.
        single: Whether it is about one claim, which then needs no name.
    """
    return _refused(found, None, single=single).note


def _available(found: WhyNot, said: Remark | None) -> Answer:
    if said is not None and said.everywhere:
        return Answer(reason=said.reason, note=cut(said.note))
    note = (
        f"The cards of {_count(found.fits, 'node')} of {found.nodes} would do (for example {found.example}). "
        "If the pod goes on waiting, the reason is something else: see the scheduler's events."
    )
    if said is not None:
        note += f" {said.note}"
    return Answer(reason=CARDS_AVAILABLE, note=cut(note), fits=True)


def _refused(found: WhyNot, said: Remark | None, *, single: bool) -> Answer:
    head = [f"0 of {_count(found.nodes - found.skipped, 'node')} can take the pod's claims."]
    if found.skipped:
        others = _count(found.skipped, "more node")
        head.append(f"These claims are hard to allocate: {others} were not looked at.")
    if (plain := _plain(found, single=single)) != "":
        head.append(plain)
    grounds = [_sentence(_ground(one, single=single)) for one in found.grounds[:_MAX_GROUNDS]]
    tail = []
    if found.changes:
        helpful = "; ".join(_change(one) for one in found.changes[:_MAX_CHANGES])
        tail.append(_sentence(f"Would help: {helpful}"))
    if said is not None:
        tail.append(said.note)
    # The most frequent reasons come first, so those that give way are the rarest.
    kept = len(grounds)
    while kept > 1 and not _whole(" ".join((*head, *grounds[:kept], *tail))):
        kept -= 1
    return Answer(reason=found.reason, note=cut(" ".join((*head, *grounds[:kept], *tail))))


def _whole(text: str) -> bool:
    """Whether a note holds all of a text."""
    return cut(text) == text.encode("utf-8", "replace").decode()


def _plain(found: WhyNot, *, single: bool) -> str:
    """What is wrong as a whole, without the count that comes before."""
    where = found.field.removeprefix("pod/claim-1: ") if single else found.field.removeprefix("pod/")
    message = re.sub(r"^0 of [\d,]+ nodes? can take the claims(?: \([^)]*\))?(?:: )?", "", found.message)
    text = f"{where}: {message}" if where and message else message
    return " ".join(_sentence(one) for one in (text, found.remedy) if one)


def _ground(one: Ground, *, single: bool) -> str:
    where = _count(one.nodes, "node")
    if one.cards:
        where = (
            f"{_count(one.cards, 'card')}" if one.nodes == 1 else f"{_count(one.cards, 'card')} on {where}"
        )
    request = "" if single or not one.request else f"{one.request.removeprefix('pod/')}: "
    example = " on ".join(part for part in (one.device, one.node) if part)
    shown = _short(f"{request}{one.sentence()}", _MAX_SENTENCE)
    return f"{where}: {_words(one.reason)}: {shown} (for example {example})"


def _change(one: Change) -> str:
    return _short(f"{one.text} ({one.node})", _MAX_SENTENCE // 2)


def _short(text: str, limit: int) -> str:
    raw = text.encode("utf-8", "replace")
    return text if len(raw) <= limit else f"{raw[: limit - 3].decode(errors='ignore')}…"


def _words(reason: str) -> str:
    """`CapacityInUse` as `capacity in use`."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", " ", reason).lower()


def _sentence(text: str) -> str:
    return text if text.endswith((".", "!", "?")) else f"{text}."


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
