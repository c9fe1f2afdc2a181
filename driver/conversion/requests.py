"""One request of a claim.

Rules that people see: memory in percent becomes one alternative for each size of card that the cluster has,
smallest first, so that a small card is tried before a large one is cut; the amount is rounded down to whole
MiB. A pod that accepts several ways of sharing has alternatives for each, in its order. The API knows at most
8 alternatives.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from driver.conversion import cel_text
from driver.conversion.asks import Ask
from driver.conversion.choosing import Choice
from driver.conversion.errors import CardSizesUnknownError
from driver.conversion.partitions import PARTITION_CLASS, offered, partitions_of
from driver.conversion.stock import Stock
from driver.conversion.ways import Way
from driver.quantities import MIB, format_bytes, format_count

JSON = dict[str, Any]

_MAX_ALTERNATIVES = 8


def request_of(
    ask: Ask,
    *,
    name: str,
    count: int,
    choice: Choice,
    stock: Stock,
    path: str,
    warn: Callable[[str], None],
) -> JSON:
    """Makes a request.

    Args:
        ask: What is asked for, for each card.
        name: Name of the request.
        count: How many cards.
        choice: Which cards the pod leaves.
        stock: The cluster's cards.
        path: Path of the container's limits, for errors and warnings.
        warn: Takes a sentence for whoever made the pod.

    Raises:
        CardSizesUnknownError: Percent of a card whose size is not known, or is one of too many.
    """
    ways = (Way.SHARE,) if choice.implied and ask.whole else choice.ways
    shares = any(way is not Way.PARTITION for way in ways)
    # Of a pod that takes a share as well nobody knows that it means partitions before there are some.
    known = Way.PARTITION in ways and (not shares or offered(ask, choice=choice, stock=stock))
    # Who is cut by templates is held by the card itself: no share that nothing holds takes the place of that.
    held = known and bool(ask.family.entry.templates)
    options = _shares(ask, choice, count=count, stock=stock, path=path, held=held) if shares else []
    if choice.implied and not shares:
        warn(
            f"{path}[{ask.family.count}]: the cluster shares no such card of {ask.family.vendor.title}, so a "
            "partition is given."
        )
    if Way.PARTITION in ways:
        most = _MAX_ALTERNATIVES - len(options)
        parts = (
            partitions_of(ask, count=count, choice=choice, stock=stock, most=most, path=path, warn=warn)
            if known and most
            else []
        )
        if not parts and not options:
            raise CardSizesUnknownError(
                f"A part of a card of {ask.family.vendor.title} has no size, since the cluster offers no "
                "partition that has so much of its card.",
                field=_field(ask, path),
                remedy=_instead(ask),
            )
        named = [{"name": f"part-{number}", **one} for number, one in enumerate(parts, start=1)]
        first = ways[0] is Way.PARTITION
        options = [*named, *options] if first else [*options, *named]
    if len(options) == 1 and not ask.memory_percent:
        (only,) = options
        return {"name": name, "exactly": {key: value for key, value in only.items() if key != "name"}}
    return {"name": name, "firstAvailable": options}


def is_parted(request: JSON) -> bool:
    """Whether a partition may be given for the request."""
    options = request.get("firstAvailable") or [request["exactly"]]
    return any(one["deviceClassName"] == PARTITION_CLASS for one in options)


def whole_devices(*, name: str, device_class: str, count: int) -> JSON:
    """A request for whole devices of a class."""
    exactly = {"deviceClassName": device_class, "allocationMode": "ExactCount", "count": count}
    return {"name": name, "exactly": exactly}


def _shares(ask: Ask, choice: Choice, *, count: int, stock: Stock, path: str, held: bool) -> list[JSON]:
    if not ask.memory_percent:
        more = (cel_text.HELD,) if held else ()
        return [{"name": "share", **_option(ask, choice, *more, count=count, memory_mib=ask.memory_mib)}]
    return [
        {
            "name": f"of-{size}-mib",
            **_option(
                ask, choice, count=count, memory_mib=max(size * ask.memory_percent // 100, 1), size=size
            ),
        }
        for size in _sizes(ask, choice, stock=stock, path=path)
    ]


def _option(ask: Ask, choice: Choice, *more: str, count: int, memory_mib: int, size: int = 0) -> JSON:
    selectors = [*choice.selectors, *more]
    if ask.at_least_mib:
        selectors.append(cel_text.memory_is(">=", ask.at_least_mib))
    if size:
        selectors.append(cel_text.memory_is("==", size))
    amounts = {}
    if ask.cores:
        amounts["cores"] = format_count(ask.cores)
    if memory_mib:
        amounts["memory"] = format_bytes(memory_mib * MIB)
    option: JSON = {"deviceClassName": ask.family.vendor.device_class}
    if selectors:
        option["selectors"] = [{"cel": {"expression": one}} for one in selectors]
    # What the API server would fill in is written, so that nothing differs when it comes back.
    option["allocationMode"] = "ExactCount"
    option["count"] = count
    if amounts:
        option["capacity"] = {"requests": amounts}
    return option


def _sizes(ask: Ask, choice: Choice, *, stock: Stock, path: str) -> list[int]:
    family = ask.family
    sizes = sorted({kind.memory_mib for kind in stock if not kind.profile and choice.fits(kind)})
    if not sizes:
        if Way.PARTITION in choice.ways:
            return []
        raise CardSizesUnknownError(
            f"A part of a card of {family.vendor.title} has no size, since the cluster has no such card that "
            "can be shared.",
            field=_field(ask, path),
            remedy=_instead(ask),
        )
    if len(sizes) > _MAX_ALTERNATIVES:
        raise CardSizesUnknownError(
            f"The cluster has cards of {family.vendor.title} in {len(sizes)} sizes, and a request can name "
            f"at most {_MAX_ALTERNATIVES}.",
            field=_field(ask, path),
            remedy=f"{_other(ask)}, or choose cards by type.",
        )
    return sizes


def _field(ask: Ask, path: str) -> str:
    role = "memory_percent" if ask.family.entry.memory_percent else "count"
    return f"{path}[{ask.family.resources[role]}]"


def _instead(ask: Ask) -> str:
    return f"{_other(ask)}, or make the pod again when the cards are there."


def _other(ask: Ask) -> str:
    instead = ask.family.resources.get("memory", "")
    return f"Ask for an amount by {instead}" if instead else "Ask for whole cards"
