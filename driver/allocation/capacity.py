"""How much of a device a request takes, and whether that is left.

Purpose: request policies (default, range with step, list of values) and the sum against the value.

Flow: `consumption` gives what a request takes of one capacity or says why it cannot; `consumptions` does
so for all capacities of a device; `shortage` compares with what is held.

Limits: amounts are exact integers of any size, so nothing overflows; requests below 0 or above 2^62 were
refused when the claim was read.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from driver.allocation.models import Amounts, Capacity, Device
from driver.quantities import Form, Quantity


@dataclass(frozen=True, slots=True)
class Shortage:
    """Why a capacity does not do: a stable reason and a sentence."""

    reason: str
    message: str


def consumption(capacity: Capacity, request: Quantity | None, *, keep_form: bool) -> Quantity | Shortage:
    """Say what a request takes of a capacity.

    Args:
        capacity: The capacity with its policy.
        request: The amount asked for, None if none was.
        keep_form: Write rounded amounts in the form of the step (1.37) rather than in binary (1.36).
    """
    policy = capacity.policy
    if request is None:
        return capacity.value if policy is None or policy.default is None else policy.default
    if policy is None:
        return request
    if policy.values:
        taken = next((value for value in policy.values if value >= request), None)
        if taken is None:
            return Shortage(
                "CapacityRequestTooLarge", f"asked {request}, largest valid value {policy.values[-1]}"
            )
        return taken
    if policy.minimum is None and policy.step is None and policy.maximum is None:
        return request
    taken = _in_range(request, policy.minimum, policy.step, keep_form=keep_form)
    if policy.maximum is not None and taken > policy.maximum:
        return Shortage("CapacityRequestTooLarge", f"asked {taken}, at most {policy.maximum} for one request")
    return taken


def _in_range(
    request: Quantity, minimum: Quantity | None, step: Quantity | None, *, keep_form: bool
) -> Quantity:
    if minimum is not None and request < minimum:
        return minimum
    if step is None or step.nano <= 0:
        return request
    start, width = (minimum.rounded_up if minimum is not None else 0), step.rounded_up
    steps = -((start - request.rounded_up) // width)
    form = step.form if keep_form else Form.BINARY
    return Quantity.whole(start + steps * width, form=form)


def consumptions(device: Device, requests: Amounts, *, keep_form: bool) -> dict[str, Quantity] | Shortage:
    """Say what requests take of each capacity of a device, or why the device cannot serve them."""
    for name in requests:
        if name not in device.capacity:
            return Shortage("CapacityUnknown", f"it has no capacity {name!r}")
    result: dict[str, Quantity] = {}
    for name, capacity in device.capacity.items():
        taken = consumption(capacity, requests.get(name), keep_form=keep_form)
        if isinstance(taken, Shortage):
            return Shortage(taken.reason, f"{name}: {taken.message}")
        if taken > capacity.value:
            return Shortage("CapacityTooSmall", f"{name}: asked {taken}, the device has {capacity.value}")
        result[name] = taken
    return result


def shortage(device: Device, wanted: Amounts, held: Mapping[str, int]) -> Shortage | None:
    """Compare what is wanted with what others leave; `held` is in nanos."""
    for name, taken in wanted.items():
        value = device.capacity[name].value
        free = value.nano - held.get(name, 0)
        if taken.nano > free:
            left = Quantity(max(free, 0), value.form).canonical()
            return Shortage("CapacityInUse", f"{name}: asked {taken}, free {left} of {value}")
    return None
