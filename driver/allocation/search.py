"""The search for devices that serve all requests at once.

Purpose: the first solution in the scheduler's order: claims, requests, sub-requests, devices, depth
first.

Flow: each open question (the k-th device of a request, the choice of a sub-request) is a generator that adds
an answer to the `Holdings`, yields the next question, and is sent what became of it; `solve` keeps them on a
stack. What failed is remembered by its kind (`driver.allocation.symmetry`): neither a device like one that
was tried in vain nor a situation like one that was is tried again.

Limits: within one request devices keep their order (combinations, not permutations). At most `MAX_STEPS`
devices are compared. Nothing that is left out could have led to a solution or to an error, so the answer is
that of the search without shortcuts; only steps differ.
"""

from __future__ import annotations

import contextlib
import enum
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from driver.allocation.decision import DeviceRefusal
from driver.allocation.errors import AllConstraintError, SearchLimitError
from driver.allocation.fit import Fits
from driver.allocation.holdings import Chosen, Holdings
from driver.allocation.models import Device
from driver.allocation.requests import Claim, Option
from driver.allocation.symmetry import Symmetry

# About two seconds; kube-scheduler gives a node ten.
MAX_STEPS = 250_000
MAX_RESULTS = 32
# How many situations are kept, a kilobyte each at most.
_REMEMBERED = 50_000
# From how many steps on a search is long enough to look at parts of it apart.
_LONG = 2_000


@dataclass(frozen=True, slots=True)
class Question:
    """What is to be answered next.

    Attributes:
        claim: Index of the claim.
        request: Index of the request in it.
        option: The sub-request chosen, None as long as none is.
        number: Which device of the request.
        start: The first place in the order of devices that may be tried.
    """

    claim: int
    request: int
    option: Option | None = None
    number: int = 0
    start: int = 0


class Outcome(enum.Enum):
    """What became of a question that led to no solution.

    Attributes:
        FAILED: No device does.
        EXCEEDED: A claim would get too many devices, whichever ones it is given.
    """

    FAILED = enum.auto()
    EXCEEDED = enum.auto()


Place: TypeAlias = tuple[int, int]
"""A claim and a request in it, by index."""

_Frame: TypeAlias = Generator[Question | None, Outcome | None, Outcome]


class Search:
    """One search; afterwards `chosen` holds the solution, or `deepest` what stood in the way."""

    def __init__(
        self,
        *,
        claims: Sequence[Claim],
        all_devices: Mapping[Option, tuple[Device, ...]],
        order: Callable[[Option], Sequence[Device]],
        holdings: Holdings,
        symmetry: Symmetry | None,
        first: Place = (0, 0),
        last: Place | None = None,
        part: Callable[[Place, Place, int], Search] | None = None,
        limit: int | None = None,
    ) -> None:
        """Make a search.

        Args:
            claims: What is asked, without problems.
            all_devices: What each option of mode All wants.
            order: In what order devices are tried for an option.
            holdings: An empty one, to be filled.
            symmetry: What is alike; nothing is left out if None.
            first: The request to begin with.
            last: The request to end with; None for the last one.
            part: Makes a search for some of the requests by themselves, with so many steps at most.
            limit: After how many steps it is given up; `MAX_STEPS` if None.
        """
        self._claims = claims
        self._all = all_devices
        self._order = order
        self._holdings = holdings
        self._symmetry = symmetry
        self._failed: set[object] = set()
        self._suspects: list[Place] = []
        self._from, self._to = first, last
        self._part = part
        self._furthest: Place = first
        self._parts_seen: set[tuple[Place, Place]] = set()
        self._limit = MAX_STEPS if limit is None else limit
        self._apart_at = _LONG
        # Some of the requests cannot even be met by themselves.
        self._given_up = False
        self.steps = 0
        self.deepest: tuple[Option, tuple[DeviceRefusal, ...]] | None = None
        self._deepest_at = -1

    @property
    def chosen(self) -> Sequence[Chosen]:
        """What was found, in the order of requests and devices."""
        return self._holdings.chosen

    def solve(self) -> bool:
        """Look for a solution.

        Raises:
            AllocationError: What ends the attempt at once.
        """
        first = self._first(*self._from)
        if first is None:
            return True
        stack = [self._frame(first)]
        outcome: Outcome | None = None
        while stack:
            self._step()
            try:
                question = stack[-1].send(outcome)
            except StopIteration as stop:
                stack.pop()
                outcome = stop.value
                continue
            if question is None:
                return True
            if self._given_up:
                return False
            stack.append(self._frame(question))
            outcome = None
        return False

    def _step(self) -> None:
        self.steps += 1
        if self.steps > self._limit:
            raise SearchLimitError(
                f"no combination of devices was found in {self._limit} steps",
                remedy="Ask for fewer devices in one pod, or for fewer claims.",
            )

    def _first(self, claim: int, request: int) -> Question | None:
        while claim < len(self._claims):
            if self._to is not None and (claim, request) > self._to:
                return None
            if request < len(self._claims[claim].requests):
                return Question(claim, request)
            claim, request = claim + 1, 0
        return None

    def _frame(self, question: Question) -> _Frame:
        """Answer a question, unless one like it is known to have no answer."""
        self._furthest = max(self._furthest, (question.claim, question.request))
        key = self._key(question)
        if key is not None and key in self._failed:
            return Outcome.FAILED
        if self._hopeless(question):
            outcome = Outcome.FAILED
        elif question.option is None:
            outcome = yield from self._next_option(question)
        elif question.option.all_devices:
            outcome = yield from self._next_of_all(question, question.option)
        else:
            outcome = yield from self._next_device(question, question.option)
        if outcome is Outcome.FAILED and self._symmetry is not None:
            if len(self._failed) < _REMEMBERED:
                self._failed.add(key if key is not None else self._key(question, now=True))
            if question.option is None:
                self._look_apart()
        return outcome

    def _look_apart(self) -> None:
        """Find out, once the search is long, whether some of the requests fail whatever is given before them.

        Looked at are those up to the furthest one that was reached, the last by itself first. What that may
        cost grows with what the search has cost so far.
        """
        if self._part is None or self.steps < self._apart_at:
            return
        if self._quiet(self._from, self._furthest):
            budget = self.steps
            for place in reversed(self._places()):
                if self._given_up or budget <= 0 or (place, self._furthest) in self._parts_seen:
                    continue
                part = self._part(place, self._furthest, budget)
                with contextlib.suppress(SearchLimitError):
                    self._given_up = not part.solve()
                    self._parts_seen.add((place, self._furthest))
                budget -= part.steps
                self.steps += part.steps
        self._apart_at = 2 * self.steps

    def _places(self) -> list[Place]:
        """Give the requests after the first, up to the furthest."""
        return [
            (claim, request)
            for claim, one in enumerate(self._claims)
            for request in range(len(one.requests))
            if self._from < (claim, request) <= self._furthest
        ]

    def _key(self, question: Question, *, now: bool = False) -> object | None:
        """Say what a question is like; None as long as nothing has failed, since nothing is like it then."""
        if self._symmetry is None or not (self._failed or now):
            return None
        option = question.option
        situation: object = None
        if option is None:
            situation = self._symmetry.situation(question.claim, (), 0)
        elif option.all_devices:
            situation = self._symmetry.situation(question.claim, self._all[option], question.number)
        else:
            situation = self._symmetry.situation(question.claim, self._order(option), question.start)
        return question.claim, question.request, option, question.number, situation

    def _next_option(self, question: Question) -> _Frame:
        options = self._claims[question.claim].requests[question.request].options
        outcome = Outcome.EXCEEDED
        for option in options:
            if self._wanted(option) or not option.all_devices:
                became = yield Question(question.claim, question.request, option)
            else:
                became = Outcome.FAILED
            if became is not Outcome.EXCEEDED:
                outcome = Outcome.FAILED
        return outcome

    def _wanted(self, option: Option) -> int:
        return len(self._all.get(option, ())) if option.all_devices else option.count

    def _after(self, question: Question, option: Option, start: int) -> Question | None:
        if question.number + 1 < self._wanted(option):
            return Question(question.claim, question.request, option, question.number + 1, start)
        return self._first(question.claim, question.request + 1)

    def _too_many(self, question: Question, option: Option) -> bool:
        remaining = self._wanted(option) - question.number
        return self._holdings.results[question.claim] + remaining > MAX_RESULTS

    def _within(self, question: Question, following: Question | None, became: Outcome | None) -> Outcome:
        """Keep the limit of one claim from ending the search for another."""
        other = following is not None and following.claim != question.claim
        return Outcome.FAILED if became is None or other else became

    def _next_of_all(self, question: Question, option: Option) -> _Frame:
        if self._too_many(question, option):
            return Outcome.EXCEEDED
        device = self._all[option][question.number]
        self._step()
        found = self._holdings.judge(question.claim, option, device)
        if isinstance(found, DeviceRefusal):
            if found.reason == "ConstraintUnmet":
                raise AllConstraintError(
                    f"request {option.label} wants all devices, but {device.id.device} is not allowed:"
                    f" {found.message}",
                    field=option.path,
                )
            self._note(option, [found])
            return Outcome.FAILED
        self._holdings.add(question.claim, option, device, found)
        following = self._after(question, option, 0)
        became = yield following
        self._holdings.drop()
        return self._within(question, following, became)

    def _next_device(self, question: Question, option: Option) -> _Frame:
        if self._too_many(question, option):
            return Outcome.EXCEEDED
        refusals: list[DeviceRefusal] = []
        candidates: Iterable[tuple[int, Device, Fits]] = self._fitting(question, option, refusals)
        # In first fit most devices are never looked at; once something failed, it pays to count.
        spare = len(self._order(option))
        if self._foresees(option):
            candidates = tuple(candidates)
            spare = len(candidates) - (self._wanted(option) - question.number)
        tried: set[object] = set()
        children = 0
        for number, (place, device, found) in enumerate(candidates):
            if number > spare:
                break
            if tried and self._kind(question, option, device) in tried:
                continue
            self._holdings.add(question.claim, option, device, found)
            following = self._after(question, option, place + 1)
            children += 1
            became = yield following
            self._holdings.drop()
            if self._within(question, following, became) is Outcome.EXCEEDED:
                return Outcome.EXCEEDED
            if self._symmetry is not None:
                tried.add(self._kind(question, option, device))
        self._note(option, refusals)
        if not children:
            self._suspect(question)
        return Outcome.FAILED

    def _fitting(
        self, question: Question, option: Option, refusals: list[DeviceRefusal]
    ) -> Iterator[tuple[int, Device, Fits]]:
        """Give the devices that can be added now, with their places, and keep why others cannot."""
        devices = self._order(option)
        for place in range(question.start, len(devices)):
            self._step()
            found = self._holdings.judge(question.claim, option, devices[place])
            if isinstance(found, DeviceRefusal):
                refusals.append(found)
            else:
                yield place, devices[place], found

    def _foresees(self, option: Option) -> bool:
        """Say whether looking at more devices than the scheduler would can change nothing but the time."""
        return self._symmetry is not None and bool(self._failed) and self._symmetry.silent(option)

    def _suspect(self, question: Question) -> None:
        """Remember a request for which there was no device: what is given before it is soon in its way."""
        place = (question.claim, question.request)
        if place in self._suspects:
            self._suspects.remove(place)
        self._suspects.insert(0, place)

    def _hopeless(self, question: Question) -> bool:
        """Say whether a later request has too few devices already, which will only become fewer."""
        if not self._suspects:
            return False
        here = (question.claim, question.request)
        later = next(
            (one for one in self._suspects if self._quiet(here, one) and not self._can_meet(*one)), None
        )
        if later is None:
            return False
        self._suspects.remove(later)
        self._suspects.insert(0, later)
        return True

    def _quiet(self, here: Place, there: Place) -> bool:
        """Say whether nothing can end the attempt from one request up to another that comes later."""
        if here >= there:
            return False
        return all(
            self._foresees(option)
            for claim in range(here[0], there[0] + 1)
            for request, one in enumerate(self._claims[claim].requests)
            if here <= (claim, request) <= there
            for option in one.options
        )

    def _can_meet(self, claim: int, request: int) -> bool:
        return any(self._enough(claim, option) for option in self._claims[claim].requests[request].options)

    def _enough(self, claim: int, option: Option) -> bool:
        devices = self._all[option] if option.all_devices else self._order(option)
        missing = self._wanted(option)
        if option.all_devices and not missing:
            return False
        for device in devices:
            if not missing:
                break
            self._step()
            if isinstance(self._holdings.judge(claim, option, device), Fits):
                missing -= 1
            elif option.all_devices:
                return False
        return not missing

    def _kind(self, question: Question, option: Option, device: Device) -> object:
        if self._symmetry is None:
            return None
        return self._symmetry.kind(question.claim, device, self._order(option), question.start)

    def _note(self, option: Option, refusals: list[DeviceRefusal]) -> None:
        if len(self.chosen) > self._deepest_at:
            self._deepest_at = len(self.chosen)
            self.deepest = (option, tuple(refusals))
