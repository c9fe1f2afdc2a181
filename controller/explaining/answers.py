"""What the allocator says about every node, put into one sentence.

Flow: `answer` asks `driver.allocation.allocate` node by node and counts; `Answer.note` is what a person
reads. Reasons are counted over all cards of all nodes, the most frequent first, each with one example.

Limits: pure, and made to run in a thread; at most as long as an Event's note may be. Claims that are hard to
allocate are not tried on every node: once `MAX_STEPS` are used up on some, the others are not asked.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from controller.events import cut
from driver.allocation import DeviceRefusal, Refusal, Snapshot, allocate
from driver.errors import AllocationError
from driver.kube.client import JSON

CARDS_AVAILABLE = "CardsAvailable"
NO_CARDS = "NoCards"
MAX_STEPS = 150_000
"""Steps of search for one answer: about two seconds. A node that is refused at a look takes none or a few."""
_MAX_REASONS = 6
_SELECTOR_FALSE = "SelectorFalse"


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


def answer(snapshot: Snapshot, *, nodes: Sequence[str], claims: Sequence[JSON]) -> Answer:
    """Asks about all nodes.

    Args:
        snapshot: Slices, classes, and what is held.
        nodes: Names of the nodes that publish cards.
        claims: The pod's claims of our classes that are not allocated, named `pod/claim-1` and so on.
    """
    if not nodes:
        return Answer(
            reason=NO_CARDS,
            note="No node publishes any card. The condition Published of each AcceleratorNode says why "
            "(kubectl get acceleratornodes -o yaml).",
        )
    refusals: list[Refusal] = []
    fitting: list[str] = []
    steps = 0
    for node in nodes:
        if steps >= MAX_STEPS:
            break
        decision = allocate(snapshot, node=node, claims=claims)
        steps += decision.steps
        if decision.refusal is None:
            fitting.append(node)
        else:
            refusals.append(decision.refusal)
    if fitting:
        return Answer(
            reason=CARDS_AVAILABLE,
            note=f"The cards of {_count(len(fitting), 'node')} of {len(nodes)} would do (for example "
            f"{fitting[0]}). If the pod goes on waiting, the reason is something else: see the scheduler's "
            "events.",
            fits=True,
        )
    return _refused(refusals, nodes=len(nodes), single=len(claims) == 1)


def _refused(refusals: Sequence[Refusal], *, nodes: int, single: bool) -> Answer:
    reasons = {refusal.reason for refusal in refusals}
    reason = reasons.pop() if len(reasons) == 1 else AllocationError.reason
    parts = [f"0 of {_count(len(refusals), 'node')} can take the pod's claims."]
    if len(refusals) < nodes:
        others = _count(nodes - len(refusals), "more node")
        parts.append(f"These claims are hard to allocate: {others} were not looked at.")
    remedies = dict.fromkeys(_sentence(refusal.remedy) for refusal in refusals if refusal.remedy)
    cards = Counter(_kind(one) for refusal in refusals for one in refusal.devices)
    for kind, count in cards.most_common(_MAX_REASONS):
        where, one = next(
            (refusal.node, one) for refusal in refusals for one in refusal.devices if _kind(one) == kind
        )
        name = one.reason
        example = f"for example {one.device} on {where}: {one.message}"
        parts.append(f"{_count(count, 'card')}: {_words(name)} ({example}).")
    plain = Counter(_plain(refusal, single=single) for refusal in refusals if not refusal.devices)
    for text, count in plain.most_common(_MAX_REASONS):
        parts.append(text if count == len(refusals) else f"{_count(count, 'node')}: {text}")
    return Answer(reason=reason, note=cut(" ".join((*parts, *list(remedies)[:2]))))


def _kind(one: DeviceRefusal) -> tuple[str, str]:
    """What makes two cards' refusals the same: which selector is false says which card was nearly right."""
    return one.reason, one.message if one.reason == _SELECTOR_FALSE else ""


def _plain(refusal: Refusal, *, single: bool) -> str:
    field = refusal.field.removeprefix("pod/claim-1: ") if single else refusal.field.removeprefix("pod/")
    where = f"{field}: " if field else ""
    # The same reason on many nodes is one reason.
    message = refusal.message.replace(f" on node {refusal.node}", "")
    return _sentence(f"{where}{message}")


def _words(reason: str) -> str:
    """`CapacityInUse` as `capacity in use`."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", " ", reason).lower()


def _sentence(text: str) -> str:
    return text if text.endswith((".", "!", "?")) else f"{text}."


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
