"""Reads from the API server what the informers do not hold.

Flow: `all_claims` once for each time that this replica begins to lead, since another one may have led before
and its last writes may not have been seen yet; `long_texts` when it is the turn of a pod of which, or of
whose claims, not everything is kept.

Limits: where the server does not answer, all who wait ask it together, ever more rarely.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from controller.allocating.sources import Sources
from controller.allocating.views import ClaimView, PodView, asked_text, wishes_text
from controller.shared_text import shared
from driver.kube.backoff import Backoff
from driver.kube.client import JSON, ApiError, KubeClient, NotFoundError, UnreachableError
from driver.kube.resources import PODS, RESOURCE_CLAIMS, Resource

_PAGE = 50
"""Claims that are read at once: each may have 320 KiB of configuration that is none of ours."""


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

    def __init__(self, client: KubeClient, sources: Sources) -> None:
        self._client = client
        self._sources = sources
        self._lock = asyncio.Lock()
        self._done = False
        self._again_at = float("-inf")
        self._backoff = Backoff(base_s=0.5, cap_s=15.0)

    def begin(self) -> None:
        """All claims are to be read again."""
        self._done = False

    async def all_claims(self) -> None:
        """Reads all claims, if that was not done since `begin`.

        Raises:
            ApiError: The server did not answer, now or a moment ago.
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
        token = ""
        while True:
            page = await self._client.list_page(RESOURCE_CLAIMS, limit=_PAGE, continue_token=token)
            for item in page.get("items") or []:
                self._sources.claims.observe(item)
            token = str((page.get("metadata") or {}).get("continue") or "")
            if not token:
                return
