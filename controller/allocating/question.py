"""What is asked for a pod: its claims, with their amounts, and the nodes that it may use.

Flow: `claims_of` finds the claims, `is_ours` sorts out those of other drivers, `document` reads one for the
allocator, `nodes_for` says where the pod may go.

Limits: reads only, and only what the informers hold at this moment.
"""

from __future__ import annotations

import json
from collections.abc import Set as AbstractSet

from controller.allocating.errors import AmountsUnknownError, MixedDriversError, NoNodeError
from controller.allocating.pod_fit import unfit
from controller.allocating.sources import Sources
from controller.allocating.usage import NodeUsage
from controller.allocating.views import ClaimView, PodView
from driver.api.asked import check_stamp, restored
from driver.api.share_allocation import refuse_in_spec
from driver.errors import ConfigError
from driver.kube.client import JSON


class Questions:
    """Reads what pods ask for."""

    def __init__(self, sources: Sources, usage: NodeUsage) -> None:
        self._sources = sources
        self._usage = usage

    def claims_of(self, key: str, view: PodView) -> list[tuple[str, ClaimView]] | None:
        """The pod's claims; None while one does not exist."""
        namespace = key.partition("/")[0]
        found: list[tuple[str, ClaimView]] = []
        for name in dict.fromkeys(view.claims):
            claim = self._sources.claims.get(f"{namespace}/{name}") if name else None
            if claim is None or claim.deleting:
                return None
            found.append((name, claim))
        return found

    def is_ours(self, claim: ClaimView) -> bool:
        """Whether a claim asks for devices of our driver.

        Raises:
            MixedDriversError: It asks for others' as well.
        """
        kinds = {self._class_is_ours(name) for name in claim.classes}
        if kinds == {True, False}:
            raise MixedDriversError(
                "A claim asks for devices of this driver and of others at once.",
                field="spec.devices.requests",
                remedy="Make a claim for each driver; a pod may have several.",
            )
        return kinds == {True}

    def _class_is_ours(self, name: str) -> bool:
        found = self._sources.classes.get(name)
        return found is not None and found.ours

    def document(self, name: str, claim: ClaimView) -> JSON:
        """A claim as the allocator reads it, with the amounts that it asks for.

        Raises:
            AmountsUnknownError: It is not known yet whether the API server keeps them.
            ClaimNotStampedError: They may have been lost.
            ConfigError: The claim is too long, a ShareConfig does not decode, or it brings an allocation.
        """
        if not claim.waiting:
            raise ConfigError(
                f"ResourceClaim {name} is too long to be looked at.", remedy="Make its selectors shorter."
            )
        document = self._with_amounts(json.loads(claim.waiting))
        config = document["spec"]["devices"].get("config") or []
        refuse_in_spec(config, field=f"{name}: spec.devices.config")
        return document

    def nodes_for(self, view: PodView, *, pinned: set[str], left_out: AbstractSet[str]) -> list[str]:
        """The nodes that a pod may use and whose cards are offered, sorted.

        Args:
            view: The pod.
            pinned: Nodes that its other claims are allocated for.
            left_out: Nodes that kube-scheduler refused a short while ago.

        Raises:
            NoNodeError: There is none; it says how many are ruled out by what.
        """
        reasons: dict[str, int] = {}
        found: list[str] = []
        for name in sorted(self._sources.nodes.keys()):
            facts = self._sources.nodes.get(name)
            if facts is None or view.facts is None or not self._sources.offered(name):
                continue
            if pinned and pinned != {name}:
                why = "another claim of the pod is allocated for another node"
            elif name in left_out:
                why = "kube-scheduler refused the node a short while ago"
            else:
                free = self._usage.free(name, facts.allocatable)
                why = unfit(view.facts, name=name, node=facts, free=free)
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

    def _with_amounts(self, document: JSON) -> JSON:
        kept = self._sources.amounts_kept()
        if kept is None:
            raise AmountsUnknownError(
                "Whether the API server keeps the amounts that claims ask for is not known yet."
            )
        devices, annotations = document["spec"]["devices"], document["metadata"]["annotations"]
        # A server that keeps them now may have dropped them before it was upgraded: what the webhook carried
        # over then counts as ever, or a claim for a share would get a whole card.
        if not kept:
            check_stamp(devices, annotations, is_ours=self._class_is_ours)
        return {**document, "spec": {"devices": restored(devices, is_ours=self._class_is_ours)}}
