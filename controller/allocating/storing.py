"""Stores what was decided, and finds out what became of it.

Flow: `book` before anything is written, then `write_all`. A write that got no answer stays in the books as a
doubt until `reconcile` of its claim knows what is stored. `taken_back` sees what kube-scheduler, or somebody
else, deallocates.

What nobody needs is released by `reconcile`: an allocation of ours that no pod holds or waits for; and what
`loosen` asks for: one whose pods all wait for other claims that do not fit beside it, so that all of them can
be decided together anew, or are not placed although they have it.

Limits: one write after the other for a pod. What is in the books leaves them only when it is known that it is
not stored, or its own state counts.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Sequence
from datetime import datetime

import structlog

from controller.allocating.books import Books
from controller.allocating.errors import ClaimChangedError
from controller.allocating.fencing import is_blank, settled
from controller.allocating.sending import Sending
from controller.allocating.sources import Sources
from controller.allocating.usage import NodeUsage
from controller.allocating.views import ClaimView, PodView
from controller.allocating.writing import Wanted, release, write
from controller.lease import LeadershipLostError
from driver.allocation import Decision
from driver.errors import AllocationError
from driver.kube.client import JSON, ApiError, ConflictError, NotFoundError
from driver.kube.resources import RESOURCE_CLAIMS

_DEFINITE = (400, 403, 404, 410, 413, 422)
"""Answers that say that nothing was stored. A conflict says less: HTTP clients send a PUT again by themselves
where a kept connection breaks, and then it may be one with our own first try."""
_SOON_S = 0.5

_log = structlog.get_logger("allocating")


class Storing:
    """Writes claims."""

    def __init__(
        self,
        sending: Sending,
        sources: Sources,
        books: Books,
        *,
        usage: NodeUsage,
        pods_of: Callable[[str], Collection[str]],
        version: Callable[[], int],
        again: Callable[[str, float], None],
        freed: Callable[[], None],
        orphaned_s: float,
        wall_clock: Callable[[], datetime],
    ) -> None:
        """Starts without anything under way.

        Args:
            sending: Sends requests while this replica leads.
            sources: Where claims and pods are found.
            books: What is given out.
            usage: What pods take of nodes.
            pods_of: The pods that name a claim (`namespace/name`).
            version: Resource version up to which claims are known; 0 if that is not known.
            again: Puts a key into the queue, after so many seconds.
            freed: Told that something that was booked is not any more.
            orphaned_s: How long an allocation of ours may be of no use before it is released.
            wall_clock: The time that allocations carry.
        """
        self._sending = sending
        self._sources = sources
        self._books = books
        self._usage = usage
        self._pods_of = pods_of
        self._version = version
        self._again = again
        self._freed = freed
        self._orphaned_s = orphaned_s
        self._wall_clock = wall_clock
        self._placed: dict[str, tuple[str, str]] = {}
        self._writing: set[str] = set()
        self._orphans: dict[str, float] = {}
        self._loose: dict[str, dict[str, float]] = {}

    def begin(self) -> None:
        """Forgets what was known of claims while another replica may have led."""
        self._placed.clear()
        self._orphans.clear()
        self._loose.clear()

    def book(
        self, key: str, view: PodView, mine: Sequence[tuple[str, ClaimView]], decision: Decision
    ) -> list[Wanted]:
        """Books what was decided for a pod's claims; what has to be written."""
        namespace, _, pod = key.partition("/")
        holder = {"resource": "pods", "name": pod, "uid": view.uid} if view.node else None
        wanted = []
        for (name, claim), allocation in zip(mine, decision.allocations or (), strict=True):
            one = Wanted(
                namespace=namespace,
                name=name,
                uid=claim.uid,
                allocation=allocation,
                holder=holder,
                seen=self._version(),
            )
            self._books.assume(one)
            self._placed[claim.uid] = (key, decision.node)
            wanted.append(one)
        return wanted

    async def write_all(self, wanted: Sequence[Wanted]) -> None:
        """Writes what was booked.

        Raises:
            AllocationLostError: The server lost a part of it; it was taken back.
            ApiError: The server refused, or gave no answer.
            LeadershipLostError: This replica does not lead any more.
        """
        left = list(wanted)
        try:
            while left:
                await self._write(left.pop(0))
        finally:
            # One that was not even tried must not stay booked: nothing would ever end that.
            for one in left:
                self._undo(one)

    def taken_back(self, before: ClaimView | None, after: ClaimView | None) -> tuple[str, str] | None:
        """Pod and node of an allocation that we decided and somebody else took back; None if it is none."""
        if before is None or (after is not None and (after.allocated or not before.allocated)):
            return None
        placed = self._placed.pop(before.uid, None)
        if placed is None:
            return None
        self._usage.unexpect(placed[0])
        # What is being written is taken back by nobody but us; and what is for another node, or for none as
        # `fencing.blank` is, was not decided for the pod.
        ours = before.uid in self._writing or before.node != placed[1]
        if after is None or after.uid != before.uid or ours:
            return None
        return placed

    def loosen(self, pod: str, claims: Sequence[tuple[str, ClaimView]], *, at_once: bool = False) -> None:
        """A pod (`namespace/name`) cannot use those of these claims that are allocated.

        Its other claims do not fit beside them; or, `at_once`, it has had them in vain for long enough.
        """
        namespace = pod.partition("/")[0]
        for name, claim in claims:
            key = f"{namespace}/{name}"
            if claim.allocated and claim.ours and not claim.reserved:
                loose = self._loose.setdefault(key, {})
                if at_once:
                    loose[pod] = _now() - self._orphaned_s
                since = loose.setdefault(pod, _now())
                self._again(f"claim/{key}", since + self._orphaned_s - _now())

    def fits_beside(self, pod: str, claims: Sequence[tuple[str, ClaimView]]) -> None:
        """The opposite of `loosen`."""
        namespace = pod.partition("/")[0]
        for name, _ in claims:
            self._loose.get(f"{namespace}/{name}", {}).pop(pod, None)

    async def reconcile(self, key: str) -> float | None:
        """Looks at a claim (`namespace/name`); seconds until it should be looked at again, or None.

        Raises:
            AllocationHeldUpError: It cannot be told what is stored, since the claim may not be changed.
            ApiError: It cannot be told what is stored, or the release failed.
            LeadershipLostError: This replica does not lead any more.
        """
        doubted = self._books.doubted(key)
        if doubted is not None:
            await self._settle(doubted)
        view = self._sources.claims.get(key)
        since = self._useless_since(key, view)
        if since is None or view is None:
            return None
        wait_s = since + self._orphaned_s - _now()
        if wait_s > 0:
            return wait_s
        namespace, _, name = key.partition("/")
        claim = await self._read(name, namespace)
        status = claim.get("status") or {}
        unchanged = claim["metadata"].get("uid") == view.uid and bool(status.get("allocation"))
        held = bool(status.get("reservedFor")) and not is_blank(claim)
        if unchanged and not held and self._useless_since(key, view) is not None:
            self._sending.check()
            self._forget_place(view.uid)
            self._sources.claims.observe(await release(self._sending, claim))
            _log.info("released a claim that is of no use", claim=key)
        self._orphans.pop(key, None)
        self._loose.pop(key, None)
        return None

    def _useless_since(self, key: str, view: ClaimView | None) -> float | None:
        """Since when an allocation of ours has been of no use to anybody; None if it is of some."""
        pods = [pod for pod in self._pods_of(key) if not self._gone(pod)]
        if view is not None and view.blank:
            # Left by a write that takes a moment; a pod that holds it has to wait for another one.
            return self._orphans.setdefault(key, _now())
        if view is None or not view.ours or view.reserved or view.deleting:
            self._orphans.pop(key, None)
            self._loose.pop(key, None)
            return None
        if not pods:
            return self._orphans.setdefault(key, _now())
        self._orphans.pop(key, None)
        loose = self._loose.get(key, {})
        # A pod that has all its claims may be about to start with it.
        return max(loose[pod] for pod in pods) if loose.keys() >= set(pods) else None

    def _gone(self, pod: str) -> bool:
        view = self._sources.pods.get(pod)
        return view is None or view.gone

    async def _read(self, name: str, namespace: str) -> JSON:
        try:
            return await self._sending.get(RESOURCE_CLAIMS, name, namespace=namespace)
        except NotFoundError:
            return {"metadata": {}}

    async def _write(self, wanted: Wanted) -> None:
        self._writing.add(wanted.uid)
        try:
            self._sending.check()
            stored = await write(self._sending, wanted, now=self._wall_clock())
        except (AllocationError, LeadershipLostError) as refused:
            self._undo(wanted)
            if isinstance(refused, ClaimChangedError):
                return
            raise
        except BaseException as failed:
            if isinstance(failed, ApiError) and failed.status in _DEFINITE:
                self._undo(wanted)
                raise
            # Nobody knows whether it was stored (also where this task is cut off in the middle): it stays in
            # the books until somebody does.
            self._books.doubt(wanted)
            self._again(f"claim/{wanted.namespace}/{wanted.name}", _SOON_S)
            if isinstance(failed, ConflictError):
                await self._settle(wanted)
            raise
        finally:
            self._writing.discard(wanted.uid)
        self._sources.claims.observe(stored)
        self._books.drop(wanted)

    async def _settle(self, doubted: Wanted) -> None:
        stored = await settled(self._sending, doubted, now=self._wall_clock())
        if stored is not None:
            self._sources.claims.observe(stored)
        if stored is not None and (stored.get("status") or {}).get("allocation"):
            self._books.drop(doubted)
        else:
            self._undo(doubted)

    def _undo(self, wanted: Wanted) -> None:
        self._books.drop(wanted)
        if not self._books.assumed(wanted.uid):
            # Else it is that of what was decided since.
            self._forget_place(wanted.uid)
        # What was decided meanwhile counted with it.
        self._freed()

    def _forget_place(self, uid: str) -> None:
        placed = self._placed.pop(uid, None)
        if placed is not None:
            self._usage.unexpect(placed[0])


def _now() -> float:
    return asyncio.get_running_loop().time()
