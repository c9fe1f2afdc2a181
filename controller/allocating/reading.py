"""Reads from the API server what the informers do not hold.

Flow: `all_claims` once for each time that this replica begins to lead, since another one may have led before
and its last writes may not have been seen yet, or may not even have arrived: those are made to fail
(`fencing.fence`; `sending` says why that is needed). `long_texts` when it is the turn of a pod of which, or
of whose claims, not everything is kept.

Limits: where the server does not answer, all who wait ask it together, ever more rarely. Nothing is decided
before all claims were read, so one request for each claim on which the finalizer was left, or was put by
whoever made the claim, comes first; several at a time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from datetime import datetime

from controller.allocating.errors import AllocationHeldUpError
from controller.allocating.fencing import fence, is_blank, unblanked
from controller.allocating.held_up import HeldUp, HoldUps
from controller.allocating.sending import Sending
from controller.allocating.sources import Sources
from controller.allocating.views import ClaimView, PodView, asked_text, wishes_text
from controller.allocating.writing import may_be_written
from controller.shared_text import shared
from driver.kube.backoff import Backoff
from driver.kube.client import JSON, ApiError, KubeClient, NotFoundError, UnreachableError
from driver.kube.paging import pages
from driver.kube.resources import PODS, RESOURCE_CLAIMS, Resource

_PAGE = 50
"""Claims that are read at once, at most."""

_FENCED_AT_ONCE = 8
_PATIENCE = 3
"""Tries that may end without an answer to a claim's change before that counts as a refusal."""


@dataclass(frozen=True)
class LongTexts:
    """What is too long to be kept: `asked_text` of claims and `wishes_text` of the pod, by UID."""

    asked: dict[str, bytes] = field(default_factory=dict)
    wishes: dict[str, bytes] = field(default_factory=dict)

    def __bool__(self) -> bool:
        """Whether anything was read."""
        return bool(self.asked or self.wishes)

    def whole(self, view: PodView) -> PodView:
        """A pod with what was read of it."""
        text = self.wishes.get(view.uid)
        return replace(view, wishes=shared(text)) if text else view


class Reading:
    """Reads claims and pods."""

    def __init__(
        self,
        client: KubeClient,
        sources: Sources,
        sending: Sending,
        *,
        hold_ups: HoldUps | None,
        wall_clock: Callable[[], datetime],
    ) -> None:
        """Has read nothing.

        Args:
            client: The API server, for what is only read.
            sources: What the informers hold.
            sending: Sends what changes something.
            hold_ups: Told of claims that may not be changed; None if nobody is.
            wall_clock: The time that allocations carry.
        """
        self._client = client
        self._sources = sources
        self._sending = sending
        self._hold_ups = hold_ups
        self._wall_clock = wall_clock
        self._held_up: dict[str, HeldUp] = {}
        self._unanswered = 0
        self._listed = False
        self._lock = asyncio.Lock()
        self._done = False
        self._again_at = float("-inf")
        self._backoff = Backoff(base_s=0.5, cap_s=15.0)

    def begin(self) -> None:
        """All claims are to be read again."""
        self._done = self._listed = False
        self._unanswered = 0
        self.end()

    def end(self) -> None:
        """Whatever held this replica up is another one's business."""
        self._held_up = {}
        if self._hold_ups is not None:
            self._hold_ups.over()

    async def all_claims(self) -> None:
        """Reads all claims, and sees to it that nothing older is written, if that was not done since `begin`.

        Raises:
            AllocationHeldUpError: Somebody refuses that a claim is changed, now or a moment ago.
            ApiError: The server did not answer, now or a moment ago.
            LeadershipLostError: This replica does not lead any more.
        """
        async with self._lock:
            if self._done:
                return
            clock = asyncio.get_running_loop().time
            if clock() < self._again_at:
                if self._held_up:
                    raise _held_up()
                raise UnreachableError("The claims could not be read anew a moment ago.", status=0)
            try:
                if self._listed:
                    await self._once_more()
                else:
                    await self._pages()
                    self._listed = True
                if self._held_up and self._hold_ups is not None:
                    await self._hold_ups.tell(self._held_up)
                if self._held_up:
                    raise _held_up()
            except (ApiError, AllocationHeldUpError):
                self._again_at = clock() + self._backoff.next_delay()
                raise
            self._backoff.reset()
            self._done = True
            self.end()

    async def long_texts(self, key: str, view: PodView, claims: Iterable[tuple[str, ClaimView]]) -> LongTexts:
        """Reads what is too long to be kept of a pod (`namespace/name`) and its claims.

        Raises:
            ApiError: The server did not answer.
        """
        read, (namespace, _, pod) = LongTexts(), key.partition("/")
        if not (view.node or view.wishes):
            document = await self._get(PODS, pod, namespace)
            read.wishes[str(document["metadata"].get("uid"))] = wishes_text(document)
        for name, claim in claims:
            if not claim.allocated and claim.asked is None:
                document = await self._get(RESOURCE_CLAIMS, name, namespace)
                read.asked[str(document["metadata"].get("uid"))] = asked_text(document)
        return read

    async def _get(self, resource: Resource, name: str, namespace: str) -> JSON:
        try:
            return await self._client.get(resource, name, namespace=namespace)
        except NotFoundError:
            return {"metadata": {}}

    async def _pages(self) -> None:
        self._held_up = {}
        async for page in pages(self._client, RESOURCE_CLAIMS, most=_PAGE):
            items = page.get("items") or []
            for item in items:
                self._sources.claims.observe(item)
            fenced = [
                item for item in items if (may_be_written(item) and self._may_be_ours(item)) or is_blank(item)
            ]
            for first in range(0, len(fenced), _FENCED_AT_ONCE):
                await self._fence(fenced[first : first + _FENCED_AT_ONCE])
            # Before the next one is read: all of it may be large.
            del page, items, fenced

    async def _once_more(self) -> None:
        """Tries those again that could not be changed; what nobody wrote before the list is no matter."""
        left, self._listed = list(self._held_up), False
        found: list[JSON] = []
        for key in left:
            namespace, _, name = key.partition("/")
            claim = await self._get(RESOURCE_CLAIMS, name, namespace)
            if claim["metadata"].get("uid"):
                self._sources.claims.observe(claim)
                found.append(claim)
        self._held_up = {}
        for first in range(0, len(found), _FENCED_AT_ONCE):
            await self._fence(found[first : first + _FENCED_AT_ONCE])
        self._listed = True

    async def _fence(self, claims: Iterable[JSON]) -> None:
        # Items of a list do not say what they are.
        known = {"apiVersion": RESOURCE_CLAIMS.api_version, "kind": RESOURCE_CLAIMS.kind}
        documents = [{**known, **one} for one in claims]
        stored = await asyncio.gather(*map(self._fence_one, documents), return_exceptions=True)
        for claim, one in zip(documents, stored, strict=True):
            if isinstance(one, AllocationHeldUpError):
                metadata = claim["metadata"]
                key = f"{metadata['namespace']}/{metadata['name']}"
                self._held_up[key] = HeldUp(str(metadata.get("uid") or ""), one)
            elif isinstance(one, BaseException):
                self._unanswered += 1
                raise one
            elif one is not None:
                self._sources.claims.observe(one)

    async def _fence_one(self, claim: JSON) -> JSON | None:
        if is_blank(claim):
            return await unblanked(self._sending, claim)
        insist = self._unanswered >= _PATIENCE
        return await fence(self._sending, claim, now=self._wall_clock(), insist=insist)

    def _may_be_ours(self, claim: JSON) -> bool:
        """Whether a leader may have allocated it: not where all its classes are those of other drivers."""
        requests = ((claim.get("spec") or {}).get("devices") or {}).get("requests") or []
        asks = (
            one
            for request in requests
            for one in (request.get("exactly"), *(request.get("firstAvailable") or []))
        )
        classes = (self._sources.classes.get(str(one.get("deviceClassName"))) for one in asks if one)
        # One that is not there any more may have been ours.
        return any(found is None or found.ours for found in classes)


def _held_up() -> AllocationHeldUpError:
    """What everybody is told who waits for it: the claim is none of theirs."""
    return AllocationHeldUpError(
        "The controller that began to lead may not change a claim, because an admission webhook or policy "
        "refuses it. Until it may, no cards are given out.",
        remedy="An administrator finds which claim, and who refuses, in an Event on the controller's Lease "
        "and in its log.",
    )
