"""For each reason that there is: the state of a cluster in which it is the answer, or why it never is.

Flow: `COMPUTED` names cases in which the command line finds the reason by itself; `refusals.yaml` holds what
agents and controllers were heard to say where objects alone do not tell it; `ELSEWHERE` says of the others
who hears them. `answers_of` gives what a reader of the cluster and an app developer are shown.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import yaml

from driver.allocation.why_not import CARD_REASONS
from driver.errors import DragomanError
from driver.kube.client import KubeClient
from kubelet_plugin.events import PodEvents
from kubelet_plugin.metrics import Metrics
from kubelet_plugin.prepare.claims import ClaimRef
from tests.controller.cli.cases import CASES, Case, recent, running, two_nodes, waiting
from tests.controller.cli.more_cases import MORE
from tests.controller.cli.told import told
from tests.controller.cli.world import World, claim, dragoman
from tests.support.scripted_api import Request, ScriptedTransport
from tooling.generate.docs import import_all

GOLDEN = Path(__file__).parent / "golden" / "reasons"
WIDTH = 100
_RECORDED: Mapping[str, Mapping[str, str]] = yaml.safe_load(
    (Path(__file__).parent / "refusals.yaml").read_text()
)

COMPUTED: Mapping[str, str] = {
    "AllConstraintUnmet": "all-constraint",
    "AllPoolInvalid": "all-pool-invalid",
    "AmountsLost": "amounts-lost",
    "CannotAllocate": "different-reasons",
    "CapacityNotRepresentable": "not-representable",
    "ClaimMissing": "claim-missing",
    "ClaimNotStamped": "not-stamped",
    "ConstraintUnknown": "constraint-unknown",
    "DeviceClassNotFound": "class-not-found",
    "ExtendedResourceNotServed": "extended-resource-controller",
    "InvalidCapacityRequest": "amount-unreadable",
    "InvalidClaim": "request-unknown",
    "InvalidConfig": "bad-config",
    "MinimumIsolationUnmet": "isolation",
    "MixedDrivers": "mixed-drivers",
    "NoCombination": "constraint",
    "NoDevice": "in-use",
    "NoNode": "node-unfit-controller",
    "NotSupported": "field-not-supported",
    "OverLimit": "too-many-requests",
    "PoolIncomplete": "all-pool-incomplete",
    "PoolInvalid": "pool-invalid",
    "SelectorFailed": "selector-raises",
    "SelectorInvalid": "selector-invalid",
    "TooManyDevices": "too-many",
    "card-CapacityInUse": "in-use-controller",
    "card-CapacityRequestTooLarge": "too-large",
    "card-CapacityTooSmall": "too-small",
    "card-CapacityUnknown": "unknown-capacity",
    "card-ConstraintUnmet": "constraint",
    "card-CountersExhausted": "counters-exhausted",
    "card-InUse": "in-use",
    "card-NotSupported": "not-supported",
    "card-OtherNode": "other-node",
    "card-PoolIncomplete": "pool-incomplete",
    "card-PoolInvalid": "pool-invalid",
    "card-SelectorFalse": "selector-false",
    "card-TakenByPod": "taken-by-pod-whole",
    "card-Tainted": "tainted",
}
"""Names of cases by reason; those against cards begin with `card-`."""

_ADMISSION = "admission says it to whoever creates or changes the object, which is not stored then"
_AGENT = "the agent's own files, said in its log, its metrics and the AcceleratorNode"
_GATE = "a feature gate that was switched off by hand, which neither the command line nor the controller sees"
_BASE = "no refusal of its own; each has a more exact reason"
_SELECTOR = "an allocation says it as SelectorInvalid or SelectorFailed, with the selector's path"

ELSEWHERE: Mapping[str, str] = {
    "AdminAccessDisabled": _GATE,
    "AdmissionBusy": _ADMISSION,
    "AmountTooLarge": _ADMISSION,
    "AmountsNotAsked": _ADMISSION,
    "CannotConvert": _ADMISSION,
    "CapacityDisabled": _GATE,
    "CapacityNegative": "the API server refuses negative amounts in claims",
    "CardSizesUnknown": _ADMISSION,
    "ClaimChanged": "the controller decides anew at once",
    "ClaimNotReady": _BASE,
    "ConflictingConfig": _ADMISSION,
    "ContradictingPolicy": _ADMISSION,
    "ConvertedPodInvalid": _ADMISSION,
    "CountTooLarge": _ADMISSION,
    "Error": _BASE,
    "InvalidAmount": _ADMISSION,
    "InvalidInput": "the command line says it of its own arguments",
    "InvalidObject": _ADMISSION,
    "InvalidQuantity": "said as InvalidCapacityRequest or InvalidConfig, with the field of the amount",
    "InvalidSelector": _SELECTOR,
    "LegacyAmountInvalid": _ADMISSION,
    "LegacyChoiceInvalid": _ADMISSION,
    "MpsBusy": "the log of MPS's supervisor, which is not the one of its node",
    "MpsCommand": "claims hear MpsUnavailable, with what the daemon said",
    "NotLeading": "a replica of the controller; the one that leads goes on",
    "ObjectTooLarge": _ADMISSION,
    "PrioritizedListDisabled": _GATE,
    "QuotaCardsUnknown": _ADMISSION,
    "QuotaExceeded": _ADMISSION,
    "QuotaPerClaim": _ADMISSION,
    "NamespaceBusy": _ADMISSION,
    "QuotaUnavailable": _ADMISSION,
    "ReviewTooLarge": _ADMISSION,
    "SelectorNotSupported": _SELECTOR,
    "SelectorRaised": _SELECTOR,
    "SharesOfOneCard": _ADMISSION,
    "StateDamaged": _AGENT,
    "StateNewer": _AGENT,
    "StateUnreadable": _AGENT,
    "TemplateNameTaken": "the controller's log and metrics; the pod's claim is not made yet",
    "TopologyUnmet": "only the placement policy of mode controller asks for it; see tests of placement",
    "UncappedShare": _ADMISSION,
    "UnknownCapacity": _ADMISSION,
    "UnknownRequest": _ADMISSION,
    "UnreadableCard": "a problem of the AcceleratorNode, which `status` shows",
    "VnpusNotUnderstood": "a problem of the AcceleratorNode, which `status` shows beside the card",
    "card-FeatureDisabled": _GATE,
    "card-NoSlice": "nodes without slices are left out with a reason of their own",
    "card-PoolObsolete": "pools of this driver are of one node each, so none is for another node",
}
"""Who hears a reason that `explain` never gives."""


def known() -> dict[str, type[DragomanError] | None]:
    """All reasons; those against cards have no class."""
    import_all()
    found: dict[str, type[DragomanError] | None] = {}
    left = [DragomanError]
    while left:
        one = left.pop()
        left += one.__subclasses__()
        ours = one.__module__.partition(".")[0] in ("driver", "controller", "kubelet_plugin")
        if ours and (one.reason not in found or "reason" in one.__dict__):
            found[one.reason] = one
    return {**found, **{f"card-{reason}": None for reason in CARD_REASONS}}


def with_golden() -> list[str]:
    """Reasons that `explain` gives."""
    return sorted({*COMPUTED, *_RECORDED["node"], *_RECORDED["controller"]})


def answers_of(reason: str, folder: Path) -> str:
    """What both people are shown, as the golden file has it."""
    world, arguments = _case(reason)
    shown = []
    for who in ("whoever may read the cluster", "an app developer, with the role view in one namespace"):
        done = dragoman(world, folder, *arguments, columns=WIDTH)
        command = " ".join(arguments)
        shown.append(
            f"# As {who}\n$ kubectl dragoman {command}\n{done.out}{done.err}exit status {done.status}\n"
        )
        world.namespace_only = "team-a"
    return "\n".join(shown)


def document_of(reason: str, folder: Path) -> Any:
    """The same for programs, as a reader of the cluster gets it."""
    world, arguments = _case(reason)
    return dragoman(world, folder, *arguments, "-o", "json").document


def _case(reason: str) -> Case:
    if reason in _RECORDED["node"]:
        return _on_node(reason, _RECORDED["node"][reason])
    if reason in _RECORDED["controller"]:
        world = waiting(two_nodes("controller"), claim("want", memory="1Gi"))
        return _saying(world, reason, _RECORDED["controller"][reason]), ("explain", "pod/train")
    make: Callable[[], Case] = {**CASES, **MORE}[COMPUTED[reason]]
    world, arguments = make()
    said, note = (reason, _RECORDED["told"][reason]) if reason in _RECORDED["told"] else told(world)
    return (_saying(world, said, note) if said else world), arguments


def _saying(world: World, reason: str, note: str) -> World:
    world.events = [one for one in world.events if one["reportingComponent"] != "dragoman.dev/controller"]
    world.events.append(recent("Pod/train", reason=reason, note=note))
    return world


def _on_node(reason: str, text: str) -> Case:
    """A pod whose node refuses a claim: the agent's Event if that is final, and the kubelet's in any case."""
    world = running()
    world.pods[-1]["status"]["phase"] = "Pending"
    for one in world.claims:
        if one["metadata"]["name"] == "mine":
            one["status"].pop("devices", None)
    kind = known()[reason]
    assert kind is not None
    error = kind.__new__(kind)
    DragomanError.__init__(error, text)
    if not error.retriable:
        note = asyncio.run(_event_of_the_agent(error))
        world.events.append(
            recent("Pod/train", reason=error.reason, note=note, by="dragoman.dev/kubelet-plugin")
        )
    kubelet = (
        "Failed to prepare dynamic resources: prepare dynamic resources: NodePrepareResources failed for "
        f"ResourceClaim mine: {error}"
    )
    world.events.append(
        recent("Pod/train", reason="FailedPrepareDynamicResources", note=kubelet, by="kubelet", count=7)
    )
    return world, ("explain", "pod/train")


async def _event_of_the_agent(error: DragomanError) -> str:
    written: list[Any] = []

    def answer(request: Request) -> Any:
        if request.method == "POST":
            written.append(request.body)
            return request.body
        return {"status": {"reservedFor": [{"resource": "pods", "name": "train", "uid": "uid-train"}]}}

    events = PodEvents(KubeClient(ScriptedTransport(answer)), node_name="n2", metrics=Metrics())
    await events.tell(ClaimRef(namespace="team-a", name="mine", uid="uid-team-a-mine"), error)
    (one,) = written
    return str(one["note"])
