"""What the golden texts are about: a cluster and a command for each kind of answer."""

from __future__ import annotations

import copy
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from driver.api.asked import carry_over
from driver.cards import Fault
from tests.controller.cli.world import JSON, World, allocated, card, claim, condition, event, pod

EXAMPLES = Path(__file__).resolve().parents[3] / "manifests" / "examples"
NOTE = "0 of 2 nodes can take the pod's claims."

Case = tuple[World, tuple[str, ...]]


def ago(seconds: float) -> str:
    return (datetime.now(UTC) - timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%SZ")


def recent(about: str, **fields: Any) -> JSON:
    """An Event of five minutes ago."""
    found = event(about, **fields)
    found["series"]["lastObservedTime"] = ago(310)
    return found


def two_nodes(mode: str = "native", **fields: Any) -> World:
    """Three cards of two models; others hold parts of one and the whole of another."""
    world = World(mode=mode, **fields)
    world.node("n1", card("nvidia-a"), card("nvidia-b"), labels={"pool": "old"})
    world.node("n2", card("nvidia-c", gib=80, model="NVIDIA H100"), labels={"pool": "new"}).controllers()
    number = world.version >= "v1.36"
    world.claims += [
        allocated(
            claim("infer", namespace="team-b"), "n1", "nvidia-a", number=number, memory="30Gi", cores="60"
        ),
        allocated(claim("whole", namespace="team-c"), "n1", "nvidia-b"),
        allocated(claim("batch", namespace="team-b"), "n2", "nvidia-c", number=number, memory="70Gi"),
    ]
    return world


def waiting(world: World, *claims: JSON, **spec: Any) -> World:
    """Adds a pod `train` that waits for claims, and what the controller said about it."""
    world.claims += claims
    world.pods.append(pod("train", *(one["metadata"]["name"] for one in claims), **spec))
    world.events.append(recent("Pod/train", reason="NoDevice", note=NOTE, count=3))
    return world


def explained(*claims: JSON, world: World | None = None, **spec: Any) -> Case:
    return waiting(world or two_nodes(), *claims, **spec), ("explain", "pod/train")


def edited(edit: Callable[[JSON], None], *claims: JSON) -> Case:
    """The slices of all nodes, changed; nobody holds anything."""
    world = World().node("n1", card("nvidia-a"), card("nvidia-b")).controllers()
    for item in world.slices:
        edit(item["spec"])
    return explained(*claims, world=world)


def _tainted(spec: JSON) -> None:
    for device in spec["devices"]:
        device["taints"] = [{"key": "example.com/repair", "effect": "NoSchedule"}]


def incomplete(spec: JSON) -> None:
    spec["pool"]["resourceSliceCount"] = 2


def twice(spec: JSON) -> None:
    spec["devices"].append(copy.deepcopy(spec["devices"][0]))


def _unknown_field(spec: JSON) -> None:
    for device in spec["devices"]:
        device["fieldOfTomorrow"] = True


def _binding(spec: JSON) -> None:
    for device in spec["devices"]:
        device["consumesCounters"] = [{"counterSet": "slots", "counters": {"slot": {"value": "2"}}}]
    spec["sharedCounters"] = []


def _matching(name: str) -> JSON:
    found = claim("want", memory="1Gi", count=2)
    found["spec"]["devices"]["constraints"] = [{"matchAttribute": f"dragoman.dev/{name}"}]
    return found


def _two_requests() -> JSON:
    found = claim("want")
    first = found["spec"]["devices"]["requests"][0]
    found["spec"]["devices"]["requests"] = [{**first, "name": name} for name in ("one", "two", "three")]
    return found


def _without_requests() -> JSON:
    found = claim("want")
    found["spec"]["devices"] = {}
    return found


def _mixed() -> JSON:
    found = claim("want", memory="24Gi")
    other = {"name": "fpga", "exactly": {"deviceClassName": "fpga.example.com"}}
    found["spec"]["devices"]["requests"].append(other)
    return found


def _with_config(parameters: JSON) -> JSON:
    found = claim("want", memory="1Gi")
    whole = {"apiVersion": "dragoman.dev/v1alpha1", "kind": "ShareConfig", **parameters}
    found["spec"]["devices"]["config"] = [{"opaque": {"driver": "dragoman.dev", "parameters": whole}}]
    return found


def stamped() -> JSON:
    """A claim of 1.34: its amounts are in a ShareConfig, the API server dropped the rest."""
    found = claim("want", memory="24Gi", cores="30")
    entries, stamp = carry_over(found["spec"]["devices"], is_ours=lambda _: True)
    stripped = claim("want")
    stripped["metadata"]["annotations"] = {"dragoman.dev/asked": stamp}
    stripped["spec"]["devices"]["config"] = entries
    return stripped


def running() -> World:
    world = two_nodes()
    mine = allocated(claim("mine"), "n2", "nvidia-c", memory="2Gi", cores="10")
    mine["status"]["devices"] = [
        {
            "driver": "dragoman.dev",
            "pool": "n2/dragoman",
            "device": "nvidia-c",
            "shareID": "share-of-mine",
            "conditions": [
                {
                    "type": "Limited",
                    "status": "True",
                    "message": "2048 MiB of memory, held by preload; 10 percent of compute, held by preload.",
                }
            ],
            "data": {"memoryIsolation": "preload", "coresIsolation": "preload"},
        }
    ]
    world.claims.append(mine)
    world.pods.append(pod("train", "mine", node="n2", phase="Running"))
    return world


def _refused_by_node() -> World:
    world = running()
    world.pods[-1]["status"]["phase"] = "Pending"
    world.events.append(
        recent(
            "Pod/train",
            reason="MinimumIsolation",
            note="The share wants kernel isolation; the card has preload.",
            by="dragoman.dev/agent",
        )
    )
    return world


def _pods_of(world: World, *pods: JSON) -> World:
    world.pods += pods
    return world


def _handover(*, wanted: str) -> World:
    world = World(mode=wanted)
    world.node("n1", card("nvidia-a"), slices="fenced", made=ago(10.5))
    said = condition(status="False", reason="AgentNotReady", message="The agent on this node is not Ready.")
    world.node("n2", card("nvidia-b"), slices="open", agent=False, said=said)
    return world.controllers()


def _troubled() -> World:
    world = World().node("n1", card("nvidia-a"), card("nvidia-b", unpublished="MIG mode is on."))
    said = condition(
        reason="FieldsDropped", message="Published without spec.devices[0].taints (DRADeviceTaints)."
    )
    for name in ("n2", "n3"):
        world.node(name, card(f"nvidia-{name}"), said=said)
    world.node("n4", card("nvidia-d"), problems=["The file state/x.json was set aside: it is damaged."])
    return world.controllers()


def _faulty() -> World:
    lost = Fault(reason="CardLost", message="It fell off the bus.", since="2026-11-21T11:58:00Z")
    hot = Fault(reason="Xid48", message="Double-bit ECC error.", since="2026-11-21T09:00:00Z")
    world = World().node("n1", card("nvidia-a"), card("nvidia-b"))
    world.node("n2", card("nvidia-c", fault=lost), card("nvidia-d", fault=hot))
    return world.controllers()


def _too_old() -> World:
    said = condition(
        status="False", reason="KubernetesTooOld", message="Kubernetes 1.34 cannot allocate shares by itself."
    )
    world = World(version="v1.34.4").node("n1", card("nvidia-a"), slices="none", said=said)
    return waiting(world.controllers(), claim("want", memory="1Gi"))


def _no_agent_ready() -> World:
    world = World(mode="controller").node("n1", card("nvidia-a"), agent=False).controllers()
    return waiting(world, claim("want", memory="1Gi"))


def _resting() -> World:
    world = World(mode="controller").node("n1", card("nvidia-a"), made=ago(10)).controllers()
    return waiting(world, claim("want", memory="1Gi"))


def _shares_not_known() -> World:
    world = World().node("n1", card("nvidia-a"), slices="none")
    message = "kube-scheduler gave out 1 card without a shareID, as if it could not be shared."
    said = {"type": "HandedOver", "status": "False", "reason": "SharesNotKnown", "message": message}
    world.inventories[0]["status"]["conditions"].append(said)
    return world.controllers()


def _nominated() -> World:
    world = World(mode="controller").node("n1", card("nvidia-a"), made=ago(100))
    for name in ("n2", "n3"):
        world.node(name, card(f"nvidia-{name}"), made=ago(100))
    for one, pods in zip(world.inventories, ("1 pod", "2 pods", "2 pods"), strict=True):
        one["status"]["conditions"].append(
            {
                "type": "HandedOver",
                "status": "False",
                "reason": "KubeSchedulerMayBind",
                "message": f"kube-scheduler has chosen the node for {pods} and may still give out cards. The "
                "controller allocates when that has come to an end, from 2026-11-21T12:15:00Z on at the "
                "latest.",
            }
        )
    return world.controllers()


def _scheduled_elsewhere() -> World:
    world = waiting(two_nodes(), claim("little", memory="1Gi"))
    text = "0/2 nodes are available: 2 Insufficient cpu."
    world.events.append(recent("Pod/train", reason="FailedScheduling", note=text, by="default-scheduler"))
    return world


def _allocated_but_waiting() -> World:
    world = _pods_of(two_nodes(), pod("train", "mine"))
    world.claims.append(allocated(claim("mine"), "n2", "nvidia-c", memory="2Gi"))
    text = "0/2 nodes are available: 2 Insufficient cpu."
    world.events.append(recent("Pod/train", reason="FailedScheduling", note=text, by="default-scheduler"))
    return world


def extended(mode: str = "native") -> World:
    asks = {"deviceclass.resource.kubernetes.io/nvidia.dragoman.dev": "1"}
    containers = [{"name": "main", "resources": {"requests": asks, "limits": asks}}]
    return _pods_of(two_nodes(mode), pod("train", containers=containers))


def _said_by_others() -> World:
    """What Karpenter 1.15 and cluster-autoscaler say, and somebody whose word does not count."""
    world = waiting(two_nodes("controller"), claim("want", memory="24Gi"))
    said = (
        (
            "karpenter",
            "FailedScheduling",
            "Failed to schedule pod, pod has Dynamic Resource Allocation requirements that are not supported",
        ),
        (
            "cluster-autoscaler",
            "NotTriggerScaleUp",
            "pod didn't trigger scale-up: 1 cannot allocate all claims",
        ),
        ("example.com/anybody", "FailedScheduling", "Nothing to see here."),
    )
    for by, reason, note in said:
        world.events.append(recent("Pod/train", reason=reason, note=note, by=by))
    return world


def _claim_cannot_be_made() -> World:
    world = _pods_of(two_nodes(), pod("train", template="there"))
    world.templates.append({"metadata": {"name": "there", "namespace": "team-a"}})
    note = "PodResourceClaim made: create ResourceClaim : exceeded quota: shares"
    world.events.append(
        recent("Pod/train", reason="FailedResourceClaimCreation", note=note, by="resource_claim", count=4)
    )
    return world


CASES: dict[str, Callable[[], Case]] = {
    "status-native": lambda: (two_nodes(), ("status",)),
    "status-controller": lambda: (two_nodes("controller", version="v1.34.4"), ("status",)),
    "status-handover-to-controller": lambda: (_handover(wanted="controller"), ("status",)),
    "status-handover-binding": lambda: (_nominated(), ("status",)),
    "status-shares-not-known": lambda: (_shares_not_known(), ("status",)),
    "status-handover-to-native": lambda: (_handover(wanted="native"), ("status",)),
    "status-rolled-out": lambda: (two_nodes("controller").controllers(mode="native"), ("status",)),
    "status-troubled": lambda: (_troubled(), ("status",)),
    "status-faulty": lambda: (_faulty(), ("status",)),
    "status-too-old": lambda: (_too_old(), ("status",)),
    "status-empty": lambda: (World(), ("status",)),
    "in-use": lambda: explained(claim("want", memory="24Gi", cores="30")),
    "in-use-controller": lambda: explained(stamped(), world=two_nodes("controller", version="v1.34.4")),
    "too-large": lambda: explained(claim("want", memory="100Gi")),
    "too-small": lambda: explained(
        claim("want", memory="100Gi"), world=World().node("n1", card("nvidia-a", shareable=False))
    ),
    "unknown-capacity": lambda: explained(claim("want", capacity={"requests": {"slots": "1"}})),
    "selector-false": lambda: explained(
        claim("want", memory="1Gi", cel='device.attributes["dragoman.dev"].model == "NVIDIA B200"')
    ),
    "selector-raises": lambda: explained(
        claim("want", memory="1Gi", cel='device.attributes["dragoman.dev"].colour == "red"')
    ),
    "selector-invalid": lambda: explained(claim("want", memory="1Gi", cel="device.attributes[")),
    "constraint": lambda: explained(_matching("uuid"), world=World().node("n1", card("a"), card("b"))),
    "taken-by-pod": lambda: explained(_two_requests(), world=World().node("n1", card("a"), card("b"))),
    "taken-by-pod-whole": lambda: explained(
        _two_requests(),
        world=World().node("n1", card("a", shareable=False), card("b", shareable=False)),
    ),
    "several-changes": lambda: explained(
        claim("want", memory="100Gi", cel='device.attributes["dragoman.dev"].model == "NVIDIA B200"')
    ),
    "amount-unreadable": lambda: explained(claim("want", memory="lots")),
    "field-not-supported": lambda: explained(claim("want", memory="1Gi", fieldOfTomorrow=True)),
    "too-many": lambda: explained(claim("want", memory="1Gi", count=33)),
    "no-requests": lambda: explained(_without_requests()),
    "admin-access": lambda: explained(claim("want", adminAccess=True)),
    "tainted": lambda: edited(_tainted, claim("want", memory="1Gi")),
    "pool-incomplete": lambda: edited(incomplete, claim("want", memory="1Gi")),
    "pool-invalid": lambda: edited(twice, claim("want", memory="1Gi")),
    "not-supported": lambda: edited(_unknown_field, claim("want", memory="1Gi")),
    "counters": lambda: edited(_binding, claim("want", memory="1Gi")),
    "isolation": lambda: explained(_with_config({"minimumIsolation": {"memory": "hardware"}})),
    "bad-config": lambda: explained(_with_config({"corePolicy": "perhaps"})),
    "not-stamped": lambda: explained(claim("want"), world=two_nodes("controller", version="v1.34.4")),
    "class-missing": lambda: explained(claim("want", of="gpu.example.com")),
    "other-driver": lambda: explained(claim("want", of="fpga.example.com")),
    "class-not-found": lambda: explained(claim("want", memory="1Gi", of="ascend.dragoman.dev")),
    "two-drivers": lambda: explained(claim("want", memory="1Gi"), claim("other", of="fpga.example.com")),
    "mixed-drivers": lambda: explained(_mixed(), world=two_nodes("controller")),
    "mixed-drivers-native": lambda: explained(_mixed()),
    "node-unfit": lambda: explained(claim("want", memory="1Gi"), nodeSelector={"pool": "none"}),
    "agent-not-ready": lambda: (_no_agent_ready(), ("explain", "pod/train")),
    "handover-binding": lambda: (
        waiting(_nominated(), claim("want", memory="1Gi")),
        ("explain", "pod/train"),
    ),
    "handover-resting": lambda: (_resting(), ("explain", "pod/train")),
    "kubernetes-too-old": lambda: (_too_old(), ("explain", "pod/train")),
    "no-agents": lambda: explained(claim("want", memory="1Gi"), world=World()),
    "cards-available": lambda: (_scheduled_elsewhere(), ("explain", "pod/train")),
    "said-by-others": lambda: (_said_by_others(), ("explain", "pod/train")),
    "claim-not-made": lambda: (_claim_cannot_be_made(), ("explain", "pod/train")),
    "allocated-but-waiting": lambda: (_allocated_but_waiting(), ("explain", "pod/train")),
    "running": lambda: (running(), ("explain", "pod/train")),
    "refused-by-node": lambda: (_refused_by_node(), ("explain", "pod/train")),
    "gated": lambda: explained(claim("want", memory="24Gi"), schedulingGates=[{"name": "example.com/queue"}]),
    "over": lambda: (_pods_of(two_nodes(), pod("train", phase="Succeeded")), ("explain", "pod/train")),
    "no-claims": lambda: (_pods_of(two_nodes(), pod("train")), ("explain", "pod/train")),
    "claim-missing": lambda: (_pods_of(two_nodes(), pod("train", "nix")), ("explain", "pod/train")),
    "template-missing": lambda: (
        _pods_of(two_nodes(), pod("train", template="nix")),
        ("explain", "pod/train"),
    ),
    "extended-resource": lambda: (extended(), ("explain", "pod/train")),
    "claim-waiting": lambda: (
        waiting(two_nodes(), claim("want", memory="24Gi")),
        ("explain", "claim/want"),
    ),
    "claim-allocated": lambda: (running(), ("explain", "claim/mine")),
    "simulate-fits": lambda: (two_nodes(), ("simulate", "-f", str(EXAMPLES / "two-containers.yaml"))),
    "simulate-refused": lambda: (two_nodes(), ("simulate", "-f", str(EXAMPLES / "whole-card.yaml"))),
    "simulate-controller": lambda: (
        two_nodes("controller", version="v1.34.4"),
        ("simulate", "-f", str(EXAMPLES / "memory-and-cores.yaml")),
    ),
}
"""Worlds and commands by the name of the golden text."""
