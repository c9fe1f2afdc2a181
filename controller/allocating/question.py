"""What is asked for a pod: its claims, with their amounts, and the nodes that it may use.

Flow: `claims_of` finds the claims, `refuse_pod` looks at the pod itself, `mine` reads the claims of our
classes; `question` does all of it, and takes down which nodes there are to choose from.

Limits: reads only, and only what the informers hold at this moment, beside what the caller read of claims
that are too long to be kept.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

from controller.allocating.candidates import Candidates, Nodes
from controller.allocating.errors import (
    AmountsUnknownError,
    ExtendedResourceError,
    MixedDriversError,
    PodTooLongError,
)
from controller.allocating.sources import Sources
from controller.allocating.views import MAX_LENGTH, MAX_NAMES, MAX_WISHES, ClaimView, ClassView, PodView
from controller.claims import class_names
from controller.extended import by_resource, class_of
from driver.api.asked import check_stamp, only_carried, restored
from driver.api.share_allocation import refuse_in_spec
from driver.errors import ConfigError
from driver.kube.client import JSON


@dataclass(frozen=True, kw_only=True)
class Question:
    """What is asked for a pod.

    Attributes:
        claims: Its claims of our classes that are not allocated, as the allocator reads them.
        candidates: The nodes that it may choose from.
    """

    claims: Sequence[JSON]
    candidates: Candidates


class Questions:
    """Reads what pods ask for."""

    def __init__(self, sources: Sources, nodes: Nodes) -> None:
        self._sources = sources
        self._nodes = nodes

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

    def question(self, key: str, view: PodView, *, left_out: AbstractSet[str]) -> Question | None:
        """What is asked for a pod; None if a claim is missing, or is too long to be kept.

        Raises:
            AllocationError: As `refuse_pod`, `mine` and `Nodes.candidates`; also ClaimError and ConfigError.
        """
        claims = self.claims_of(key, view) or ()
        waiting = [(name, claim) for name, claim in claims if not claim.allocated]
        if any(claim.asked is None for _, claim in waiting) or not (view.node or view.wishes):
            return None
        documents = [document for _, _, document in self.mine(key, waiting, {})]
        self.refuse_pod(view, ours=bool(documents))
        if not documents:
            return None
        pinned = {claim.node for _, claim in claims if claim.node}
        candidates = self._nodes.candidates(view, pinned=pinned, left_out=left_out)
        return Question(claims=documents, candidates=candidates)

    def mine(
        self, key: str, waiting: Sequence[tuple[str, ClaimView]], read: Mapping[str, bytes]
    ) -> list[tuple[str, ClaimView, JSON]]:
        """The claims of our classes, as the allocator reads them.

        Args:
            key: The pod, `namespace/name`.
            waiting: Claims of it that are not allocated, by name.
            read: `asked_text` of those that are too long to be kept, by UID.

        Raises:
            AmountsUnknownError: It is not known yet whether the API server keeps amounts.
            MixedDriversError: A claim asks for others' devices as well.
            ClaimNotStampedError: A claim may have lost its amounts.
            ConfigError: A claim is too long, or its configuration is wrong.
        """
        namespace = key.partition("/")[0]
        asked = [(name, claim, self._asked(name, claim, read)) for name, claim in waiting]
        ours = [(name, claim, one) for name, claim, one in asked if self._is_ours(one)]
        return [
            (name, claim, self._document(f"{namespace}/{name}", claim.uid, one)) for name, claim, one in ours
        ]

    def refuse_pod(self, view: PodView, *, ours: bool) -> None:
        """Looks at the pod without its claims.

        Args:
            view: The pod.
            ours: Whether a claim of it waits for devices of our driver.

        Raises:
            PodTooLongError: It has more of something than is looked at.
            ExtendedResourceError: It asks for our cards by an extended resource that no node offers itself.
        """
        self._refuse_extended(view)
        if ours and view.too_long:
            raise PodTooLongError(
                f"The pod has more than {MAX_NAMES} claims or extended resources, or their names have more "
                f"than {MAX_LENGTH} bytes.",
                field="spec",
                remedy="Ask for more in each claim, or in several pods.",
            )
        if ours and not (view.node or view.wishes):
            raise PodTooLongError(
                f"The pod's node selector, node affinity and tolerations have more than {MAX_WISHES} bytes.",
                field="spec",
                remedy="Say it shorter, for example by a label that the nodes have in common.",
            )

    def _refuse_extended(self, view: PodView) -> None:
        if not view.extended:
            return
        stands_for = by_resource(self._classes())
        for _, resource, count in view.extended:
            name = class_of(resource, stands_for)
            if name is None or not self._class_is_ours(name) or self._offered_by_a_node(resource):
                continue
            raise ExtendedResourceError(
                f"The pod asks for {resource}: {count}, which stands for DeviceClass {name}. kube-scheduler "
                "alone makes claims of such resources, and in mode controller it has no cards to give out. "
                "Dragoman's webhook, which would have made a claim of it, was not asked about the pod.",
                field="spec.containers[].resources",
                remedy="See that the webhook runs and that nothing keeps the pod from conversion, then make "
                f"it anew; or name a ResourceClaimTemplate that asks for class {name} in "
                "spec.resourceClaims and in resources.claims of the container, and leave the resource out.",
            )

    def _classes(self) -> Iterator[tuple[str, ClassView]]:
        for name in self._sources.classes.keys():  # noqa: SIM118 - a store, no dict
            view = self._sources.classes.get(name)
            if view is not None:
                yield name, view

    def _offered_by_a_node(self, resource: str) -> bool:
        return any(resource in node.extended for node in self._sources.nodes.values())

    def _asked(self, name: str, claim: ClaimView, read: Mapping[str, bytes]) -> JSON:
        """What a claim asks for: its `spec.devices` under `devices`, and `annotations`."""
        text = claim.asked.text if claim.asked is not None else read.get(claim.uid, b"")
        if not text:
            raise ConfigError(
                f"ResourceClaim {name} is too long to be looked at.", remedy="Make its selectors shorter."
            )
        found: JSON = json.loads(text)
        return found

    def _is_ours(self, asked: JSON) -> bool:
        known = [name for name in class_names(asked["devices"]) if self._sources.classes.get(name)]
        kinds = {self._class_is_ours(name) for name in known}
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

    def _document(self, key: str, uid: str, asked: JSON) -> JSON:
        """A claim (`namespace/name`) as the allocator reads it, with the amounts that it asks for."""
        namespace, _, name = key.partition("/")
        devices = self._with_amounts(asked)
        refuse_in_spec(devices.get("config") or [], field=f"{name}: spec.devices.config")
        for used in dict.fromkeys(class_names(devices)):
            self._refuse_class(used)
        return {"metadata": {"name": name, "namespace": namespace, "uid": uid}, "spec": {"devices": devices}}

    def _refuse_class(self, name: str) -> None:
        """Refuses here, before anything is allocated, what the node would refuse."""
        view = self._sources.classes.get(name)
        config = json.loads(view.document)["spec"].get("config") if view is not None else None
        if not config:
            return
        field = f"DeviceClass {name}: spec.config"
        refuse_in_spec(config, field=field)
        if carried := only_carried({}, config, request="", field=field):
            raise ConfigError(
                f"A class asks for no amounts, but its ShareConfig says {' and '.join(sorted(carried))}.",
                field=f"{field}[].opaque.parameters.capacity",
                remedy="Leave capacity out of it; claims ask for amounts in capacity.requests.",
            )

    def _with_amounts(self, asked: JSON) -> JSON:
        kept = self._sources.amounts_kept()
        if kept is None:
            raise AmountsUnknownError(
                "Whether the API server keeps the amounts that claims ask for is not known yet."
            )
        devices = asked["devices"]
        # A server that keeps them now may have dropped them before it was upgraded: what the webhook carried
        # over then counts as ever, or a claim for a share would get a whole card.
        check_stamp(devices, asked["annotations"], is_ours=self._class_is_ours, kept=kept)
        return restored(devices, is_ours=self._class_is_ours)
