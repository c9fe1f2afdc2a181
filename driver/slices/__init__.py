"""ResourceSlices: what a node's cards look like to the cluster, and which writes make it so.

Purpose: the one place that knows the shape of a slice. `content` turns cards into slices, `plan` compares
slices that are wanted with slices that exist, `readback` finds the fields that the API server dropped.

Flow: cards -> `publication_of` -> `plan_writes` -> (writes, by whoever has a client) -> `dropped_fields`.

Limits: pure; slices are plain JSON objects, because that is what is compared and what is sent.
"""

from driver.slices.content import (
    FENCE,
    MAX_DEVICES,
    MAX_DEVICES_WITH_TAINTS,
    UNHEALTHY_TAINT,
    Publication,
    canonical,
    content_digest,
    publication_of,
    slice_name,
    tainted,
)
from driver.slices.plan import ExistingSlice, Plan, plan_writes, with_generation
from driver.slices.readback import DroppedField, dropped_fields

__all__ = [
    "FENCE",
    "MAX_DEVICES",
    "MAX_DEVICES_WITH_TAINTS",
    "UNHEALTHY_TAINT",
    "DroppedField",
    "ExistingSlice",
    "Plan",
    "Publication",
    "canonical",
    "content_digest",
    "dropped_fields",
    "plan_writes",
    "publication_of",
    "slice_name",
    "tainted",
    "with_generation",
]
