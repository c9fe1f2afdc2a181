"""What admission knows of the cluster: cards, classes and policies, followed by informers.

Flow: AcceleratorNodes as the publisher keeps them (JSON text) -> the cards of each node -> the kinds that
conversion asks about, and the facts that validation asks about.

Limits: reads and takes notes only. The cards of a node are read again only when its text changed; a node
whose text cannot be read is left as it was, as for publishing.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import structlog

from controller.by_turns import AtOnce, Beside
from controller.extended import CARRIED, by_resource, class_of, resource_of
from driver.api.node import cards_of, decode_status
from driver.api.policy import NamedPolicy
from driver.conversion import Stock, stock_of
from driver.errors import DragomanError
from driver.fleet import Fleet
from driver.kube.client import JSON
from driver.kube.informer import Handler
from driver.kube.store import Watched
from driver.validation.cards import KnownCards
from driver.validation.facts import ClusterFacts

T = TypeVar("T")

_log = structlog.get_logger("admission")


class Inventory(Protocol):
    """An AcceleratorNode as an informer keeps it."""

    @property
    def status(self) -> bytes:
        """Its status without conditions, as JSON text; b"" if it has none."""


def class_document(document: JSON) -> JSON:
    """Projects a DeviceClass: all that it says, and nothing about who wrote it."""
    metadata = document["metadata"]
    kept = {key: metadata[key] for key in ("name", "labels", "creationTimestamp") if key in metadata}
    said = (metadata.get("annotations") or {}).get(CARRIED)
    if said:
        kept["annotations"] = {CARRIED: said}
    return {"metadata": kept, "spec": document.get("spec") or {}}


@dataclass(frozen=True)
class _Named:
    """A class as `by_resource` reads it."""

    extended: str
    created: str


class Cluster:
    """The cluster, as far as admission asks about it."""

    def __init__(
        self,
        *,
        inventories: Watched[Inventory],
        classes: Watched[JSON],
        policies: Watched[NamedPolicy],
        class_is_ours: Callable[[Mapping[str, Any]], bool],
        standard: Callable[[str], bool],
        release: Callable[[], str],
        amounts_kept: Callable[[], bool | None],
        native: bool,
        cards_may_come: bool = False,
        offered: Callable[[str], bool] = lambda _resource: False,
        fleet: Fleet | None = None,
        beside: Beside | None = None,
    ) -> None:
        """Subscribes to the informers.

        Args:
            inventories: AcceleratorNodes.
            classes: DeviceClasses, by `class_document`.
            policies: AcceleratorPolicies.
            class_is_ours: Whether a DeviceClass picks only devices of our driver.
            standard: Whether a class of this name is ours even where it does not exist.
            release: Kubernetes release of the API server; "" if not known.
            amounts_kept: Whether it keeps the amounts that claims ask for; None if not known.
            native: Whether kube-scheduler allocates.
            cards_may_come: Whether larger cards than there are may come.
            offered: Whether a node offers an extended resource by itself, as by a device plugin.
            fleet: Where the cards of all nodes are put for others too.
            beside: Where the facts are read: nothing changes while they are.
        """
        self._inventories = inventories
        self._classes = classes
        self._policies: dict[str, NamedPolicy] = {}
        for key in list(policies.keys()):
            self._policy_changed(key, None, policies.get(key))
        self._class_is_ours = class_is_ours
        self._standard = standard
        self._release = release
        self._amounts_kept = amounts_kept
        self._native = native
        self._cards_may_come = cards_may_come
        self._offered = offered
        self._cards = KnownCards(fleet)
        self._kinds: dict[str, Stock] = {}
        self._stock: Stock | None = None
        self._documents: dict[str, JSON] = {}
        self._ours: dict[str, bool] = {}
        self._extended: dict[str, str] = {}
        self._beside = beside or AtOnce()
        inventories.subscribe(self._noted(self._node_changed))
        classes.subscribe(self._noted(self._class_changed))
        policies.subscribe(self._noted(self._policy_changed))

    @property
    def stock(self) -> Stock:
        """The kinds of cards that shares can be had of."""
        if self._stock is None:
            self._stock = tuple(sorted({kind for kinds in self._kinds.values() for kind in kinds}))
        return self._stock

    @property
    def extended(self) -> Mapping[str, str]:
        """DeviceClasses by the `extendedResourceName` that they claim."""
        return self._extended

    def class_of(self, resource: str) -> str | None:
        """The DeviceClass of ours that an extended resource stands for; None if there is none."""
        name = class_of(resource, self._extended)
        return name if name and self.is_ours(name) else None

    def served(self, resource: str) -> str | None:
        """The same, if nobody but our allocator serves the resource."""
        if self._native or self._offered(resource):
            return None
        return self.class_of(resource)

    def is_ours(self, name: str) -> bool:
        """Whether a DeviceClass of this name picks only devices of our driver."""
        return self._ours.get(name) or self._standard(name)

    def facts(self) -> ClusterFacts:
        """What validation has to know, as it is now."""
        return ClusterFacts(
            release=self._release(),
            is_ours=self.is_ours,
            class_is_ours=self._class_is_ours,
            classes=self._documents,
            cards=self._cards,
            amounts_kept=self._amounts_kept(),
            native=self._native,
            cards_may_come=self._cards_may_come,
            policies=tuple(self._policies.values()),
        )

    def _noted(self, handler: Handler[T]) -> Handler[T]:
        def noted(key: str, before: T | None, after: T | None) -> None:
            self._beside.change(lambda: handler(key, before, after))

        return noted

    def _node_changed(self, key: str, before: Inventory | None, after: Inventory | None) -> None:
        if after is None or not after.status:
            self._cards.remove(key)
            self._kinds.pop(key, None)
            self._stock = None
            return
        if before is not None and before.status == after.status:
            return
        try:
            cards = cards_of(decode_status(json.loads(after.status)))
        except (DragomanError, ValueError) as unreadable:
            _log.warning("inventory cannot be read", node=key, error=str(unreadable))
            return
        self._cards.put(key, cards)
        # A thousand nodes have a handful of kinds: the tuples are shared by whoever is equal.
        kinds = stock_of(cards)
        self._kinds[key] = next((one for one in self._kinds.values() if one == kinds), kinds)
        self._stock = None

    def _policy_changed(self, key: str, _before: NamedPolicy | None, after: NamedPolicy | None) -> None:
        if after is None:
            self._policies.pop(key, None)
        else:
            self._policies[key] = after

    def _class_changed(self, key: str, _before: JSON | None, after: JSON | None) -> None:
        if after is None:
            self._documents.pop(key, None)
            self._ours.pop(key, None)
        else:
            self._documents[key] = after
            self._ours[key] = self._class_is_ours(after)
        self._extended = by_resource(
            (
                name,
                _Named(resource_of(document), str(document["metadata"].get("creationTimestamp") or "")),
            )
            for name, document in self._documents.items()
        )
