"""One leader among the replicas, by a Lease of coordination.k8s.io.

Purpose: never two publishers, never two who explain. (kopf's peering freezes both where priorities are equal,
hence our own.)

Flow: a candidate takes the Lease if nobody holds it, or if it has not *seen it change* for as long as the
holder promised to renew it; then it leads while it renews. It stops leading before anybody else can begin:
the work is cancelled `renew_deadline_s` after the last renewal was *sent*, the Lease ends `duration_s` after
it at the earliest. `held` is asked before each write as well, because a process that was stopped and resumed
wakes up in the middle of its work; `left_s` says how long a write may be under way.

Limits: clocks of different machines are never compared, only how long ago this process saw a change; the time
that a machine was asleep counts, which the event loop's clock passes over. A
request that is under way when leadership is lost may be cut off; between the two limits it has
`duration_s - renew_deadline_s` to be over. Where the work waits for its requests when it is cancelled, the
Lease is given back after that.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import structlog

from driver.errors import DragomanError
from driver.kube.client import JSON, ApiError, ConflictError, KubeClient, NotFoundError
from driver.kube.resources import LEASES

_log = structlog.get_logger("lease")


class LeadershipLostError(DragomanError):
    """This replica does not lead any more; whoever does will go on."""

    reason = "NotLeading"
    retriable = True


def sleepless_s() -> float:
    """Seconds since the machine was started; where the system can tell, also those in which it was asleep."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


@dataclass(frozen=True, kw_only=True)
class LeaseSettings:
    """Names and times of a Lease.

    Attributes:
        name: Name of the Lease.
        namespace: Its namespace.
        identity: Name of this process, never the same for two processes (also not after a restart).
        duration_s: How long others wait after the last renewal.
        renew_deadline_s: How long this process goes on without a renewal; less than `duration_s`.
        retry_s: Seconds between two tries.
    """

    name: str
    namespace: str
    identity: str
    duration_s: float = 15.0
    renew_deadline_s: float = 10.0
    retry_s: float = 2.0


class LeaderElection:
    """Takes part in the election until cancelled."""

    def __init__(
        self,
        client: KubeClient,
        settings: LeaseSettings,
        *,
        wall_clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        sleepless_clock: Callable[[], float] = sleepless_s,
    ) -> None:
        """Prepares a candidate; `run` starts it.

        Args:
            client: The API server.
            settings: Names and times.
            wall_clock: The time that the Lease carries.
            sleepless_clock: Seconds, those included in which the machine was asleep.
        """
        self.settings = settings
        self._client = client
        self._wall_clock = wall_clock
        self._seen: tuple[str, str] = ("", "")
        self._seen_at = float("-inf")
        self._promise_s = settings.duration_s
        self._held_until = float("-inf")
        self._sleepless_clock = sleepless_clock
        self._awake_until = float("-inf")
        self._leading = False
        self.leader = ""
        self.transitions = 0

    @property
    def held(self) -> bool:
        """Whether this process may write as the leader at this very moment."""
        return (
            asyncio.get_running_loop().time() < self._held_until
            and self._sleepless_clock() < self._awake_until
        )

    @property
    def left_s(self) -> float:
        """Seconds before anybody else can lead, by every clock of this process; 0 where it may not write.

        At least `duration_s - renew_deadline_s` while the Lease is held.
        """
        if not self.held:
            return 0.0
        beyond_s = self.settings.duration_s - self.settings.renew_deadline_s
        now = asyncio.get_running_loop().time()
        return beyond_s + min(self._held_until - now, self._awake_until - self._sleepless_clock())

    @property
    def uid(self) -> str:
        """UID of the Lease as it was last seen; "" before that."""
        return self._seen[0]

    async def run(self, lead: Callable[[], Awaitable[None]]) -> None:
        """Runs `lead` whenever this process leads, and cancels it when it does not any more.

        Raises:
            Exception: Whatever `lead` raises; it is not expected to return.
        """
        try:
            while True:
                await self._until_acquired()
                self.transitions += 1
                _log.info("leading", lease=self.settings.name, identity=self.settings.identity)
                await self._while_held(lead)
                _log.warning("not leading any more", lease=self.settings.name)
        finally:
            await self._release()

    async def _until_acquired(self) -> None:
        while True:
            if await self._attempt():
                return
            await asyncio.sleep(self.settings.retry_s)

    async def _while_held(self, lead: Callable[[], Awaitable[None]]) -> None:
        work = asyncio.ensure_future(lead())
        self._leading = True
        try:
            while True:
                # Wakes up in time for the next renewal, and at once if the work ends.
                await asyncio.wait([work], timeout=self.settings.retry_s)
                if work.done():
                    work.result()
                    return
                if not self.held:
                    # What others did meanwhile is not known to the work, even if the Lease is free again.
                    return
                with suppress(TimeoutError):
                    async with asyncio.timeout_at(self._held_until):
                        if not await self._attempt() and self._lost():
                            return
                if not self.held:
                    return
        finally:
            self._leading = False
            self._held_until = min(self._held_until, asyncio.get_running_loop().time())
            work.cancel()
            await asyncio.gather(work, return_exceptions=True)

    def _lost(self) -> bool:
        """Whether the Lease was seen not to be held by this process."""
        return self.leader != self.settings.identity

    async def _attempt(self) -> bool:
        """Takes or renews the Lease; False if that did not work this time."""
        sent, sent_sleepless = asyncio.get_running_loop().time(), self._sleepless_clock()
        try:
            if not await self._take():
                return False
        except ApiError as failed:
            _log.warning("lease not renewed", error=str(failed))
            return False
        self._held_until = sent + self.settings.renew_deadline_s
        self._awake_until = sent_sleepless + self.settings.renew_deadline_s
        # An answer that took longer than the deadline is of no use.
        return self.held

    async def _take(self) -> bool:
        try:
            lease = await self._client.get(LEASES, self.settings.name, namespace=self.settings.namespace)
        except NotFoundError:
            return await self._create()
        spec: dict[str, Any] = lease.get("spec") or {}
        self._look_at(lease, spec)
        mine = self.leader == self.settings.identity
        if not mine and (self._leading or (self.leader and self._fresh())):
            # Whoever has led in between has done what the work that is going on knows nothing of.
            return False
        now = _micro_time(self._wall_clock())
        spec = {**spec, **self._promise(), "renewTime": now}
        if not mine:
            spec["acquireTime"] = now
            spec["leaseTransitions"] = int(spec.get("leaseTransitions") or 0) + 1
        try:
            await self._client.replace(
                LEASES, {**lease, "spec": spec}, name=self.settings.name, namespace=self.settings.namespace
            )
        except ConflictError:
            return False
        self.leader = self.settings.identity
        return True

    async def _create(self) -> bool:
        now = _micro_time(self._wall_clock())
        spec = {**self._promise(), "acquireTime": now, "renewTime": now, "leaseTransitions": 0}
        body: JSON = {
            "apiVersion": LEASES.api_version,
            "kind": LEASES.kind,
            "metadata": {"name": self.settings.name, "namespace": self.settings.namespace},
            "spec": spec,
        }
        try:
            await self._client.create(LEASES, body, namespace=self.settings.namespace)
        except ConflictError:
            return False
        self.leader = self.settings.identity
        return True

    def _look_at(self, lease: JSON, spec: dict[str, Any]) -> None:
        seen = (str(lease["metadata"].get("uid")), str(lease["metadata"].get("resourceVersion")))
        if seen != self._seen:
            self._seen = seen
            self._seen_at = asyncio.get_running_loop().time()
        self.leader = str(spec.get("holderIdentity") or "")
        self._promise_s = float(spec.get("leaseDurationSeconds") or self.settings.duration_s)

    def _fresh(self) -> bool:
        return asyncio.get_running_loop().time() < self._seen_at + self._promise_s

    def _promise(self) -> JSON:
        return {
            "holderIdentity": self.settings.identity,
            "leaseDurationSeconds": math.ceil(self.settings.duration_s),
        }

    async def _release(self) -> None:
        """Gives the Lease back, so that the next leader need not wait; the work is over by now."""
        if self.leader != self.settings.identity:
            return
        self.leader = ""
        with suppress(ApiError, TimeoutError):
            async with asyncio.timeout(self.settings.retry_s):
                lease = await self._client.get(LEASES, self.settings.name, namespace=self.settings.namespace)
                spec = lease.get("spec") or {}
                if spec.get("holderIdentity") == self.settings.identity:
                    spec = {**spec, "holderIdentity": "", "leaseDurationSeconds": 1}
                    await self._client.replace(
                        LEASES,
                        {**lease, "spec": spec},
                        name=self.settings.name,
                        namespace=self.settings.namespace,
                    )


def _micro_time(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
