"""What a container asks for, asked of partitions: the mode `mig`, and templates where the cluster has them.

Flow: an ask and the partitions that the cluster has -> alternatives of one request, smallest size first.

Rules that people see:

* Memory alone decides, as under HAMi: a partition has at least as much as is asked. Its compute is that of
  its profile, so a cap on compute asks for nothing.
* Where partitions are made for claims the smallest size of each model is an alternative, and no larger one:
  where that has no place a larger one has none either, and a quota counts the largest that could be given.
  Of partitions that are there each size is one. On a node the smallest of which one is free is given.
* Where no such partition is known, any that is large enough.
* No memory, or 100 percent, is a partition of all of a card's compute (`7g.40gb`).
* Percent goes by what a profile is called: `3g.20gb` is 50 percent of a card of 40 GiB, though it has a
  little less. So does an amount that no partition has, if the name of one says it: a card of 40960 MiB has
  no partition of as much.
* Of cards that are cut by templates the one that holds what is asked, by its name, and no larger one.

Limits: at most 8 alternatives, those for shares included. Which cards can be cut, and so which sizes there
are, is what AcceleratorNodes tell at this moment; sizes that come later are for pods that come later.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from driver.cards import CORES_PER_CARD, DRIVER_NAME
from driver.conversion import cel_text
from driver.conversion.asks import Ask
from driver.conversion.choosing import Choice
from driver.conversion.stock import CardKind, Stock
from driver.quantities import MIB, format_bytes, format_count

JSON = dict[str, Any]

PARTITION_CLASS = f"partition.{DRIVER_NAME}"
"""The DeviceClass of all partitions."""


@dataclass(frozen=True, kw_only=True)
class _Size:
    """Partitions of one size, of those models alone that are said, if any are."""

    memory_mib: int
    models: tuple[str, ...] = ()


def partitions_of(
    ask: Ask,
    *,
    count: int,
    choice: Choice,
    stock: Stock,
    most: int,
    path: str,
    warn: Callable[[str], None],
) -> list[JSON]:
    """The alternatives, each without a name; none where nothing can be said of the cluster's partitions.

    Args:
        ask: What is asked for, for each partition.
        count: How many partitions, each of another card.
        choice: Which cards the pod leaves.
        stock: The cluster's cards and partitions.
        most: How many alternatives there may be.
        path: Path of the container's limits, for warnings.
        warn: Takes a sentence for whoever made the pod.
    """
    form = _Form(count=count, choice=choice)
    kinds = [kind for kind in stock if kind.profile and choice.fits(kind)]
    if ask.family.entry.templates:
        name = _template(ask)
        found = [kind.memory_mib for kind in kinds if name and kind.profile == name]
        return [form.option(_memory(min(found)), cel_text.profile_is(name))] if found else []
    if ask.cores:
        warn(
            f"{path}[{ask.family.resources['cores']}]: a partition has the compute of its profile; only "
            "memory is asked for."
        )
    if not kinds:
        warn(
            f"metadata.annotations[{ask.family.entry.annotation('mode')}]: the cluster offers no such "
            "partition; the pod waits until a policy does (partitions: Dynamic)."
        )
    if not ask.memory_mib and not ask.memory_percent:
        return [form.option({"cores": format_count(CORES_PER_CARD)})]
    if ask.memory_percent:
        sizes = _sizes(kinds, lambda kind: _in_percent(kind) >= ask.memory_percent)
        return [form.of_size(size) for size in sizes[:most]]
    sizes = _sizes(kinds, lambda kind: kind.memory_mib >= ask.memory_mib)
    if sizes:
        return [form.of_size(size) for size in sizes[:most]]
    called = _sizes(kinds, lambda kind: kind.called_mib >= ask.memory_mib)
    if not called:
        return [form.option(_memory(ask.memory_mib))]
    warn(
        f"{path}[{ask.family.resources['memory']}]: no partition has {ask.memory_mib} MiB; one that is "
        f"called so large is given, of {called[0].memory_mib} MiB."
    )
    return [form.of_size(size) for size in called[:most]]


def offered(ask: Ask, *, choice: Choice, stock: Stock) -> bool:
    """Whether the cluster offers partitions of which one could be meant."""
    kinds = [kind for kind in stock if kind.profile and choice.fits(kind)]
    if ask.family.entry.templates:
        name = _template(ask)
        return bool(name) and any(kind.profile == name for kind in kinds)
    return bool(kinds)


def _template(ask: Ask) -> str:
    """The template that the amounts are of; "" for a whole card."""
    if not ask.memory_mib:
        return ""
    return next((one.name for one in ask.family.entry.templates if one.memory_mib == ask.memory_mib), "")


def _in_percent(kind: CardKind) -> int:
    has = max(kind.called_mib, kind.memory_mib)
    return has * 100 // kind.of_mib if kind.of_mib else 0


def _sizes(kinds: Sequence[CardKind], holds: Callable[[CardKind], bool]) -> list[_Size]:
    meant: set[CardKind] = set()
    made: set[str] = set()
    for kind in sorted(filter(holds, kinds), key=lambda one: one.memory_mib):
        if kind.there or kind.model not in made:
            meant.add(kind)
        if not kind.there:
            made.add(kind.model)
    found = []
    for size in sorted({kind.memory_mib for kind in meant}):
        same = [kind for kind in kinds if kind.memory_mib == size]
        enough = sorted({kind.model for kind in meant if kind.memory_mib == size})
        unasked = {kind.model for kind in same} - set(enough)
        found.append(_Size(memory_mib=size, models=tuple(enough) if unasked else ()))
    return found


def _memory(mib: int) -> JSON:
    return {"memory": format_bytes(mib * MIB)}


@dataclass(frozen=True, kw_only=True)
class _Form:
    """What all alternatives have in common."""

    count: int
    choice: Choice

    def of_size(self, size: _Size) -> JSON:
        models = [cel_text.model_is(size.models, field="")] if size.models else []
        return self.option(_memory(size.memory_mib), *models, cel_text.memory_is("==", size.memory_mib))

    def option(self, amounts: JSON, *selectors: str) -> JSON:
        return {
            "deviceClassName": PARTITION_CLASS,
            "selectors": [{"cel": {"expression": one}} for one in (*self.choice.of_partitions, *selectors)],
            "allocationMode": "ExactCount",
            "count": self.count,
            "capacity": {"requests": amounts},
        }
