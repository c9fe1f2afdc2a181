"""Where allocating looks, as seams.

Limits: reads only. Nothing of this package knows an informer or a publisher, only these.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from controller.allocating.pod_fit import NodeFacts
from controller.allocating.views import ClaimView, ClassView, PodView
from driver.kube.informer import Handler
from driver.kube.store import Store


class Inventory(Protocol):
    """A stored AcceleratorNode."""

    @property
    def status(self) -> bytes:
        """Its status as JSON text; b"" if it has none."""


class Inventories(Protocol):
    """The stored AcceleratorNodes."""

    def get(self, key: str) -> Inventory | None:
        """That of a node."""

    def keys(self) -> list[str]:
        """Names of all nodes that have one."""

    def subscribe(self, handler: Handler[Any]) -> None:
        """Adds a handler of changes."""


@dataclass(frozen=True, kw_only=True)
class Sources:
    """Where the allocator looks.

    Attributes:
        claims: All claims.
        pods: All pods.
        nodes: All Nodes.
        classes: All DeviceClasses.
        inventories: All AcceleratorNodes.
        offered: Whether the cards of a node may be given out now: its agent is Ready, and kube-scheduler has
            had no slices of it for long enough.
        release: Kubernetes release of the cluster such as `1.36`; "" while it is not known.
        amounts_kept: Whether the API server keeps the amounts that claims ask for; None if not known yet.
    """

    claims: Store[ClaimView]
    pods: Store[PodView]
    nodes: Store[NodeFacts]
    classes: Store[ClassView]
    inventories: Inventories
    offered: Callable[[str], bool]
    release: Callable[[], str]
    amounts_kept: Callable[[], bool | None]
