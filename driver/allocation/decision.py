"""What comes out of an allocation.

Purpose: either results in the shape that the API stores, or a refusal that says for each device the first
reason that ruled it out.

Flow: `allocate` makes a `Decision`; people and Events get `Refusal.summary()`.

Limits: reasons are stable words; messages are for reading.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

from driver.allocation.models import DeviceID


@dataclass(frozen=True, slots=True)
class DeviceRefusal:
    """Why one device was passed over.

    Attributes:
        device: Its name.
        pool: Its pool.
        driver: Its driver.
        reason: Stable CamelCase word.
        message: What was asked and what was found.
    """

    device: str
    pool: str
    driver: str
    reason: str
    message: str

    @classmethod
    def of(cls, device: DeviceID, reason: str, message: str) -> DeviceRefusal:
        """Make the refusal of a device."""
        return cls(device.device, device.pool, device.driver, reason, message)


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why nothing was allocated.

    Attributes:
        reason: Stable CamelCase word.
        message: What is wrong, as a sentence.
        field: Path in the claim where one applies.
        remedy: What to do, "" where nothing can be advised.
        retriable: Whether waiting can help.
        node: The node that was tried.
        request: Label of the request that could not be met, "" if it is not about one.
        devices: The first reason against each device that was looked at for that request.
    """

    reason: str
    message: str
    field: str = ""
    remedy: str = ""
    retriable: bool = False
    node: str = ""
    request: str = ""
    devices: tuple[DeviceRefusal, ...] = ()

    def summary(self) -> str:
        """Say it in one line: what, how often each reason occurred, and what to do."""
        counts = Counter(one.reason for one in self.devices)
        detail = ", ".join(f"{count} {reason}" for reason, count in counts.most_common())
        where = f"{self.field}: " if self.field else ""
        advice = f". {self.remedy}" if self.remedy else ""
        return f"{where}{self.message}{f' ({detail})' if detail else ''}{advice}"


@dataclass(frozen=True, slots=True)
class Decision:
    """The answer for one node.

    Attributes:
        node: The node that was tried.
        allocations: One v1 AllocationResult for each claim, in their order; None if refused.
        refusal: Why not; None if allocated.
        steps: How many steps the search took.
    """

    node: str
    allocations: tuple[dict[str, Any], ...] | None
    refusal: Refusal | None
    steps: int = 0
