"""Which writes turn the slices that exist into the slices that are wanted.

Source of the rules: consumers use only the highest generation of a pool that they see, and only once
`resourceSliceCount` slices of it are there. So slices of one generation must never disagree, and a change
that takes more than one write has to be a new generation, or somebody sees half of it. A change of a single
slice is atomic and keeps the generation; so does putting back a slice that vanished.

Flow: deletes first, then updates, then creates: while it goes on the pool is incomplete, never wrong.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from driver.slices.content import JSON, content_digest


@dataclass(frozen=True, kw_only=True, slots=True)
class ExistingSlice:
    """What has to be known of a slice that exists.

    Attributes:
        name: Name of the object.
        uid: UID of the object.
        resource_version: The object's version, the precondition of every write.
        generation: Generation of its pool.
        digest: `content_digest` of its spec.
        node_name: Its `spec.nodeName`, "" if it has none.
    """

    name: str
    uid: str
    resource_version: str
    generation: int
    digest: str
    node_name: str = ""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Writes, in the order of the fields.

    Attributes:
        deletes: Slices to delete, with their UID and resourceVersion as preconditions.
        updates: What a slice that exists shall become; `metadata` holds its UID and resourceVersion.
        creates: Slices to make.
    """

    deletes: tuple[ExistingSlice, ...] = ()
    updates: tuple[JSON, ...] = ()
    creates: tuple[JSON, ...] = ()

    @property
    def empty(self) -> bool:
        """Whether nothing has to be written."""
        return not (self.deletes or self.updates or self.creates)


def plan_writes(
    wanted: Sequence[JSON],
    existing: Sequence[ExistingSlice],
    *,
    accepted: Mapping[str, str] | None = None,
) -> Plan:
    """Compares wanted slices of one pool with existing ones.

    Args:
        wanted: Slices without generation, as `publication_of` makes them.
        existing: All slices of the pool that exist, of whatever generation.
        accepted: Digest of a wanted content to the digest that the server made of it when it was written
            (dropped fields): what was stored counts as what was wanted, or it would be written for ever.
    """
    accepted = accepted or {}
    present = {item.name: item for item in existing}
    node_names = {str(item["metadata"]["name"]): item["spec"].get("nodeName", "") for item in wanted}
    extra = tuple(item for item in existing if node_names.get(item.name) != item.node_name)
    moved = {item.name for item in extra}
    top = max((item.generation for item in existing), default=0)
    missing: list[JSON] = []
    same: list[tuple[JSON, ExistingSlice]] = []
    different: list[tuple[JSON, ExistingSlice]] = []
    for item in wanted:
        found = present.get(str(item["metadata"]["name"]))
        if found is None or found.name in moved:
            missing.append(item)
            continue
        digest = content_digest(item["spec"])
        (same if found.digest in (digest, accepted.get(digest, "")) else different).append((item, found))
    # Only a changed slice of the newest generation can make that generation contradict itself.
    contradicts = any(found.generation == top for _, found in different) or any(
        name in node_names for name in moved
    )
    single = len(different) == 1 and not (extra or missing or any(f.generation < top for _, f in same))
    generation = max(top, 1)
    if contradicts and not single:
        generation = top + 1
    stale = [(item, found) for item, found in same if found.generation != generation]
    return Plan(
        deletes=extra,
        updates=tuple(_updated(item, found, generation) for item, found in (*different, *stale)),
        creates=tuple(with_generation(item, generation) for item in missing),
    )


def with_generation(item: JSON, generation: int) -> JSON:
    """The slice with a generation of its pool."""
    spec = item["spec"]
    return {**item, "spec": {**spec, "pool": {**spec["pool"], "generation": generation}}}


def _updated(item: JSON, found: ExistingSlice, generation: int) -> JSON:
    metadata = {**item["metadata"], "uid": found.uid, "resourceVersion": found.resource_version}
    return with_generation({**item, "metadata": metadata}, generation)
