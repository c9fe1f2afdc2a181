"""How much of a device a request takes, and whether that is left.

Purpose: request policies (default, range with step, list of values) and the sum against the value.

Flow: `consumption` gives what a request takes of one capacity or says why it cannot; `consumptions` does
so for all capacities of a device; `shortage` compares with what is held.

Limits: amounts are exact integers of any size, so nothing overflows. Where 1.36 counts with a negative
amount, or with one beyond int64 after rounding, and so gives away what is not there, ours ends the attempt as
1.37 does: an amount is refused as soon as a device would be charged with it, and not before.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from driver.allocation.errors import CapacityNegativeError, CapacityNotRepresentableError
from driver.allocation.models import Amounts, Capacity, Device, Policy
from driver.quantities import Form, Quantity

_MAX_INT64 = (1 << 63) - 1
_MILLI = 10**6  # nanos
_REMEDY = "Ask for at most 4Ei."


@dataclass(frozen=True, slots=True)
class Shortage:
    """Why a capacity does not do: a stable reason and a sentence."""

    reason: str
    message: str


def consumption(
    capacity: Capacity, request: Quantity | None, *, keep_form: bool, milli_steps: bool = False
) -> Quantity | Shortage:
    """Say what a request takes of a capacity.

    Args:
        capacity: The capacity with its policy.
        request: The amount asked for, None if none was.
        keep_form: Write rounded amounts in the form of the step (1.37) rather than in binary (1.36).
        milli_steps: Round to thousandths where the range allows it (FractionalCapacityRange).

    Raises:
        CapacityNegativeError: It would take less than nothing.
        CapacityNotRepresentableError: It cannot be rounded within the API's integers.
    """
    taken = _taken(capacity, request, keep_form=keep_form, milli_steps=milli_steps)
    if isinstance(taken, Shortage):
        return taken
    if taken.nano < 0:
        raise CapacityNegativeError(f"{taken} is negative", remedy="Ask for 0 or more.")
    policy = capacity.policy
    if request is None or policy is None or policy.maximum is None or taken <= policy.maximum:
        return taken
    return Shortage("CapacityRequestTooLarge", f"asked {taken}, at most {policy.maximum} for one request")


def _taken(
    capacity: Capacity, request: Quantity | None, *, keep_form: bool, milli_steps: bool
) -> Quantity | Shortage:
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
    if policy.minimum is not None and request < policy.minimum:
        return policy.minimum
    if policy.step is None or policy.step.nano <= 0:
        return request
    form = policy.step.form if keep_form else Form.BINARY
    if milli_steps and _in_milli(policy):
        return _stepped(request, policy.minimum, policy.step, unit=_MILLI, form=form)
    return _stepped(request, policy.minimum, policy.step, unit=1000 * _MILLI, form=form)


def _in_milli(policy: Policy) -> bool:
    bounds = (policy.minimum, policy.maximum, policy.step)
    return all(one is None or _exact(one) for one in bounds)


def _exact(amount: Quantity) -> bool:
    return amount.nano % _MILLI == 0 and abs(amount.nano) <= _MAX_INT64 * _MILLI


def _stepped(
    request: Quantity, minimum: Quantity | None, step: Quantity, *, unit: int, form: Form
) -> Quantity:
    """Round up to the next step from the minimum; `unit` is what counts as one, in nanos."""
    if unit == _MILLI and not _exact(request):
        raise CapacityNotRepresentableError(f"{request} is finer than a thousandth", remedy=_REMEDY)
    start = _units(minimum, unit) if minimum is not None else 0
    asked, width = _units(request, unit), _units(step, unit)
    taken = start - (start - asked) // width * width
    if asked > _MAX_INT64 or taken > _MAX_INT64:
        raise CapacityNotRepresentableError(f"{request} is more than can be counted with", remedy=_REMEDY)
    return Quantity(taken * unit, form)


def _units(amount: Quantity, unit: int) -> int:
    """Count in units, rounded away from zero as Kubernetes' `Value()` does."""
    count = -(-abs(amount.nano) // unit)
    return count if amount.nano >= 0 else -count


def consumptions(
    device: Device, requests: Amounts, *, keep_form: bool, milli_steps: bool = False
) -> dict[str, Quantity] | Shortage:
    """Say what requests take of each capacity of a device, or why the device cannot serve them.

    Raises:
        CapacityRequestError: An amount cannot be counted with; whichever capacity it is, before anything
            else about the others is said.
    """
    for name in requests:
        if name not in device.capacity:
            return Shortage("CapacityUnknown", f"it has no capacity {name!r}")
    result: dict[str, Quantity] = {}
    short: Shortage | None = None
    for name, capacity in device.capacity.items():
        try:
            taken = consumption(capacity, requests.get(name), keep_form=keep_form, milli_steps=milli_steps)
        except (CapacityNegativeError, CapacityNotRepresentableError) as error:
            raise type(error)(error.message, field=name, remedy=error.remedy) from None
        if isinstance(taken, Shortage):
            short = short or Shortage(taken.reason, f"{name}: {taken.message}")
        elif taken > capacity.value:
            short = short or Shortage(
                "CapacityTooSmall", f"{name}: asked {taken}, the device has {capacity.value}"
            )
        else:
            result[name] = taken
    return short or result


def shortage(device: Device, wanted: Amounts, held: Mapping[str, int]) -> Shortage | None:
    """Compare what is wanted with what others leave; `held` is in nanos."""
    if not held:
        return None
    for name, taken in wanted.items():
        value = device.capacity[name].value
        free = value.nano - held.get(name, 0)
        if taken.nano > free:
            left = Quantity(max(free, 0), value.form).canonical()
            return Shortage("CapacityInUse", f"{name}: asked {taken}, free {left} of {value}")
    return None
