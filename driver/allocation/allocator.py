"""One decision: a pod's claims on a node.

Purpose: the order in which the scheduler looks at things, from the claims' fields to the search.

Flow: read the claims, gather the node's pools, resolve mode All, count, look whether each request has any
device at all, search, write results.

Limits: pure; a snapshot is never changed. Errors in one claim are told for the pod as a whole, as the
scheduler does.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from driver.allocation.counters import Ledger
from driver.allocation.decision import Decision, DeviceRefusal, Refusal
from driver.allocation.errors import (
    NoCombinationError,
    NoDeviceError,
    NotSupportedError,
    PoolIncompleteError,
    PoolInvalidError,
    SearchLimitError,
    SelectorFailedError,
    SelectorUnknownError,
    TooManyDevicesError,
)
from driver.allocation.fit import Fit, Fits
from driver.allocation.models import JSON, Device
from driver.allocation.nodes import Node
from driver.allocation.pools import Pool, gather
from driver.allocation.preference import Preference
from driver.allocation.requests import Claim, Option, parse_claim
from driver.allocation.result import allocation_result
from driver.allocation.search import MAX_RESULTS, Search
from driver.allocation.snapshot import Snapshot
from driver.cel.environments import DEFAULT_RELEASE
from driver.errors import AllocationError

# Reasons against a device that can go away while the claim stays as it is.
_PASSING = frozenset({"InUse", "CapacityInUse", "CountersExhausted", "PoolIncomplete", "Tainted"})


def allocate(
    snapshot: Snapshot,
    *,
    node: str,
    claims: Sequence[JSON],
    release: str = DEFAULT_RELEASE,
    share_id: Callable[[], str] | None = None,
    preference: Preference | None = None,
) -> Decision:
    """Decide whether a pod's claims can be met on a node, and by which devices.

    Args:
        snapshot: The state of the cluster.
        node: Name of the node.
        claims: The pod's ResourceClaims (v1) that are not allocated yet, in the pod's order.
        release: Kubernetes release whose rules apply.
        share_id: Makes ids for shares; random UUIDs if not given.
        preference: In what order devices are tried; kube-scheduler's if not given.
    """
    attempt = _Attempt(snapshot, snapshot.nodes.get(node) or Node(node, {}), release, preference)
    try:
        return attempt.run(claims, share_id or (lambda: str(uuid.uuid4())))
    except AllocationError as error:
        return Decision(node, None, attempt.refusal(error), attempt.steps)


@dataclass(frozen=True, slots=True)
class _Blame:
    option: Option
    devices: tuple[DeviceRefusal, ...]


class _Attempt:
    def __init__(self, snapshot: Snapshot, node: Node, release: str, preference: Preference | None) -> None:
        self._snapshot = snapshot
        self._preference = preference
        self._node = node
        self._release = release
        self._blame: _Blame | None = None
        self.steps = 0
        self._pools: list[Pool] = []

    def run(self, raw: Sequence[JSON], share_id: Callable[[], str]) -> Decision:
        claims = [parse_claim(one, self._snapshot.classes) for one in raw]
        self._pools = gather(self._snapshot, self._node)
        in_use = self._snapshot.in_use
        # The judge's books show what others hold only, the search's what this pod is given as well.
        fit = Fit(node=self._node, in_use=in_use, ledgers=self._ledgers(), release=self._release)
        everything = self._resolve_all(claims, fit)
        devices = [device for pool in self._pools for device in pool.usable]
        self._look_for_any(claims, devices, fit)
        search = Search(
            claims=claims,
            devices=devices,
            all_devices=everything,
            fit=fit,
            ledgers=self._ledgers(),
            in_use=in_use,
            preference=self._preference,
        )
        try:
            solved = search.solve()
        except SearchLimitError:
            # What is impossible anyway needs no complete search.
            if self._blame is None:
                raise
            solved = False
        finally:
            self.steps = search.steps
        if not solved:
            if self._blame is None and search.deepest is not None:
                self._blame = _Blame(*search.deepest)
            raise self._without_solution(claims)
        results = tuple(
            allocation_result(
                claim,
                [one for one in search.chosen if one.claim == number],
                node=self._node,
                release=self._release,
                share_id=share_id,
            )
            for number, claim in enumerate(claims)
        )
        return Decision(self._node.name, results, None, self.steps)

    def _ledgers(self) -> dict[Device, Ledger]:
        ledgers: dict[Device, Ledger] = {}
        for pool in self._pools:
            ledgers.update(dict.fromkeys(pool.devices, Ledger(pool, self._snapshot.in_use)))
        return ledgers

    def refusal(self, error: AllocationError) -> Refusal:
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

    def _unusable(self) -> list[DeviceRefusal]:
        refusals = []
        for pool in self._pools:
            reason = "PoolIncomplete" if pool.incomplete else "PoolInvalid" if pool.invalid else ""
            if reason:
                message = pool.invalid or "slices of its pool are missing"
                refusals += [DeviceRefusal.of(device.id, reason, message) for device in pool.devices]
        return refusals

    def _resolve_all(self, claims: Sequence[Claim], fit: Fit) -> dict[Option, tuple[Device, ...]]:
        everything: dict[Option, tuple[Device, ...]] = {}
        for claim in claims:
            least = 0
            for request in claim.requests:
                counts = []
                for option in request.options:
                    if option.all_devices:
                        everything[option] = self._all_for(option, fit)
                        counts.append(len(everything[option]))
                    else:
                        counts.append(option.count)
                least += min(counts)
            if least > MAX_RESULTS:
                raise TooManyDevicesError(
                    f"claim {claim.name} would get {least} devices, but at most {MAX_RESULTS} are possible",
                    remedy="Use several claims.",
                )
        return everything

    def _all_for(self, option: Option, fit: Fit) -> tuple[Device, ...]:
        found: list[Device] = []
        for pool in self._pools:
            if pool.incomplete:
                raise PoolIncompleteError(
                    f"request {option.label} wants all devices, but slices of {pool.title} are missing",
                    remedy="Wait for the driver to publish them.",
                )
            if pool.invalid:
                raise PoolInvalidError(
                    f"request {option.label} wants all devices, but {pool.title} is invalid: {pool.invalid}"
                )
            for device in pool.devices:
                if device.problem:
                    raise NotSupportedError(
                        f"request {option.label} wants all devices, with {device.id.device}: {device.problem}"
                    )
                if fit.selected(device, option) is None and fit.static_capacity(
                    device, option, against_held=self._release < "1.37"
                ):
                    found.append(device)
        return tuple(found)

    def _look_for_any(self, claims: Sequence[Claim], devices: Sequence[Device], fit: Fit) -> None:
        impossible: _Blame | None = None
        for claim in claims:
            for request in claim.requests:
                blame: _Blame | None = None
                for option in request.options:
                    blame = self._too_few(option, devices, fit)
                    if blame is None:
                        break
                impossible = impossible or blame
        if impossible is None:
            return
        self._blame = impossible
        if not any(
            _may_end_it(claim, option, devices, fit) for claim in claims for option in _options(claim)
        ):
            raise self._without_solution(claims)

    def _too_few(self, option: Option, devices: Sequence[Device], fit: Fit) -> _Blame | None:
        if option.all_devices:
            return None
        refusals: list[DeviceRefusal] = []
        fitting = 0
        for device in devices:
            try:
                verdict = fit.verdict(device, option)
            except (SelectorFailedError, SelectorUnknownError):
                # The search may never come here, so nothing is concluded from it.
                return None
            if isinstance(verdict, Fits):
                fitting += 1
                if fitting >= option.count:
                    return None
            else:
                refusals.append(verdict)
        return _Blame(option, tuple(refusals)) if option.count else None

    def _without_solution(self, claims: Sequence[Claim]) -> AllocationError:
        invalid = next((pool for pool in self._pools if pool.invalid), None)
        if invalid is not None:
            return PoolInvalidError(f"{invalid.title} is invalid, and nothing else fits: {invalid.invalid}")
        label = self._blame.option.label if self._blame else ""
        where = f"on node {self._node.name}"
        if self._blame and self._blame.option.count > 1 and len(claims) == 1:
            return NoDeviceError(
                f"request {label}: fewer than {self._blame.option.count} devices fit {where}"
            )
        if self.steps:
            return NoCombinationError(f"request {label} cannot be met {where} together with the others")
        return NoDeviceError(f"request {label}: no device fits {where}")


def _options(claim: Claim) -> list[Option]:
    return [option for request in claim.requests for option in request.options]


def _may_end_it(claim: Claim, option: Option, devices: Sequence[Device], fit: Fit) -> bool:
    """Say whether the search could meet an error with this option before it finds that nothing fits."""
    if option.all_devices:
        return bool(claim.constraints)
    try:
        for device in devices:
            fit.verdict(device, option)
    except (SelectorFailedError, SelectorUnknownError):
        return True
    return False
