"""Reads from the API server what the informers do not hold.

Flow: `all_claims` once for each time that this replica begins to lead, since another one may have led before
and its last writes may not have been seen yet, or may not even have arrived: those are made to fail
(`writing.fence`; `sending` says why that is needed). `long_texts` when it is the turn of a pod of which, or
of whose claims, not everything is kept.

Limits: where the server does not answer, all who wait ask it together, ever more rarely. Nothing is decided
before all claims were read, so one request for each claim on which the finalizer was left, or was put by
whoever made the claim, comes first; several at a time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from controller.allocating.sending import Sending
from controller.allocating.sources import Sources
from controller.allocating.views import ClaimView, PodView, asked_text, wishes_text
from controller.allocating.writing import fence, may_be_written
from controller.shared_text import shared
from driver.kube.backoff import Backoff
from driver.kube.client import JSON, ApiError, KubeClient, NotFoundError, UnreachableError
from driver.kube.paging import pages
from driver.kube.resources import PODS, RESOURCE_CLAIMS, Resource

_PAGE = 50
"""Claims that are read at once, at most."""

_FENCED_AT_ONCE = 8


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

    def __init__(self, client: KubeClient, sources: Sources, sending: Sending) -> None:
        self._client = client
        self._sources = sources
        self._sending = sending
        self._lock = asyncio.Lock()
        self._done = False
        self._again_at = float("-inf")
        self._backoff = Backoff(base_s=0.5, cap_s=15.0)

    def begin(self) -> None:
        """All claims are to be read again."""
        self._done = False

    async def all_claims(self) -> None:
        """Reads all claims, and sees to it that nothing older is written, if that was not done since `begin`.

        Raises:
            ApiError: The server did not answer, now or a moment ago.
            LeadershipLostError: This replica does not lead any more.
        """
        async with self._lock:
            if self._done:
                return
            clock = asyncio.get_running_loop().time
            if clock() < self._again_at:
                raise UnreachableError("The claims could not be read anew a moment ago.", status=0)
            try:
                await self._pages()
            except ApiError:
                self._again_at = clock() + self._backoff.next_delay()
                raise
            self._backoff.reset()
            self._done = True

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
        async for page in pages(self._client, RESOURCE_CLAIMS, most=_PAGE):
            items = page.get("items") or []
            for item in items:
                self._sources.claims.observe(item)
            fenced = [item for item in items if may_be_written(item) and self._may_be_ours(item)]
            for first in range(0, len(fenced), _FENCED_AT_ONCE):
                await self._fence(fenced[first : first + _FENCED_AT_ONCE])
            # Before the next one is read: all of it may be large.
            del page, items, fenced

    async def _fence(self, claims: Iterable[JSON]) -> None:
        # Items of a list do not say what they are.
        known = {"apiVersion": RESOURCE_CLAIMS.api_version, "kind": RESOURCE_CLAIMS.kind}
        stored = await asyncio.gather(
            *(fence(self._sending, {**known, **one}) for one in claims), return_exceptions=True
        )
        for one in stored:
            if isinstance(one, BaseException):
                raise one
            if one is not None:
                self._sources.claims.observe(one)

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
