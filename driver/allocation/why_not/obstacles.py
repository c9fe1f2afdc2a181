"""Why one card does not serve one request, as data.

Purpose: the allocator's first reason against a card, with what a person needs to judge it: the part of the
selector that is false and what was seen, what was asked and what is free.

Flow: `obstacle` turns the allocator's verdict into an `Obstacle`. Its `text` holds what many cards have in
common and no number of a single card; numbers and values stand beside it, so that 40,000 cards can be told in
ten lines.

Limits: the reason is always the allocator's; nothing is judged here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace

from driver.allocation.decision import DeviceRefusal
from driver.allocation.models import Capacity, Device
from driver.allocation.requests import Option
from driver.allocation.why_not.falsehood import Seen, explained, shortened
from driver.errors import AllocationError
from driver.quantities import Quantity

_MAX_TEXT = 200
_VERBS = {"SelectorInvalid": "does not compile", "SelectorNotSupported": "is not supported"}
_VALUE = re.compile(r"'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\"|(?<![\w.-])-?\d+(?![\w.-])")


@dataclass(frozen=True, slots=True)
class Cut:
    """Smaller amounts that a card could serve.

    Attributes:
        amounts: The largest amounts that fit, by name, of what would have to change.
        loss: How much that takes away, as the sum of parts of what was asked.
    """

    amounts: tuple[tuple[str, Quantity], ...]
    loss: float


@dataclass(frozen=True, slots=True, eq=False)
class Obstacle:
    """What rules a card out.

    Attributes:
        reason: Stable CamelCase word, the allocator's.
        text: What is the same on all cards with this obstacle.
        message: The allocator's own sentence about this card.
        seen: What a selector read.
        capacity: Name of the capacity that is short.
        size: How large that is, or how much of it one request may have.
        selector: Place of the selector among those of class and request, -1 if it is none.
        part: The part of it that is false or raises.
        taint: Key, value and effect of the taint that is not tolerated.
        fatal: Whether the scheduler ends its attempt here, for the whole pod.
        remedy: What the allocator advises, "" if nothing.
    """

    reason: str
    text: str
    message: str
    seen: tuple[Seen, ...] = ()
    capacity: str = ""
    size: Quantity | None = None
    selector: int = -1
    part: str = ""
    taint: tuple[str, str, str] | None = None
    fatal: bool = False
    remedy: str = ""


def obstacle(
    verdict: DeviceRefusal | AllocationError,
    device: Device,
    option: Option,
    *,
    release: str,
    brief: bool = False,
) -> Obstacle:
    """Explain the allocator's verdict about a card.

    Args:
        verdict: What rules the card out.
        device: The card.
        option: The request.
        release: Kubernetes release whose language applies.
        brief: Say only which selector is false, and not which part of it and why.
    """
    reason, message = verdict.reason, verdict.message
    if reason == "SelectorFalse" or isinstance(verdict, AllocationError):
        remedy = verdict.remedy if isinstance(verdict, AllocationError) else ""
        fatal = reason != "SelectorFalse"
        if brief:
            return Obstacle(reason, shortened(message, _MAX_TEXT), message, fatal=fatal, remedy=remedy)
        found = _of_selector(reason, message, device, option, release, fatal=fatal)
        return replace(found, remedy=remedy)
    if reason == "Tainted" and (taint := option.tolerates(device)) is not None:
        shown = f"{taint.key}={taint.value}" if taint.value else taint.key
        parts = (taint.key, taint.value, taint.effect)
        return Obstacle(
            reason,
            shortened(f"taint {shown}:{taint.effect} is not tolerated", _MAX_TEXT),
            message,
            taint=parts,
        )
    if reason in {"CapacityTooSmall", "CapacityRequestTooLarge"}:
        for name, asked in option.capacity.items():
            limit = _limit(device.capacity[name], reason) if name in device.capacity else None
            if limit is not None and asked.nano > limit.nano:
                return _of_capacity(reason, message, name, option, asked=asked, size=limit)
    return Obstacle(reason, plain(message), message)


def in_use(device: Device, option: Option, name: str, taken: Quantity) -> Obstacle:
    """Give the obstacle of cards of which others have left too little.

    Args:
        device: One of these cards.
        option: The request.
        name: The capacity that is short.
        taken: What the request would take of it.
    """
    size = device.capacity[name].value
    return _of_capacity("CapacityInUse", "", name, option, asked=taken, size=size)


def held(*, whole: bool) -> Obstacle:
    """Give the obstacle of cards that are held, as a whole or in shares that cannot be shared any more."""
    if whole:
        return Obstacle("InUse", "held as a whole", "it is held as a whole")
    text = "shares of it are held, and it cannot be shared any more"
    return Obstacle("InUse", text, text)


def _of_capacity(
    reason: str, message: str, name: str, option: Option, *, asked: Quantity, size: Quantity
) -> Obstacle:
    how = f"asks {asked}" if name in option.capacity else "is taken as a whole by default"
    return Obstacle(reason, f"{shortened(name, 64)}: {how}", message, capacity=name, size=size)


def plain(message: str) -> str:
    """Take out of a sentence what differs from card to card: quoted texts and numbers."""
    return shortened(_VALUE.sub("…", message[: 4 * _MAX_TEXT]), _MAX_TEXT)


def largest(capacity: Capacity, free: int) -> Quantity | None:
    """Give the largest amount that can be asked of a capacity of which so many nanos are free."""
    policy = capacity.policy
    free = min(free, capacity.value.nano)
    if free <= 0:
        return None
    if policy is None:
        return Quantity(free, capacity.value.form)
    if policy.values:
        return next((value for value in reversed(policy.values) if value.nano <= free), None)
    if policy.maximum is not None:
        free = min(free, policy.maximum.nano)
    start = policy.minimum.nano if policy.minimum is not None else 0
    if free < start:
        return None
    if policy.step is not None and policy.step.nano > 0:
        free = start + (free - start) // policy.step.nano * policy.step.nano
    return Quantity(free, capacity.value.form) if free > 0 else None


def _of_selector(
    reason: str, message: str, device: Device, option: Option, release: str, *, fatal: bool
) -> Obstacle:
    for place, expression in enumerate(option.selectors):
        found = explained(expression, device.view, release=release)
        if found is None:
            continue
        text = (
            f"{found.text} {_VERBS.get(reason, 'raises')}: {found.error}"
            if fatal
            else f"{found.text} is false"
        )
        owner = ""
        if place < len(option.device_class.selectors):
            owner = f"class {shortened(option.device_class.name, 64)}: "
        return Obstacle(
            reason, f"{owner}{text}", message, seen=found.seen, selector=place, part=found.text, fatal=fatal
        )
    return Obstacle(reason, plain(message), message, fatal=fatal)


def _limit(capacity: Capacity, reason: str) -> Quantity | None:
    """Give what a single request may have of a capacity."""
    if reason == "CapacityTooSmall" or capacity.policy is None:
        return capacity.value
    return capacity.policy.values[-1] if capacity.policy.values else capacity.policy.maximum


def loss(device: Device, option: Option, held: Mapping[str, int]) -> float | None:
    """Say how much less a request would have to ask for; None if that does not help on this card."""
    lost = 0.0
    for name, capacity in device.capacity.items():
        asked = _asked(option, name, capacity)
        free = _free(capacity, held.get(name, 0) if device.shareable else 0)
        if asked.nano > free:
            if free <= 0:
                return None
            lost += 1 - free / asked.nano
    return lost


def cut(device: Device, option: Option, held: Mapping[str, int]) -> Cut | None:
    """Find the amounts that would fit; None where smaller ones do not."""
    amounts: list[tuple[str, Quantity]] = []
    lost = 0.0
    for name, capacity in device.capacity.items():
        asked = _asked(option, name, capacity)
        free = _free(capacity, held.get(name, 0) if device.shareable else 0)
        if asked.nano <= free:
            continue
        best = largest(capacity, free)
        if best is None or best.nano >= asked.nano:
            return None
        amounts.append((name, Quantity(best.nano, best.form)))
        lost += 1 - best.nano / asked.nano
    return Cut(tuple(amounts), lost) if amounts else None


def _free(capacity: Capacity, held: int) -> int:
    """Say how much a single request may still have, in nanos."""
    limit = _limit(capacity, "CapacityRequestTooLarge")
    free = capacity.value.nano - held
    return free if limit is None else min(free, limit.nano)


def _asked(option: Option, name: str, capacity: Capacity) -> Quantity:
    asked = option.capacity.get(name)
    if asked is not None:
        return asked
    default = capacity.policy.default if capacity.policy is not None else None
    return capacity.value if default is None else default
