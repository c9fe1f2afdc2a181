"""The nodes that a pod may use and whose cards are offered.

Flow: `Nodes.candidates` takes down in the event loop what is known of the nodes at this moment, a few
microseconds for each; `Candidates.choose` compares the pod with them, in the thread in which decisions are
made: it takes up to half a second for a pod that is made for that.

Limits: what changes after `candidates` is not seen. Nodes are compared as `controller.allocating.pod_fit`
says, which is less than kube-scheduler looks at.
"""

from __future__ import annotations

from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

from controller.allocating.comparing import Comparison
from controller.allocating.errors import NoNodeError
from controller.allocating.pod_fit import Amounts, NodeFacts, PodFacts
from controller.allocating.sources import Sources
from controller.allocating.usage import NodeUsage
from controller.allocating.views import PodView


@dataclass(frozen=True, kw_only=True)
class Candidates:
    """Nodes to choose from; nothing of it changes, so it may be read in another thread.

    Attributes:
        pod: What the pod wants of its node; None where it is on it already.
        nodes: The nodes by name, each with what other pods leave of it.
        passed_over: How many more offer cards, by the reason that rules them out.
    """

    pod: PodFacts | None
    nodes: Sequence[tuple[str, NodeFacts | None, Amounts]]
    passed_over: dict[str, int]

    def choose(self) -> list[str]:
        """The nodes that the pod may use, sorted.

        Raises:
            NoNodeError: There is none; it says how many are ruled out by what.
        """
        if self.pod is None:
            return [name for name, _, _ in self.nodes]
        reasons, found, comparison = dict(self.passed_over), [], Comparison(self.pod)
        for name, facts, free in self.nodes:
            why = comparison.unfit(name, facts, free) if facts is not None else ""
            if why:
                reasons[why] = reasons.get(why, 0) + 1
            else:
                found.append(name)
        if not found:
            told = "; ".join(f"{count}: {why}" for why, count in sorted(reasons.items()))
            raise NoNodeError(
                f"No node that offers cards may be used by the pod ({told})."
                if told
                else "No node offers cards at this time."
            )
        return found


class Nodes:
    """What is known of the nodes."""

    def __init__(self, sources: Sources, usage: NodeUsage) -> None:
        self._sources = sources
        self._usage = usage

    def candidates(self, view: PodView, *, pinned: set[str], left_out: AbstractSet[str]) -> Candidates:
        """The nodes that a pod may choose from.

        Args:
            view: The pod.
            pinned: Nodes that its other claims are allocated for.
            left_out: Nodes that kube-scheduler refused a short while ago.

        Raises:
            NoNodeError: The pod was made for a node, and its cards cannot be given out.
        """
        if view.node:
            node = self._node_of(view, pinned)
            return Candidates(pod=None, nodes=[(node, None, Amounts())], passed_over={})
        nodes: list[tuple[str, NodeFacts | None, Amounts]] = []
        passed_over: dict[str, int] = {}
        wishes = view.facts
        for name in sorted(self._sources.nodes.keys()):
            facts = self._sources.nodes.get(name)
            if facts is None or wishes is None or not self._sources.offered(name):
                continue
            if pinned and pinned != {name}:
                why = "another claim of the pod is allocated for another node"
            elif name in left_out:
                why = "kube-scheduler refused the node a short while ago"
            else:
                nodes.append((name, facts, self._usage.free(name, facts.allocatable)))
                continue
            passed_over[why] = passed_over.get(why, 0) + 1
        return Candidates(pod=wishes or PodFacts(), nodes=nodes, passed_over=passed_over)

    def may_try(self, view: PodView, node: str, *, pinned: set[str]) -> bool:
        """Whether a pod may use a node whose cards are offered, once pods that are in its way have gone."""
        facts, wishes = self._sources.nodes.get(node), view.facts
        if facts is None or wishes is None or not self._sources.offered(node) or pinned - {node}:
            return False
        return not Comparison(wishes).unfit(node, facts, facts.allocatable)

    def fits(self, view: PodView, node: str) -> bool:
        """Whether a pod that waits may be bound to a node, whatever its cards."""
        facts, wishes = self._sources.nodes.get(node), view.facts
        if facts is None or wishes is None:
            return False
        return not Comparison(wishes).unfit(node, facts, self._usage.free(node, facts.allocatable))

    def _node_of(self, view: PodView, pinned: AbstractSet[str]) -> str:
        """The node of a pod that was made for it; the kubelet looks at everything but the cards.

        Raises:
            NoNodeError: Its cards cannot be given out.
        """
        facts, remedy = self._sources.nodes.get(view.node), ""
        if pinned - {view.node}:
            why = "another claim of it is allocated for another node"
            remedy = "Leave spec.nodeName out; a nodeSelector lets kube-scheduler choose among nodes."
        elif facts is None or not facts.ready:
            why = "which is not Ready"
        elif not self._sources.offered(view.node):
            why = "which offers no cards at this time"
        else:
            return view.node
        raise NoNodeError(
            f"The pod was made for node {view.node}, {why}.", field="spec.nodeName", remedy=remedy
        )
