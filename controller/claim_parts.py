"""What the parts of the controller keep of a ResourceClaim, for one informer.

Purpose: all claims are watched, decoded and stored once in a process, however many parts follow them.

Flow: `claims_informer` gives the informer, with those parts that there are; each part follows its own view of
the store (`driver.kube.store.Part`).

Limits: each reader sees its part alone. A claim that one part cannot read is still kept for the others.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import structlog

from controller.allocating.views import ClaimView as Allocatable
from controller.allocating.views import claim_view as allocatable_view
from controller.explaining.views import ClaimView as Explained
from controller.explaining.views import claim_view as explained_view
from controller.publishing.unnumbered import Held, unnumbered_view
from controller.quota.books import ClaimView as Charged
from controller.quota.books import claim_view as charged_view
from driver.kube.client import JSON, KubeClient
from driver.kube.informer import Informer
from driver.kube.resources import RESOURCE_CLAIMS

_log = structlog.get_logger("controller")


@dataclass(frozen=True, slots=True)
class ClaimParts:
    """A ResourceClaim.

    Attributes:
        explained: What explaining needs of it.
        unnumbered: What publishing needs: cards that it holds without a shareID.
        allocatable: What allocating needs.
        charged: What quotas need.
    """

    explained: Explained | None = None
    unnumbered: Held | None = None
    allocatable: Allocatable | None = None
    charged: Charged | None = None


def claims_informer(
    client: KubeClient, *, native: bool, explained: bool, charged: bool
) -> Informer[ClaimParts]:
    """The informer of all claims, with the parts that are needed.

    Args:
        client: The API server.
        native: Whether kube-scheduler allocates.
        explained: Whether it is explained why claims wait, where kube-scheduler allocates.
        charged: Whether quotas are held.
    """
    return Informer(
        client,
        RESOURCE_CLAIMS,
        projection(
            explained=explained_view if native and explained else None,
            unnumbered=unnumbered_view if native else None,
            allocatable=None if native else allocatable_view,
            charged=partial(charged_view, carried=not native) if charged else None,
        ),
    )


def projection(**parts: Callable[[JSON], Any] | None) -> Callable[[JSON], ClaimParts | None]:
    """A projection of claims.

    Args:
        parts: By attribute of `ClaimParts` what makes it of a claim; None, as without it, for a part that
            there is not.
    """
    wanted: Mapping[str, Callable[[JSON], Any]] = {
        name: made for name, made in parts.items() if made is not None
    }

    def project(document: JSON) -> ClaimParts | None:
        found = {name: _guarded(make, document, part=name) for name, make in wanted.items()}
        return ClaimParts(**found) if any(one is not None for one in found.values()) else None

    return project


def _guarded(make: Callable[[JSON], Any], document: JSON, *, part: str) -> Any:
    try:
        return make(document)
    except Exception:  # noqa: BLE001
        # Anybody may write claims: one that this part cannot read must not hide it from the others.
        metadata = document.get("metadata") or {}
        _log.exception(
            "claim is passed over",
            part=part,
            claim=f"{metadata.get('namespace')}/{metadata.get('name')}",
        )
        return None
