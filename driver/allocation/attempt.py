"""One attempt: the claims of a pod on one node.

Purpose: the order in which the scheduler looks at things, from what the claims say to the search.

Flow: `Attempt.run` goes through the claims' problems and resolves mode All as it meets them, counts, looks
whether each request has any device at all, searches, and gives what was chosen. `foregone` says what would
end the attempt on every node.

Limits: errors in one claim are told for the pod as a whole, as the scheduler does.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from driver.allocation.claims import PreparedClaims
from driver.allocation.counters import ledgers
from driver.allocation.decision import DeviceRefusal, Refusal
from driver.allocation.errors import (
    AllPoolInvalidError,
    NoCombinationError,
    NoDeviceError,
    NotSupportedError,
    PoolIncompleteError,
    PoolInvalidError,
    SearchLimitError,
    TooManyDevicesError,
)
from driver.allocation.fit import Fit, Fits, Verdicts
from driver.allocation.holdings import Chosen, Holdings
from driver.allocation.models import Device
from driver.allocation.nodes import Node
from driver.allocation.pools import Pool
from driver.allocation.preference import Preference, ordered
from driver.allocation.requests import Claim, Option, Request
from driver.allocation.search import MAX_RESULTS, Place, Search
from driver.allocation.snapshot import InUse
from driver.allocation.symmetry import Symmetry
from driver.errors import AllocationError

# Reasons against a device that can go away while the claim stays as it is.
_PASSING = frozenset({"InUse", "CapacityInUse", "CountersExhausted", "PoolIncomplete", "Tainted"})


class _NeedsNodeError(Exception):
    """A question that only a node can answer."""


def foregone(prepared: PreparedClaims) -> AllocationError | None:
    """Give what ends an attempt on every node before any device is looked at, None if nothing does."""

    def unknown(_option: Option) -> Sequence[Device]:
        raise _NeedsNodeError

    try:
        _go_through(prepared, unknown)
    except AllocationError as error:
        return error.with_traceback(None)
    except _NeedsNodeError:
        return None
    return None


def _go_through(prepared: PreparedClaims, resolve: Callable[[Option], Sequence[Device]]) -> None:
    """Meet the claims' problems in the scheduler's order, and count."""
    for claim in prepared.claims:
        least = 0
        for request in claim.requests:
            least += _least(request, resolve)
            if prepared.profile.count_each_request:
                _check_count(claim, least)
        for option in claim.before:
            if option.all_devices:
                resolve(option)
        if claim.problem is not None:
            raise claim.problem.with_traceback(None)
        _check_count(claim, least)
        if claim.late_problem is not None:
            raise claim.late_problem.with_traceback(None)


def _least(request: Request, resolve: Callable[[Option], Sequence[Device]]) -> int:
    return min(len(resolve(one)) if one.all_devices else one.count for one in request.options)


def _check_count(claim: Claim, least: int) -> None:
    if least > MAX_RESULTS:
        raise TooManyDevicesError(
            f"claim {claim.name} would get {least} devices, but at most {MAX_RESULTS} are possible",
            field=f"{claim.name}: spec.devices.requests",
            remedy="Use several claims.",
        )


@dataclass(frozen=True, slots=True)
class _Blame:
    option: Option
    devices: tuple[DeviceRefusal, ...]


class Attempt:
    """An attempt; to be run once."""

    def __init__(
        self,
        prepared: PreparedClaims,
        *,
        node: Node,
        pools: Sequence[Pool],
        in_use: InUse,
        preference: Preference | None = None,
        verdicts: Verdicts | None = None,
        shortcuts: bool = True,
        limit: int | None = None,
    ) -> None:
        """Make an attempt.

        Args:
            prepared: What is asked.
            node: Where.
            pools: The node's, as `gather` gives them.
            in_use: What is held.
            preference: In what order devices are tried.
            verdicts: What is known of selectors.
            shortcuts: Whether the search may leave out what is like something that failed.
            limit: After how many steps the search is given up; `MAX_STEPS` if None.
        """
        self._prepared = prepared
        self._claims = prepared.claims
        self._node = node
        self._pools = pools
        self._in_use = in_use
        self._preference = preference
        self._shortcuts = shortcuts
        self._limit = limit
        self._devices: Sequence[Device] = [device for pool in pools for device in pool.usable]
        self._orders: dict[Option, Sequence[Device]] = {}
        self._all: dict[Option, tuple[Device, ...]] = {}
        self._blame: _Blame | None = None
        # Whether the blame is of one request for itself, whatever the others are given.
        self._alone = False
        profile = prepared.profile
        # The judge's books show what others hold only, the search's what this pod is given as well.
        self._fit = Fit(
            node=node,
            in_use=in_use,
            ledgers=ledgers(pools, in_use, profile),
            profile=profile,
            verdicts=verdicts,
        )
        self.steps = 0

    def run(self) -> Sequence[Chosen]:
        """Look for devices.

        Raises:
            AllocationError: There are none, or the question cannot be answered.
        """
        _go_through(self._prepared, self._resolve)
        self._look_for_any()
        search = self._search()
        try:
            solved = search.solve()
        except SearchLimitError:
            # What is impossible anyway needs no complete search.
            if self._blame is None:
                raise
            solved = False
        finally:
            self.steps = search.steps
        if solved:
            return search.chosen
        if self._blame is None and search.deepest is not None:
            self._blame = _Blame(*search.deepest)
        raise self._without_solution()

    def confirms(self, chosen: Sequence[Chosen]) -> bool:
        """Say whether the evaluator agrees with the verdicts that a choice rests on."""
        return all(self._fit.confirms(one.device, one.option) for one in chosen)

    def refusal(self, error: AllocationError) -> Refusal:
        """Say why nothing was given."""
        blame = self._blame
        devices = blame.devices if blame else ()
        if blame:
            devices += tuple(self._unusable())
        return Refusal(
            reason=error.reason,
            message=error.message,
            field=error.field,
            remedy=error.remedy,
            retriable=error.retriable and (not devices or any(one.reason in _PASSING for one in devices)),
            node=self._node.name,
            request=blame.option.label if blame else "",
            devices=devices,
        )

    def _search(self, first: Place = (0, 0), last: Place | None = None, limit: int | None = None) -> Search:
        books = ledgers(self._pools, self._in_use, self._prepared.profile)
        holdings = Holdings(self._claims, self._fit, books)
        symmetry = Symmetry(
            claims=self._claims,
            devices=self._devices,
            all_devices=self._all,
            options=[
                option
                for number, claim in enumerate(self._claims)
                for place, request in enumerate(claim.requests)
                if first <= (number, place) and (last is None or (number, place) <= last)
                for option in request.options
            ],
            fit=self._fit,
            holdings=holdings,
        )
        return Search(
            claims=self._claims,
            all_devices=self._all,
            order=self._order,
            holdings=holdings,
            symmetry=symmetry if self._shortcuts else None,
            first=first,
            last=last,
            part=self._search if last is None and self._shortcuts else None,
            limit=self._limit if limit is None else limit,
        )

    def _order(self, option: Option) -> Sequence[Device]:
        if self._preference is None:
            return self._devices
        if option not in self._orders:
            self._orders[option] = ordered(
                self._devices, option, preference=self._preference, in_use=self._in_use
            )
        return self._orders[option]

    def _unusable(self) -> list[DeviceRefusal]:
        refusals = []
        for pool in self._pools:
            reason = "PoolIncomplete" if pool.incomplete else "PoolInvalid" if pool.invalid else ""
            if reason:
                message = pool.invalid or "slices of its pool are missing"
                refusals += [DeviceRefusal.of(device.id, reason, message) for device in pool.devices]
        return refusals

    def _resolve(self, option: Option) -> Sequence[Device]:
        """Find out what mode All means here."""
        found: list[Device] = []
        for pool in self._pools:
            if pool.incomplete:
                raise PoolIncompleteError(
                    f"request {option.label} wants all devices, but slices of {pool.title} are missing",
                    field=option.path,
                    remedy="Wait for the driver to publish them.",
                )
            if pool.invalid:
                raise AllPoolInvalidError(
                    f"request {option.label} wants all devices, but {pool.title} is invalid: {pool.invalid}",
                    field=option.path,
                )
            for device in pool.devices:
                if device.problem:
                    raise NotSupportedError(
                        f"request {option.label} wants all devices, {device.id.device} too: {device.problem}",
                        field=option.path,
                    )
                if self._fit.selected(device, option) is None and self._fit.counts(device, option):
                    found.append(device)
        self._all[option] = tuple(found)
        return found

    def _look_for_any(self) -> None:
        """End the attempt where some request has too few devices and nothing can raise."""
        for claim in self._claims:
            for request in claim.requests:
                blame: _Blame | None = None
                for option in request.options:
                    blame = self._too_few(option)
                    if blame is None:
                        break
                self._blame = self._blame or blame
        self._alone = self._blame is not None
        if self._alone and not any(
            self._may_end_it(claim, option)
            for claim in self._claims
            for request in claim.requests
            for option in request.options
        ):
            raise self._without_solution()

    def _too_few(self, option: Option) -> _Blame | None:
        if option.all_devices:
            return None
        refusals: list[DeviceRefusal] = []
        fitting = 0
        for device in self._devices:
            found = self._fit.outcome(device, option)
            if isinstance(found, Fits):
                fitting += 1
                if fitting >= option.count:
                    return None
            elif isinstance(found, DeviceRefusal):
                refusals.append(found)
            else:
                # The search may never come here, so nothing is concluded from it.
                return None
        return _Blame(option, tuple(refusals))

    def _may_end_it(self, claim: Claim, option: Option) -> bool:
        """Say whether the search could meet an error with this option before it finds that nothing fits."""
        if option.all_devices:
            return any(constraint.binds(option.label) for constraint in claim.constraints)
        return any(isinstance(self._fit.outcome(device, option), AllocationError) for device in self._devices)

    def _without_solution(self) -> AllocationError:
        invalid = next((pool for pool in self._pools if pool.invalid), None)
        if invalid is not None:
            return PoolInvalidError(f"{invalid.title} is invalid, and nothing else fits: {invalid.invalid}")
        label = self._blame.option.label if self._blame else ""
        count = self._blame.option.count if self._blame else 1
        where = f"on node {self._node.name}"
        if self._alone:
            what = "no device fits" if count <= 1 else f"fewer than {count} devices fit"
            return NoDeviceError(f"request {label}: {what} {where}")
        if sum(len(claim.requests) for claim in self._claims) > 1:
            return NoCombinationError(f"request {label} cannot be met {where} together with the others")
        what = "no device can be given" if count <= 1 else f"no {count} devices can be given together"
        return NoCombinationError(f"request {label}: {what} {where}")
