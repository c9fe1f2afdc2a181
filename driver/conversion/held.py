"""What a container asks for that no node would hold: refused, or told, as prepare would do later.

Flow: what one container asks for, and in which ways -> refusals with the field's path, warnings.

Rules that people see: a privileged container sees all cards, so it has no part of one. A limit of a share and
a partition do not meet in one container (`PartitionBesideShare`). A program joins MPS with one card, so a cap
that MPS holds is for one card alone (`OneMpsShare`). Programs of CUDA see one partition.

Limits: what other claims of the pod bring is not looked at; prepare does.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from driver.api.share_config import CorePolicy
from driver.cards import IsolationLevel
from driver.conversion.asks import Ask
from driver.conversion.choosing import Choice
from driver.conversion.containers import Container
from driver.conversion.errors import ConversionError
from driver.conversion.names import Family
from driver.conversion.partitions import PARTITION_CLASS, offered
from driver.conversion.stock import Stock
from driver.conversion.ways import Way
from driver.isolation.rules import BESIDE_REMEDY, beside


def capped_by_mps(ask: Ask, choice: Choice) -> bool:
    """Whether it asks for a cap on compute that MPS has to hold, or what is stronger."""
    return Way.MPS in choice.ways and bool(ask.cores) and ask.core_policy is not CorePolicy.DISABLE


def check_held(
    container: Container,
    asks: Sequence[Ask],
    *,
    choice_of: Callable[[Family], Choice],
    stock: Stock,
    served: Mapping[str, str],
    warn: Callable[[str], None],
) -> None:
    """Looks at what a container asks for.

    Args:
        container: The container.
        asks: What it asks for.
        choice_of: How the pod chooses cards of a family.
        stock: The cluster's cards.
        served: The DeviceClasses that names stand for that are not in the catalogue.
        warn: Takes a sentence for whoever made the pod.

    Raises:
        ConversionError: No node would start it.
    """
    if container.wants_no_control:
        warn(f"{container.path}.env: CUDA_DISABLE_CONTROL lifts no limit here; a whole card has none.")
    for ask in asks:
        choice = choice_of(ask.family)
        # A partition is held by the card itself.
        if Way.PARTITION not in choice.ways or not offered(ask, choice=choice, stock=stock):
            _warn_unheld(container, ask, warn=warn)
    limited = [ask for ask in asks if not ask.whole and IsolationLevel.PRELOAD in ask.family.vendor.isolation]
    if limited and container.privileged:
        raise ConversionError(
            "A privileged container sees all cards of the node, so it cannot have a part of one.",
            field=f"{container.path}.securityContext.privileged",
            remedy="Leave it out, or ask for whole cards: a count and no amounts.",
        )
    for ask in limited:
        if choice_of(ask.family).ways != (Way.PARTITION,):
            _refuse_partition(container, ask, asks, choice_of=choice_of, served=served)
    for ask in asks:
        choice = choice_of(ask.family)
        if Way.MPS in choice.ways:
            _check_mps(container, ask, asks, choice=choice, warn=warn)
        parted = Way.PARTITION in choice.ways and (
            Way.SHARE not in choice.ways or offered(ask, choice=choice, stock=stock)
        )
        if parted and not ask.family.entry.templates and ask.count > 1:
            warn(f"{_field(container, ask)}: a program of CUDA sees one MIG device, however many there are.")


def _warn_unheld(container: Container, ask: Ask, *, warn: Callable[[str], None]) -> None:
    vendor = ask.family.vendor
    # A partition has sizes of its own and is asked for by another name.
    if ask.whole or not {*vendor.isolation} <= {IsolationLevel.HARDWARE, IsolationLevel.NONE}:
        return
    where = ["an administrator has brought what holds it"] if vendor.brought else []
    where += [f"the node offers it ({level})" for level in vendor.offered_by_node]
    if where:
        warn(
            f"{container.path}: a limit of a part of a card of {vendor.title} is held only where "
            f"{' or '.join(where)}; elsewhere a policy has to allow that nothing does (isolation: none)."
        )
    else:
        warn(
            f"{container.path}: no limit of a part of a card of {vendor.title} can be "
            "held; a policy has to allow that (isolation: none)."
        )


def _refuse_partition(
    container: Container,
    ask: Ask,
    asks: Sequence[Ask],
    *,
    choice_of: Callable[[Family], Choice],
    served: Mapping[str, str],
) -> None:
    vendor = ask.family.vendor
    for other in asks:
        ours = other.family is not ask.family and other.family.vendor is vendor
        if ours and Way.PARTITION in choice_of(other.family).ways:
            raise _beside(container, ask, other.family.count)
    for name in map(str, container.amounts("limits")):
        if served.get(name) == PARTITION_CLASS or name.startswith(vendor.plugin_prefixes):
            raise _beside(container, ask, name)


def _beside(container: Container, ask: Ask, name: str) -> ConversionError:
    return ConversionError(
        beside(container.path, share=ask.family.count, other=f"what {name} stands for"),
        field=f"{container.path}.resources.limits[{name}]",
        remedy=BESIDE_REMEDY,
    )


def _check_mps(
    container: Container,
    ask: Ask,
    asks: Sequence[Ask],
    *,
    choice: Choice,
    warn: Callable[[str], None],
) -> None:
    cores = ask.family.resources["cores"]
    if not capped_by_mps(ask, choice):
        if not ask.whole:
            warn(
                f"{_field(container, ask)}: without a cap on compute ({cores}) MPS holds something of the "
                "share only where the administrator lets it hold memory (mps.memory)."
            )
        return
    if sum(other.count for other in asks if other.family.vendor is ask.family.vendor) > 1:
        raise ConversionError(
            "A program joins MPS with one card, so a container cannot have another one beside a share whose "
            "cap MPS holds.",
            field=_field(container, ask),
            remedy=f"Ask for one card in each container, or for whole cards; or leave out {cores}, or the "
            "mode.",
        )


def _field(container: Container, ask: Ask) -> str:
    return f"{container.path}.resources.limits[{ask.family.count}]"
