"""The search for devices that serve all requests at once.

Purpose: the first solution in the scheduler's order: claims, requests, sub-requests, devices, depth
first.

Flow: each open question (the k-th device of a request, the choice of a sub-request) is a generator that
applies an answer, yields the next question and takes its answer back when it is resumed; `solve` keeps
them on a stack.

Limits: within one request devices keep their order (combinations, not permutations). At most `MAX_STEPS`
devices are compared. What no device can serve is found before the search, so that one impossible request
does not make it try everything before it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from driver.allocation.capacity import shortage
from driver.allocation.constraints import Constraint, Value
from driver.allocation.counters import Ledger
from driver.allocation.decision import DeviceRefusal
from driver.allocation.errors import AllConstraintError, SearchLimitError
from driver.allocation.fit import Fit, Fits
from driver.allocation.models import Amounts, Device, DeviceID
from driver.allocation.preference import Preference, ordered
from driver.allocation.requests import Claim, Option
from driver.allocation.snapshot import InUse

# About a second.
MAX_STEPS = 150_000
MAX_RESULTS = 32


@dataclass(frozen=True, slots=True)
class Question:
    """What is to be answered next.

    Attributes:
        claim: Index of the claim.
        request: Index of the request in it.
        option: The sub-request chosen, None as long as none is.
        number: Which device of the request.
        start: The first device that may be tried.
    """

    claim: int
    request: int
    option: Option | None = None
    number: int = 0
    start: int = 0


@dataclass(frozen=True, slots=True)
class Chosen:
    """A device for a request."""

    claim: int
    option: Option
    device: Device
    consumed: Amounts


class Search:
    """One search; afterwards `chosen` holds the solution, or `deepest` what stood in the way."""

    def __init__(
        self,
        *,
        claims: Sequence[Claim],
        devices: Sequence[Device],
        all_devices: Mapping[Option, tuple[Device, ...]],
        fit: Fit,
        ledgers: Mapping[Device, Ledger],
        in_use: InUse,
        preference: Preference | None = None,
    ) -> None:
        self._claims = claims
        self._devices = devices
        self._all = all_devices
        self._fit = fit
        self._ledgers = ledgers
        self._in_use = in_use
        self._preference = preference
        self._orders: dict[Option, Sequence[Device]] = {}
        self.chosen: list[Chosen] = []
        self.steps = 0
        self.deepest: tuple[Option, tuple[DeviceRefusal, ...]] | None = None
        self._deepest_at = -1
        self._taken: dict[DeviceID, int] = {}
        self._in_claim: dict[tuple[int, DeviceID], int] = {}
        self._consumed: dict[DeviceID, dict[str, int]] = {}
        self._values: dict[tuple[int, Constraint], list[Value]] = {}

    def solve(self) -> bool:
        """Look for a solution.

        Raises:
            AllocationError: What ends the attempt at once.
        """
        first = self._first(0, 0)
        if first is None:
            return True
        stack: list[Iterator[Question | None]] = [self._answers(first)]
        while stack:
            self._step()
            try:
                question = next(stack[-1])
            except StopIteration:
                stack.pop()
                continue
            if question is None:
                return True
            stack.append(self._answers(question))
        return False

    def _step(self) -> None:
        self.steps += 1
        if self.steps > MAX_STEPS:
            raise SearchLimitError(
                f"no combination of devices was found in {MAX_STEPS} steps",
                remedy="Ask for fewer devices in one pod, or for fewer claims.",
            )

    def _first(self, claim: int, request: int) -> Question | None:
        while claim < len(self._claims):
            if request < len(self._claims[claim].requests):
                return Question(claim, request)
            claim, request = claim + 1, 0
        return None

    def _answers(self, question: Question) -> Iterator[Question | None]:
        claim = self._claims[question.claim]
        if question.option is None:
            for option in claim.requests[question.request].options:
                wanted = self._wanted(option)
                if self._results(question.claim) + wanted > MAX_RESULTS:
                    continue
                chosen = Question(question.claim, question.request, option)
                if wanted:
                    yield from self._answers(chosen)
                elif not option.all_devices:
                    yield self._first(question.claim, question.request + 1)
            return
        if question.option.all_devices:
            yield from self._next_of_all(question, question.option)
        else:
            yield from self._next_device(question, question.option)

    def _results(self, claim: int) -> int:
        return sum(one.claim == claim for one in self.chosen)

    def _wanted(self, option: Option) -> int:
        return len(self._all.get(option, ())) if option.all_devices else option.count

    def _after(self, question: Question, option: Option, start: int) -> Question | None:
        if question.number + 1 < self._wanted(option):
            return Question(question.claim, question.request, option, question.number + 1, start)
        return self._first(question.claim, question.request + 1)

    def _next_of_all(self, question: Question, option: Option) -> Iterator[Question | None]:
        device = self._all[option][question.number]
        found = self._judge(question.claim, option, device)
        if isinstance(found, DeviceRefusal):
            if found.reason == "ConstraintUnmet":
                raise AllConstraintError(
                    f"request {option.label} wants all devices, but {device.id.device} is not allowed:"
                    f" {found.message}"
                )
            self._note(option, [found])
            return
        self._apply(question.claim, option, device, found)
        yield self._after(question, option, 0)
        self._undo(question.claim, device)

    def _next_device(self, question: Question, option: Option) -> Iterator[Question | None]:
        refusals: list[DeviceRefusal] = []
        devices = self._order(option)
        for place in range(question.start, len(devices)):
            device = devices[place]
            found = self._judge(question.claim, option, device)
            if isinstance(found, DeviceRefusal):
                refusals.append(found)
                continue
            self._apply(question.claim, option, device, found)
            yield self._after(question, option, place + 1)
            self._undo(question.claim, device)
        self._note(option, refusals)

    def _order(self, option: Option) -> Sequence[Device]:
        if option not in self._orders:
            self._orders[option] = ordered(
                self._devices, option, preference=self._preference, in_use=self._in_use
            )
        return self._orders[option]

    def _note(self, option: Option, refusals: list[DeviceRefusal]) -> None:
        if len(self.chosen) > self._deepest_at:
            self._deepest_at = len(self.chosen)
            self.deepest = (option, tuple(refusals))

    def _judge(self, claim: int, option: Option, device: Device) -> Fits | DeviceRefusal:
        self._step()
        refuse = DeviceRefusal.of
        if not device.shareable:
            if option.admin and self._in_claim.get((claim, device.id)):
                return refuse(device.id, "TakenByPod", "this claim has it already")
            if not option.admin and self._taken.get(device.id):
                return refuse(device.id, "TakenByPod", "another request of the pod has it")
        verdict = self._fit.verdict(device, option)
        if isinstance(verdict, DeviceRefusal):
            return verdict
        if device.shareable:
            short = shortage(device, verdict.consumed, self._held(device.id))
            if short is not None:
                return refuse(device.id, short.reason, short.message)
        if not self._ledgers[device].fits(device):
            return refuse(device.id, "CountersExhausted", "the shared counters of its card are used up")
        why = self._constrained(claim, option, device)
        return refuse(device.id, "ConstraintUnmet", why) if why else verdict

    def _constrained(self, claim: int, option: Option, device: Device) -> str:
        for constraint in self._claims[claim].constraints:
            if constraint.binds(option.label):
                why = constraint.refuses(device, self._values.get((claim, constraint), []))
                if why:
                    return why
        return ""

    def _held(self, device: DeviceID) -> Mapping[str, int]:
        held = self._in_use.consumed.get(device, {})
        ours = self._consumed.get(device)
        if not ours:
            return held
        return {name: held.get(name, 0) + ours.get(name, 0) for name in {*held, *ours}}

    def _apply(self, claim: int, option: Option, device: Device, fits: Fits) -> None:
        self.chosen.append(Chosen(claim, option, device, fits.consumed))
        self._taken[device.id] = self._taken.get(device.id, 0) + 1
        self._in_claim[claim, device.id] = self._in_claim.get((claim, device.id), 0) + 1
        self._ledgers[device].take(device)
        if device.shareable:
            sums = self._consumed.setdefault(device.id, {})
            for name, amount in fits.consumed.items():
                sums[name] = sums.get(name, 0) + amount.nano
        for constraint in self._claims[claim].constraints:
            if constraint.binds(option.label):
                self._values.setdefault((claim, constraint), []).append(constraint.value(device))

    def _undo(self, claim: int, device: Device) -> None:
        undone = self.chosen.pop()
        self._taken[device.id] -= 1
        self._in_claim[claim, device.id] -= 1
        self._ledgers[device].put_back(device)
        if device.shareable:
            sums = self._consumed[device.id]
            for name, amount in undone.consumed.items():
                sums[name] -= amount.nano
        for constraint in self._claims[claim].constraints:
            if constraint.binds(undone.option.label):
                self._values[claim, constraint].pop()
