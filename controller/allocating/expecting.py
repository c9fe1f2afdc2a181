"""Pods that are on their way to a node: their claims are allocated for it, and they are not bound yet.

Purpose: what they will take of the node's processor and memory is not there for others, so it is counted
(`NodeUsage`) from the allocation on.

Flow: `expect` whenever a pod is seen that has all its claims; `begin` and `all_on_their_way` once for each
time that this replica begins to lead, before anything is decided.

Limits: one that kube-scheduler cannot bind there, as far as can be told, is not counted: it would hold what
it never gets. Each is compared with its node, by whatever it says about that; so others have their turn in
the event loop after every hundred.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from controller.allocating.candidates import Nodes
from controller.allocating.question import Questions
from controller.allocating.sources import Sources
from controller.allocating.usage import NodeUsage
from controller.allocating.views import ClaimView, PodView

_IN_A_ROW = 100


class Expecting:
    """Counts pods that are on their way."""

    def __init__(self, sources: Sources, usage: NodeUsage, *, nodes: Nodes, questions: Questions) -> None:
        self._sources = sources
        self._usage = usage
        self._nodes = nodes
        self._questions = questions
        self._lock = asyncio.Lock()
        self._left: list[str] = []

    def begin(self) -> None:
        """Forgets all of them; `all_on_their_way` counts them anew."""
        self._usage.expect_nobody()
        self._left = self._sources.pods.keys()

    async def all_on_their_way(self) -> None:
        """Counts the pods whose claims are allocated, by whomever, if that was not done since `begin`."""
        if not self._left:
            return
        async with self._lock:
            while self._left:
                some, self._left = self._left[:_IN_A_ROW], self._left[_IN_A_ROW:]
                for key in some:
                    view = self._sources.pods.get(key)
                    if view is not None and view.waits:
                        self.expect(key, view, self._questions.claims_of(key, view) or ())
                await asyncio.sleep(0)

    def expect(self, key: str, view: PodView, claims: Sequence[tuple[str, ClaimView]]) -> None:
        """Counts a pod (`namespace/name`) that has all its claims, if it can be bound to their node."""
        nodes = {claim.node for _, claim in claims if claim.ours}
        if view.node:
            # It is counted as one that is there.
            return
        if len(nodes) != 1 or not all(claim.allocated for _, claim in claims) or self._usage.expected(key):
            return
        (node,) = nodes
        if self._nodes.fits(view, node):
            self._usage.expect(key, node=node, asks=view.asks)
