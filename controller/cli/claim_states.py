"""What state each claim is in.

Flow: `claim_state` looks at one claim of a pod: allocated, waiting for cards of ours (then with the question
for the allocator), or in the way of itself, with the remedy.

Limits: pure. Whose devices a claim asks for is told by its classes; where these may not be read, by their
names.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from controller.cli.facts import CONTROLLER, HANDOVER, Facts, cards_of
from controller.cli.objects import Entry, Subject
from controller.cli.question import Classes, Kind, asked
from controller.cli.shares import Share, shares_of
from driver.cards import DRIVER_NAME
from driver.errors import DragomanError
from driver.kube.client import JSON

EXTENDED_NOT_SERVED = "ExtendedResourceNotServed"
EXTENDED_WORDS = (
    "The pod asks for cards by extended resources. kube-scheduler alone makes claims of these, and in mode "
    "controller it has no cards to give out; Dragoman's webhook, which makes a claim of them, was not asked."
)
EXTENDED_REMEDY = "Make the pod anew while the webhook runs, or ask with a ResourceClaimTemplate."


@dataclass(slots=True)
class ClaimState:
    """What is said of one claim.

    Attributes:
        entry: The claim as the pod names it.
        state: CamelCase word.
        words: A sentence.
        shares: What it holds of our cards.
        remedy: What to do, "" if nothing.
        question: What the allocator is to be asked; None if it does not wait for cards of ours.
        pinned: Nodes that it is allocated for.
    """

    entry: Entry
    state: str
    words: str
    shares: tuple[Share, ...] = ()
    remedy: str = ""
    question: JSON | None = None
    pinned: list[str] = field(default_factory=list)

    def to_json(self, facts: Facts) -> JSON:
        """Gives it as JSON, with what is known of the cards."""
        return {
            "name": self.entry.name,
            "entry": self.entry.entry,
            "template": self.entry.template,
            "state": self.state,
            "words": self.words,
            "remedy": self.remedy,
            "shares": [_share_json(one, facts) for one in self.shares],
        }


def claim_state(entry: Entry, subject: Subject, facts: Facts, classes: Classes) -> ClaimState:
    """Says what state a claim is in."""
    claim = entry.claim
    if claim is None:
        return _absent(entry, subject)
    status = claim.get("status") or {}
    allocation = status.get("allocation")
    if allocation:
        shares = shares_of(claim)
        others = sorted(
            {
                str(one.get("driver"))
                for one in (allocation.get("devices") or {}).get("results") or []
                if one.get("driver") != DRIVER_NAME
            }
        )
        if not shares:
            listed = ", ".join(others) or "no driver at all"
            return ClaimState(
                entry, "OtherDriver", f"It holds devices of {listed}, which is nothing of ours."
            )
        more = f" and devices of {', '.join(others)}" if others else ""
        nodes = sorted({one.node for one in shares if one.node})
        return ClaimState(entry, "Allocated", f"It is allocated{more}.", shares, pinned=nodes)
    if claim["metadata"].get("deletionTimestamp"):
        return ClaimState(entry, "Deleting", "It is being deleted, so nothing is allocated for it any more.")
    return _unallocated(entry, claim, facts, classes)


def _unallocated(entry: Entry, claim: JSON, facts: Facts, classes: Classes) -> ClaimState:
    missing = [name for name in classes.missing(claim) if facts.needed and not classes.is_ours(name)]
    if missing:
        return ClaimState(
            entry,
            "ClassMissing",
            f"It asks for the DeviceClass {', '.join(missing)}, which does not exist.",
            remedy="Ask for a class that exists (kubectl get deviceclasses), or have this one made.",
        )
    kind = classes.kind_of(claim)
    if kind in (Kind.OTHERS, Kind.NOTHING):
        if kind is Kind.NOTHING:
            return ClaimState(entry, "OtherDriver", "It asks for no devices.")
        if not facts.needed:
            return ClaimState(entry, "Unknown", "It waits. Whether it asks for cards of ours cannot be seen.")
        return ClaimState(entry, "OtherDriver", "It asks for devices of other drivers only.")
    if kind is Kind.MIXED and facts.allocating in (CONTROLLER, HANDOVER):
        return ClaimState(
            entry,
            "MixedDrivers",
            "It asks for devices of this driver and of others; mode controller does not allocate that.",
            remedy="Make a claim for each driver; a pod may have several.",
        )
    try:
        question = asked(claim, classes, facts=facts, stored=True)
    except DragomanError as error:
        return ClaimState(entry, error.reason, f"{error.message}", remedy=error.remedy)
    if kind is Kind.MIXED:
        question = _ours_only(question, classes)
        words = "It waits for a card, and for devices of other drivers, about which nothing is said here."
        return ClaimState(entry, "Waiting", words, question=question)
    return ClaimState(entry, "Waiting", "It waits for a card.", question=question)


def _ours_only(claim: JSON, classes: Classes) -> JSON:
    """The same claim without requests for other drivers' devices."""

    def keep(request: JSON) -> bool:
        options = [request.get("exactly") or {}, *(request.get("firstAvailable") or [])]
        return any(classes.is_ours(str(one.get("deviceClassName") or "")) for one in options)

    devices = dict(claim["spec"]["devices"])
    devices["requests"] = [one for one in devices.get("requests") or [] if keep(one)]
    # What binds requests together cannot be judged without the others.
    devices.pop("constraints", None)
    return {**claim, "spec": {"devices": devices}}


def _absent(entry: Entry, subject: Subject) -> ClaimState:
    if entry.forbidden:
        return ClaimState(
            entry, "Forbidden", "It may not be read.", remedy="Ask for the right that is named below."
        )
    if not entry.template:
        return ClaimState(
            entry,
            "Missing",
            f"There is no ResourceClaim {entry.name} in namespace {subject.namespace}.",
            remedy="Create it, or name another one in a new pod: the pod waits until it is there.",
        )
    if entry.template_there is False:
        return ClaimState(
            entry,
            "TemplateMissing",
            f"There is no ResourceClaimTemplate {entry.template} in namespace {subject.namespace}.",
            remedy="Create the template: the claim is made as soon as it is there.",
        )
    if entry.unnamed:
        # Seen on 1.36.3 where claims were made faster than kube-controller-manager saw them; mended in 1.37.
        return ClaimState(
            entry,
            "NotNamed",
            f"Its claim {entry.unnamed} was made, but the pod's status does not name it: before Kubernetes "
            "1.37 kube-controller-manager can lose names of a pod with several claims "
            "(kubernetes/kubernetes#138407).",
            remedy="If the pod stays so, delete it and have it made anew, or ask for all cards in one claim.",
        )
    return ClaimState(
        entry,
        "NotMade",
        f"It is not made yet from the template {entry.template}.",
        remedy="Wait a moment; if it stays so, look at kube-controller-manager and at the pod's events.",
    )


def extended_state(special: JSON, subject: Subject, facts: Facts) -> ClaimState:
    """The claim that kube-scheduler would make for extended resources."""
    claim = {**special, "metadata": {"name": "extended-resources", "namespace": subject.namespace}}
    entry = Entry(entry="", name="")
    if facts.allocating == CONTROLLER:
        return ClaimState(entry, EXTENDED_NOT_SERVED, EXTENDED_WORDS, remedy=EXTENDED_REMEDY)
    words = "The pod asks for cards by extended resources; kube-scheduler makes this claim with the node."
    return ClaimState(entry, "Waiting", words, question=claim)


def _share_json(share: Share, facts: Facts) -> JSON:
    cards = cards_of(facts.inventories.get(share.node) or {})
    card = next((one for one in cards if one.get("name") == share.device), {})
    return {
        **share.to_json(),
        "words": share.words(),
        "model": str(card.get("model") or ""),
        "uuid": str(card.get("uuid") or ""),
    }
