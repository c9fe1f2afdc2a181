"""Placement over all nodes.

Purpose: the node and the devices that a policy likes best, among those that the allocator allows.

Flow: `rank_nodes` puts the nodes in the policy's order; `place` asks the allocator in that order. On a node
that fits, the first fit is the answer to fall back to; `driver.allocation.placement.cards` looks for a better
one. Where the choice of the node needs to know the devices (best fit, topology), the first few nodes that fit
are compared.

Limits: pure. A node fits if, and only if, it fits without a policy. The order of nodes goes by how full they
are, whatever keeps a claim from single cards. `MAX_COMPARED` nodes are compared. Where devices can be close
together is known at once in a `Cluster`, for attributes with a single value; otherwise a required topology is
looked for on up to `MAX_LOOKED` nodes that fit, until `MAX_STEPS` steps of search are used up.
"""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Protocol

from driver.allocation.allocator import allocate
from driver.allocation.claims import parse_claim
from driver.allocation.cluster import Cluster
from driver.allocation.decision import Decision, Refusal
from driver.allocation.errors import SearchLimitError
from driver.allocation.models import JSON, Device
from driver.allocation.nodes import Node, matches
from driver.allocation.placement import topology
from driver.allocation.placement.cards import Better, Placed
from driver.allocation.placement.errors import TopologyUnmetError
from driver.allocation.placement.policy import FIRST_FIT, PlacementPolicy, Strategy, Wish
from driver.allocation.placement.usage import Charges, leftover, misfit, node_load
from driver.allocation.requests import Claim, Option
from driver.allocation.search import MAX_STEPS
from driver.allocation.snapshot import InUse, Snapshot
from driver.cel.environments import DEFAULT_RELEASE
from driver.errors import AllocationError

MAX_COMPARED = 8
MAX_LOOKED = 256
_UNFIT = 4.0


class Ranking(Protocol):
    """How much a node is wanted; the lowest first, equal ones by name."""

    def __call__(self, devices: Sequence[Device], option: Option | None, in_use: InUse, /) -> float:
        """Judge a node by its devices and the pod's first request, None if it has none."""


def place(
    state: Snapshot | Cluster,
    *,
    claims: Sequence[JSON],
    policy: PlacementPolicy = FIRST_FIT,
    nodes: Iterable[str] | None = None,
    release: str = DEFAULT_RELEASE,
    share_id: Callable[[], str] | None = None,
) -> Decision:
    """Choose a node and devices for a pod's claims.

    Args:
        state: The state of the cluster. A `Cluster` knows at once which nodes fit; of a snapshot each node is
            asked in the policy's order.
        claims: The pod's ResourceClaims (v1) that are not allocated yet, in the pod's order.
        policy: What is liked best; kube-scheduler's first fit if not given.
        nodes: Names of the nodes that the pod may use; all that are known if not given.
        release: Kubernetes release whose rules apply.
        share_id: Makes ids for shares; random UUIDs if not given.

    Returns:
        The decision for the chosen node, or a refusal for all nodes together (`node` is "" then).
    """
    make_id = share_id or (lambda: str(uuid.uuid4()))
    if isinstance(state, Cluster):
        return _on_cluster(state, claims, policy, nodes, release=release, share_id=make_id)
    names = sorted(set(node_names(state) if nodes is None else nodes))
    return _chosen(
        state,
        names,
        claims,
        policy,
        release=release,
        share_id=make_id,
        decide=lambda name: allocate(state, node=name, claims=claims, release=release, share_id=make_id),
    )


def _on_cluster(
    cluster: Cluster,
    claims: Sequence[JSON],
    policy: PlacementPolicy,
    nodes: Iterable[str] | None,
    *,
    release: str,
    share_id: Callable[[], str],
) -> Decision:
    allowed = None if nodes is None else sorted(set(nodes))
    if policy == FIRST_FIT:
        return cluster.first(claims, release=release, nodes=allowed, share_id=share_id)
    answers = cluster.answers(claims, release=release, share_id=share_id)
    known = None if allowed is None else set(allowed)
    names = sorted(name for name in answers.feasible + answers.undecided if known is None or name in known)
    if not names:
        # What stands in the way is the same whatever the policy.
        return cluster.first(claims, release=release, nodes=allowed, share_id=share_id)
    return _chosen(
        cluster.snapshot,
        names,
        claims,
        policy,
        release=release,
        share_id=share_id,
        decide=answers.decision,
        near=_near(cluster, claims, policy, release),
    )


def _near(cluster: Cluster, claims: Sequence[JSON], policy: PlacementPolicy, release: str) -> frozenset[str]:
    """Give the nodes on which each claim's devices can be as close together as anywhere in the cluster.

    Known at once for attributes with a single value; where a claim lets the allocator choose between
    requests, the closer one may not be the one that its author prefers, so nothing is said.
    """
    parsed = _parsed(claims, cluster.snapshot)
    if policy.topology is Wish.NONE or parsed is None:
        return frozenset()
    requests = [request for claim in parsed for request in claim.requests]
    several = sum(request.options[0].count for request in requests) > 1
    if not several or any(len(request.options) > 1 for request in requests):
        return frozenset()
    for attribute in policy.topology_attributes:
        bound = [topology.bound(raw, claim, attribute) for raw, claim in zip(claims, parsed, strict=True)]
        feasible = cluster.answers(bound, release=release).feasible
        if feasible:
            return frozenset(feasible)
    return frozenset()


def _chosen(
    snapshot: Snapshot,
    names: Sequence[str],
    claims: Sequence[JSON],
    policy: PlacementPolicy,
    *,
    release: str,
    share_id: Callable[[], str],
    decide: Callable[[str], Decision],
    near: frozenset[str] = frozenset(),
) -> Decision:
    parsed = _parsed(claims, snapshot)
    ranked = rank_nodes(snapshot, names, policy.nodes, _first_option(parsed))
    ranked.sort(key=lambda name: name not in near)
    found: list[tuple[int, float, int, Decision]] = []
    refusals: list[Refusal] = []
    steps, most, refused, compared = 0, MAX_STEPS, 0, _compared(policy)
    required = policy.topology is Wish.REQUIRED
    for rank, name in enumerate(ranked):
        first = decide(name)
        steps += first.steps
        if first.refusal is not None:
            refusals.append(first.refusal)
            refused += 1
            if first.refusal.reason == SearchLimitError.reason and most == MAX_STEPS:
                # One node that is hard to decide about must not hide those that are not.
                most = steps + MAX_STEPS // 2
            if steps > most:
                break
            continue
        better = Better(snapshot, name, claims, parsed or (), policy, release=release, share_id=share_id)
        placed = better.than(first)
        steps += placed.steps
        if not (required and placed.unmet):
            found.append((placed.closeness, _fit(placed, policy), rank, placed.decision))
        else:
            refusals.append(_unmet(name, policy))
        enough = found and (len(found) >= compared or (compared > 1 and _best(found[-1], policy)))
        if enough or steps > most or len(refusals) - refused >= MAX_LOOKED:
            break
    if not found:
        return Decision("", None, _together(refusals), steps)
    *_, decision = min(found, key=lambda one: one[:3])
    return replace(decision, steps=steps)


def rank_nodes(
    snapshot: Snapshot, names: Sequence[str], strategy: Strategy | Ranking, option: Option | None = None
) -> list[str]:
    """Put nodes in the order of a strategy; equal ones stay as they are.

    Args:
        snapshot: The state of the cluster.
        names: Nodes, sorted by name.
        strategy: The policy's word, or a ranking of one's own.
        option: The first request of the pod, for best fit.
    """
    if strategy is Strategy.FIRST_FIT:
        return list(names)
    ranking = _ranking(strategy, option) if isinstance(strategy, Strategy) else strategy
    in_use = snapshot.in_use
    figures = {name: ranking(node_devices(snapshot, name), option, in_use) for name in names}
    return sorted(names, key=figures.__getitem__)


def node_names(snapshot: Snapshot) -> set[str]:
    """Give the nodes that are known by themselves or by a slice."""
    named = {one.nodes.node_name for one in snapshot.slices} | {
        device.nodes.node_name for one in snapshot.slices if one.per_device for device in one.devices
    }
    return (named | set(snapshot.nodes)) - {""}


def node_devices(snapshot: Snapshot, name: str) -> list[Device]:
    """Give the devices that are published for a node, whatever the state of their pools."""
    node = snapshot.nodes.get(name) or Node(name, {})
    return [
        device
        for one in snapshot.candidates(node)
        for device in one.devices
        if device.nodes.node_name == name or matches(device.nodes, node)
    ]


def _ranking(strategy: Strategy, option: Option | None) -> Ranking:
    if strategy is Strategy.BINPACK:
        return lambda devices, _option, in_use: -node_load(devices, in_use)
    if strategy is Strategy.SPREAD or option is None:
        return lambda devices, _option, in_use: node_load(devices, in_use)
    charges = Charges(option)

    def by_fit(devices: Sequence[Device], _option: Option | None, in_use: InUse, /) -> float:
        lefts = (leftover(one, charges, in_use) for one in devices)
        return min((misfit(left) for left in lefts if left is not None), default=_UNFIT)

    return by_fit


def _parsed(claims: Sequence[JSON], snapshot: Snapshot) -> tuple[Claim, ...] | None:
    try:
        return tuple(parse_claim(one, snapshot.classes) for one in claims)
    except AllocationError:
        # Each node will refuse it in the same words.
        return None


def _first_option(claims: Sequence[Claim] | None) -> Option | None:
    return next((request.options[0] for claim in claims or () for request in claim.requests), None)


def _compared(policy: PlacementPolicy) -> int:
    by_devices = policy.nodes is Strategy.BEST_FIT or policy.topology is not Wish.NONE
    return MAX_COMPARED if by_devices else 1


def _best(found: tuple[int, float, int, Decision], policy: PlacementPolicy) -> bool:
    """Whether nothing that comes later can be better."""
    return policy.topology is not Wish.NONE and policy.nodes is not Strategy.BEST_FIT and found[0] == 0


def _fit(placed: Placed, policy: PlacementPolicy) -> float:
    return placed.misfit if policy.nodes is Strategy.BEST_FIT else 0.0


def _unmet(node: str, policy: PlacementPolicy) -> Refusal:
    listed = ", ".join(policy.topology_attributes)
    return Refusal(
        reason=TopologyUnmetError.reason,
        message=f"free devices on node {node} have no {listed} in common, as the placement policy requires",
        remedy="Wait for a release, ask for fewer devices, or let the policy prefer the topology only.",
        retriable=TopologyUnmetError.retriable,
        node=node,
    )


def _together(refusals: Sequence[Refusal]) -> Refusal:
    if not refusals:
        return Refusal(
            reason="NoDevice", message="there is no node to allocate from", remedy="Wait for nodes."
        )
    if len(refusals) == 1:
        return refusals[0]
    counts = Counter(one.reason for one in refusals)
    # Of reasons the one that is nearest to an answer: a topology is looked at where everything else fits.
    reason = next(iter(counts)) if len(counts) == 1 else AllocationError.reason
    unmet = TopologyUnmetError.reason
    example = next((one for one in refusals if one.reason == unmet), refusals[0])
    if unmet in counts:
        reason = unmet
    listed = ", ".join(f"{count} {name}" for name, count in counts.most_common())
    return replace(
        example,
        reason=reason,
        message=f"0 of {len(refusals)} nodes fit ({listed}); for example {example.message}",
        retriable=any(one.retriable for one in refusals),
        node="",
        devices=(),
    )
