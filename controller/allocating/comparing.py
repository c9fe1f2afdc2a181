"""One pod compared with many nodes: which of them it may use, at a bounded cost.

Purpose: what a pod says about its node may have 8 KiB, and is compared with every node of the cluster.

Flow: `Comparison` is made for a pod, and `unfit` is asked of one node after the other. What nodes have in
common is compared once: a node affinity that looks at three labels has as many answers as there are
combinations of their values, and tolerations as many as there are taints.

Limits: at most `UNITS` parts of node affinity and tolerations are compared for a pod, about a second of a
processor at worst; nodes that are left then count as unfit, and the reason says so. The longest affinity that
is looked at (`views.MAX_WISHES`) is compared with 5,000 nodes that have nothing in common.

Source of the rules: `controller.allocating.pod_fit`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from controller.allocating.pod_fit import HARD, UNSCHEDULABLE, Amounts, NodeFacts, PodFacts, short_of
from driver.allocation.models import NodeSelection, Taint
from driver.allocation.nodes import Node, matches
from driver.allocation.requests import tolerates
from driver.kube.client import JSON

UNITS = 1_500_000
_VALUES_A_UNIT = 16
TOO_LONG = "the pod's node affinity and tolerations are too long to be compared with as many nodes"


class TooManyUnitsError(Exception):
    """Nothing more is compared for the pod."""


class Comparison:
    """A pod, and what was found out about nodes so far."""

    def __init__(self, pod: PodFacts, *, units: int = UNITS) -> None:
        """Compares nothing yet.

        Args:
            pod: The pod.
            units: How much may be compared; a requirement of an affinity, 16 of its values, or a toleration
                is one.
        """
        self._pod = pod
        self._left = units
        # A term without requirements matches no node, and thousands of them fit into an affinity.
        terms = [term for term in (pod.affinity or {}).get("nodeSelectorTerms") or () if any(_parts(term))]
        wanted = {"nodeSelectorTerms": terms}
        self._affinity = None if pod.affinity is None else NodeSelection(selector=wanted)
        requirements = list(_requirements(terms))
        self._affinity_units = sum(
            1 + len(one.get("values") or ()) // _VALUES_A_UNIT for _, one in requirements
        )
        self._labels = sorted({str(one.get("key")) for of_name, one in requirements if not of_name})
        self._by_name = any(of_name for of_name, _ in requirements)
        self._matches: dict[tuple[str | None, ...], bool] = {}
        self._tolerated: dict[Taint, bool] = {}

    def unfit(self, name: str, node: NodeFacts, free: Amounts) -> str:
        """Say why the pod cannot use a node, "" if it can.

        Args:
            name: Name of the node.
            node: The node.
            free: What other pods leave of it.
        """
        pod = self._pod
        if pod.node_name and pod.node_name != name:
            return "the pod was made for another node"
        if not node.ready:
            return "the node is not Ready"
        try:
            return self._unwanted(name, node) or short_of(pod.asks, free)
        except TooManyUnitsError:
            return TOO_LONG

    def _unwanted(self, name: str, node: NodeFacts) -> str:
        if node.unschedulable and not self._tolerates(UNSCHEDULABLE):
            return "the node is cordoned"
        for taint in node.taints:
            if taint.effect in HARD and not self._tolerates(taint):
                return f"the node has the taint {taint.key} that the pod does not tolerate"
        for key, value in self._pod.node_selector.items():
            if node.labels.get(key) != value:
                return f"the pod's nodeSelector wants {key}={value}"
        if self._affinity is not None and not self._wants(self._affinity, name, node):
            return "the pod's node affinity excludes the node"
        return ""

    def _tolerates(self, taint: Taint) -> bool:
        known = self._tolerated.get(taint)
        if known is None:
            self._spend(len(self._pod.tolerations))
            known = self._tolerated[taint] = any(tolerates(one, taint) for one in self._pod.tolerations)
        return known

    def _wants(self, affinity: NodeSelection, name: str, node: NodeFacts) -> bool:
        seen = (name if self._by_name else None, *map(node.labels.get, self._labels))
        known = self._matches.get(seen)
        if known is None:
            self._spend(self._affinity_units)
            known = self._matches[seen] = matches(affinity, Node(name, node.labels))
        return known

    def _spend(self, units: int) -> None:
        if units > self._left:
            raise TooManyUnitsError
        self._left -= units


def _parts(term: JSON) -> tuple[Sequence[Any], Sequence[Any]]:
    """What a term says of labels, and of the node's name."""
    return term.get("matchExpressions") or (), term.get("matchFields") or ()


def _requirements(terms: Iterable[JSON]) -> Iterator[tuple[bool, Any]]:
    """The requirements of a node affinity, and whether they are about the node's name."""
    for labels, name in map(_parts, terms):
        for one in labels:
            yield False, one
        for one in name:
            yield True, one
