"""Sends the allocator's writes, and only while this replica leads.

Purpose: two replicas that both write allocations over-commit cards. Leadership ends by time, and whoever was
stopped (SIGSTOP, a frozen machine, a loop that stood still) wakes up in the middle of its work with answers
that are long outdated, a few turns of the loop before its work is cut off.

Flow: `replace` asks for leadership right before it sends, and gives the request no more time than is left of
the Lease, here and at the API server (`timeout` of the URL).

Why that is enough: a process may still be stopped between the question and the sending, and a network may
hold a request back for longer than any limit, so that a write arrives under the next leader. What it can do
there is bounded by its resourceVersion, together with two rules. First, an allocation is only written to a
claim that carries the finalizer in that very version (`writing.write`), and the version was learnt before
leadership was asked for: it was stored before the Lease ended. Second, whoever begins to lead lists all
claims first, from the store and not from a cache, and changes each that has the finalizer and no allocation
(`fencing.fence`), before it decides anything. In that list the claim is

* in the version that the late write names: changing it makes the late write a conflict; or the late write
  came first, then changing it is the conflict, and the claim is read again, with its allocation; or
* in a later one: the late write is a conflict already.

An earlier one it cannot be, since the list was made after the Lease ended. A finalizer that arrives late is
harmless: whoever sent it asks for leadership again before the allocation. Releasing is harmless too: a claim
that is deallocated under the next leader is one that it counts for too long.

Limits: reads are sent at any time. A write that was sent is not cut off where its sender is cancelled: it
ends within its time limit, and `ended` waits for that. So whoever stops in good order gives the Lease back
when nothing of its own is under way.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol

from controller.lease import LeadershipLostError
from driver.kube.client import JSON, KubeClient
from driver.kube.resources import Resource


def version_of(document: JSON) -> int:
    """Resource version of an object or a list; 0 if there is none."""
    text = str((document.get("metadata") or {}).get("resourceVersion") or "")
    return int(text) if text.isascii() and text.isdigit() else 0


class Claims(Protocol):
    """What writing needs of an API server."""

    async def get(self, resource: Resource, name: str, *, namespace: str = "") -> JSON:
        """As `KubeClient.get`."""

    async def version(self, resource: Resource, name: str, *, namespace: str = "") -> int:
        """The server's newest resource version, by a list of one object; 0 if it does not say."""

    async def replace(
        self, resource: Resource, body: JSON, *, name: str, namespace: str = "", subresource: str = ""
    ) -> JSON:
        """As `KubeClient.replace`."""


class Sending:
    """Reads at any time, and writes while this replica leads; implements `Claims`."""

    def __init__(self, client: KubeClient, *, left_s: Callable[[], float]) -> None:
        """Sends nothing by itself.

        Args:
            client: The API server.
            left_s: Seconds before another replica can lead; 0 or less where this one may not write.
        """
        self._client = client
        self._left_s = left_s
        self._under_way: set[asyncio.Task[JSON]] = set()

    def check(self) -> float:
        """Seconds that a write has; raises LeadershipLostError if nothing may be decided or written."""
        left_s = self._left_s()
        if left_s <= 0:
            raise LeadershipLostError("Another replica may lead by now, so nothing is decided or written.")
        return left_s

    async def get(self, resource: Resource, name: str, *, namespace: str = "") -> JSON:
        """Reads an object, as `KubeClient.get`."""
        return await self._client.get(resource, name, namespace=namespace)

    async def version(self, resource: Resource, name: str, *, namespace: str = "") -> int:
        """The server's newest resource version, by a list of one object; 0 if it does not say."""
        page = await self._client.list_page(
            resource, namespace=namespace, field_selector=f"metadata.name={name}", limit=1
        )
        return version_of(page)

    async def replace(
        self, resource: Resource, body: JSON, *, name: str, namespace: str = "", subresource: str = ""
    ) -> JSON:
        """Replaces an object, as `KubeClient.replace`.

        Raises:
            ApiError: The server refused, or gave no answer in time.
            LeadershipLostError: This replica does not lead any more; nothing was sent.
        """

        async def send() -> JSON:
            # Asked for here, since a task begins a turn of the loop later.
            return await self._client.replace(
                resource,
                body,
                name=name,
                namespace=namespace,
                subresource=subresource,
                timeout_s=self.check(),
            )

        sent = asyncio.create_task(send())
        self._under_way.add(sent)
        sent.add_done_callback(self._over)
        return await asyncio.shield(sent)

    async def ended(self) -> None:
        """Waits until nothing that was sent is under way."""
        if self._under_way:
            await asyncio.wait(self._under_way)

    def _over(self, sent: asyncio.Task[JSON]) -> None:
        self._under_way.discard(sent)
        if not sent.cancelled():
            # What became of it is looked up; nobody may be left to hear it here.
            sent.exception()
