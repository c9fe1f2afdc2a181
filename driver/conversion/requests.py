"""One request of a claim.

Rules that people see: memory in percent becomes one alternative for each size of card that the cluster has,
smallest first, so that a small card is tried before a large one is cut; the amount is rounded down to whole
MiB. The API knows at most 8 alternatives.
"""

from __future__ import annotations

from typing import Any

from driver.conversion import cel_text
from driver.conversion.asks import Ask
from driver.conversion.choosing import Choice
from driver.conversion.errors import CardSizesUnknownError
from driver.conversion.stock import Stock
from driver.quantities import MIB, format_bytes, format_count

JSON = dict[str, Any]

_MAX_ALTERNATIVES = 8


def request_of(ask: Ask, *, name: str, count: int, choice: Choice, stock: Stock, path: str) -> JSON:
    """Makes a request.

    Args:
        ask: What is asked for, for each card.
        name: Name of the request.
        count: How many cards.
        choice: Which cards the pod leaves.
        stock: The cluster's cards.
        path: Path of the container's limits, for errors.

    Raises:
        CardSizesUnknownError: Percent of a card whose size is not known, or is one of too many.
    """
    if not ask.memory_percent:
        return {"name": name, "exactly": _option(ask, choice, count=count, memory_mib=ask.memory_mib)}
    sizes = _sizes(ask, choice, stock=stock, path=path)
    return {
        "name": name,
        "firstAvailable": [
            {
                "name": f"of-{size}-mib",
                **_option(
                    ask,
                    choice,
                    count=count,
                    memory_mib=max(size * ask.memory_percent // 100, 1),
                    size=size,
                ),
            }
            for size in sizes
        ],
    }


def whole_devices(*, name: str, device_class: str, count: int) -> JSON:
    """A request for whole devices of a class."""
    exactly = {"deviceClassName": device_class, "allocationMode": "ExactCount", "count": count}
    return {"name": name, "exactly": exactly}


def _option(ask: Ask, choice: Choice, *, count: int, memory_mib: int, size: int = 0) -> JSON:
    selectors = list(choice.selectors)
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
    role = "memory_percent" if family.entry.memory_percent else "count"
    field = f"{path}[{family.resources[role]}]"
    sizes = sorted({kind.memory_mib for kind in stock if choice.fits(kind)})
    instead = family.resources.get("memory", "")
    other = f"Ask for an amount by {instead}" if instead else "Ask for whole cards"
    if not sizes:
        raise CardSizesUnknownError(
            f"A part of a card of {family.vendor.title} has no size, since the cluster has no such card that "
            "can be shared.",
            field=field,
            remedy=f"{other}, or make the pod again when the cards are there.",
        )
    if len(sizes) > _MAX_ALTERNATIVES:
        raise CardSizesUnknownError(
            f"The cluster has cards of {family.vendor.title} in {len(sizes)} sizes, and a request can name "
            f"at most {_MAX_ALTERNATIVES}.",
            field=field,
            remedy=f"{other}, or choose cards by type.",
        )
    return sizes
