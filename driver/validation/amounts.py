"""What somebody may ask for of a card: `capacity.requests` of a request, or of a ShareConfig.

Purpose: an amount that means nothing is refused before it is stored; what allocators make of the others is
theirs (memory is rounded up to whole MiB, by the request policy of our slices).

Flow: `check_amounts` reads one `capacity.requests`.

Rules:

* names are `memory` and `cores` and nothing else: no card has another capacity;
* memory is a whole number of bytes above 0, at most `MAX_AMOUNT`; less than a MiB is warned of, because who
  writes 4000 means 4000 MiB;
* cores are whole percent of one card, 0 to 100; 0 is no cap, which is warned of, because leaving it out says
  the same and looks like it.

Limits: how much the cluster's cards have is not asked here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from driver.cards import CORES_PER_CARD
from driver.errors import QuantityError, shown
from driver.quantities import MAX_AMOUNT, MIB, Quantity, parse_quantity
from driver.validation.errors import AmountError, CapacityNameError, ObjectTooLargeError
from driver.validation.findings import Notes
from driver.validation.limits import MAX_AMOUNTS
from driver.validation.reading import nearest, path

CAPACITIES = ("memory", "cores")
"""What every card of ours has."""

_USUAL = {
    **dict.fromkeys(("gpumem", "gpu-memory", "mem", "vram", "memoryMiB", "gpu_memory"), "memory"),
    **dict.fromkeys(("gpucores", "core", "compute", "gpu-cores", "vcore", "percent", "cpu"), "cores"),
}


def check_amounts(requests: Mapping[str, Any], *, field: str, notes: Notes) -> dict[str, Quantity]:
    """Reads `capacity.requests`, and notes what is wrong with it.

    Returns:
        The amounts that mean something, by name.
    """
    found: dict[str, Quantity] = {}
    if len(requests) > MAX_AMOUNTS:
        notes.refuse(
            ObjectTooLargeError(
                f"{len(requests)} amounts are more than the {MAX_AMOUNTS} that a device can have.",
                field=field,
                remedy=f"Ask for {' and '.join(CAPACITIES)}.",
            )
        )
        return found
    for name, value in requests.items():
        where = path(field, str(name)) if str(name).isidentifier() else f"{field}[{str(name)[:80]}]"
        if name not in CAPACITIES:
            notes.refuse(_unknown(str(name), where))
            continue
        try:
            # The API server keeps null as 0.
            found[name] = amount(name, 0 if value is None else value, field=where)
        except (AmountError, QuantityError) as refused:
            notes.refuse(refused)
            continue
        _remark(name, found[name], field=where, notes=notes)
    return found


def amount(name: str, value: Any, *, field: str) -> Quantity:
    """Reads one amount.

    Args:
        name: `memory` or `cores`.
        value: What stands there: a text, or a number as YAML has them.
        field: Its path.

    Raises:
        QuantityError: It is no quantity.
        AmountError: It is one that no share can have.
    """
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise AmountError(f"{shown(value)} is no amount.", field=field, remedy=_REMEDIES[name])
    if isinstance(value, int) and abs(value) > MAX_AMOUNT:
        raise AmountError(_too_large(name), field=field, remedy=_REMEDIES[name])
    found = _parsed(str(value), field=field)
    if found.nano < 0:
        raise AmountError(f"{shown(str(value))} is negative.", field=field, remedy=_REMEDIES[name])
    if name == "memory":
        _check_memory(found, value, field=field)
    else:
        _check_cores(found, value, field=field)
    return found


_REMEDIES: Mapping[str, str] = {
    "memory": "Write memory with its unit, such as 4Gi or 1536Mi; leave it out for the whole card.",
    "cores": "Write whole percent of one card from 1 to 100, such as 30; leave it out for no cap.",
}


def _parsed(written: str, *, field: str) -> Quantity:
    try:
        return parse_quantity(written, field=field)
    except QuantityError as refused:
        # What people write who do not know Kubernetes' suffixes: 4GB, 4GiB, 30%.
        bare = written.strip()[:40]
        meant = bare.rstrip("%").rstrip("bB").replace(" ", "")
        if meant[-1:] in ("K", "M", "G", "T"):
            meant += "i"
        try:
            parse_quantity(meant)
        except QuantityError:
            raise refused from None
        raise QuantityError(refused.message, field=field, remedy=f"Did you mean {meant}?") from None


def _check_memory(found: Quantity, value: Any, *, field: str) -> None:
    if found.nano == 0:
        raise AmountError("0 of memory is no share.", field=field, remedy=_REMEDIES["memory"])
    if not found.is_integer:
        written = str(value)
        meant = f"Did you mean {written[:-1][:40]}Mi? The suffix m is for thousandths."
        raise AmountError(
            f"{shown(written)} is not a whole number of bytes.",
            field=field,
            remedy=meant if written.endswith("m") else _REMEDIES["memory"],
        )
    if found.rounded_up > MAX_AMOUNT:
        raise AmountError(_too_large("memory"), field=field, remedy=_REMEDIES["memory"])


def _check_cores(found: Quantity, value: Any, *, field: str) -> None:
    if not found.is_integer:
        raise AmountError(
            f"{shown(str(value))} is not a whole number of percent.", field=field, remedy=_REMEDIES["cores"]
        )
    if found.rounded_up > CORES_PER_CARD:
        raise AmountError(
            f"{shown(str(value))} percent are more than a card has, which is {CORES_PER_CARD}.",
            field=field,
            remedy=f"Ask for at most {CORES_PER_CARD}, and for several cards with count.",
        )


def _too_large(name: str) -> str:
    return f"So much {name} cannot be counted with."


def _remark(name: str, found: Quantity, *, field: str, notes: Notes) -> None:
    if name == "memory" and found.rounded_up < MIB:
        notes.warn(
            f"{found.rounded_up} bytes are rounded up to 1Mi. Did you mean {found.rounded_up}Mi?", field=field
        )
    if name == "cores" and found.nano == 0:
        notes.warn("0 percent is no cap on compute, as if cores were left out.", field=field)


def _unknown(name: str, field: str) -> CapacityNameError:
    bare = name.rpartition("/")[2]
    meant = _USUAL.get(bare) or (bare if bare in CAPACITIES else "")
    near = f"Did you mean {meant}?" if meant else nearest(bare, CAPACITIES, cutoff=0.5)
    return CapacityNameError(
        f"No card of this driver has a capacity {shown(name)}.",
        field=field,
        remedy=near or f"Ask for {' and '.join(CAPACITIES)}.",
    )
