"""What is wrong with an object of a kind: the one function that the webhook calls."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from driver.validation.facts import ClusterFacts
from driver.validation.findings import Findings

__all__ = ["ClusterFacts", "Findings", "validate"]


def validate(
    kind: str,
    found: Mapping[str, Any],
    *,
    old: Mapping[str, Any] | None = None,
    facts: ClusterFacts,
) -> Findings:
    """Looks for what cannot work in an object.

    Args:
        kind: ResourceClaim, ResourceClaimTemplate, DeviceClass, AcceleratorPolicy or AcceleratorQuota; there
            are no findings about any other kind.
        found: The object as it would be stored, whatever somebody made of it.
        old: What is stored of it; where its spec is the same nothing is found.
        facts: The cluster.
    """
    del kind, found, old, facts
    return Findings()
