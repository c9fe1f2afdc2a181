"""Claims that are gone while pods still use their cards.

Purpose: whoever may update a claim may take Kubernetes' finalizer off and delete it under its running pod.
What the pod holds must not be given to anybody else: its agent would refuse whoever gets it.

Flow: `claim_changed` sees a claim go that was allocated and reserved, and keeps what it held in the books
while there are pods that named it, on the node that it was allocated for, and have not ended; `pod_changed`
sees them end, and tells whoever asked by `subscribe`. A claim that is made anew under the name is another
one, by its UID.

Limits: every replica sees it for itself, and a process that starts afterwards does not know of it: the claim
was the only thing that said what is held, and a pod whose claim is gone does not even say whose it was. The
chart's policy `in-use.dragoman.dev` prevents it. Where that is not installed the node's agent keeps what the
pod has, and refuses whoever else is given it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection

import structlog

from controller.allocating.books import Books
from controller.allocating.views import ClaimView, PodView
from driver.kube.store import Store

_log = structlog.get_logger("allocating")


class Vanished:
    """What deleted claims hold, by the pods that use it."""

    def __init__(
        self,
        books: Books,
        pods: Store[PodView],
        *,
        pods_of: Callable[[str], Collection[str]],
    ) -> None:
        """Begins with none.

        Args:
            books: What is given out.
            pods: All pods.
            pods_of: The pods that name a claim (`namespace/name`).
        """
        self._books = books
        self._pods = pods
        self._pods_of = pods_of
        # By pod, its UID and the UIDs of the claims.
        self._held_by: dict[str, tuple[str, set[str]]] = {}
        self._handlers: list[Callable[[str], None]] = []

    def in_use(self, uid: str) -> bool:
        """Whether pods use the cards of a claim that is gone."""
        return any(uid in claims for _, claims in self._held_by.values())

    def subscribe(self, handler: Callable[[str], None]) -> None:
        """Adds a handler that is told the UID of a claim whose cards are not used any more."""
        self._handlers.append(handler)

    def claim_changed(self, key: str, before: ClaimView | None, after: ClaimView | None) -> None:
        """A handler of the claims' informer, to be called before the books are told of the change."""
        if before is None or not (before.held and before.reserved):
            return
        if after is not None and after.uid == before.uid:
            return
        users = [pod for pod in self._pods_of(key) if self._uses(pod, before.node)]
        if not users:
            return
        _log.warning("a claim is gone, and pods use its cards", claim=key, pods=sorted(users)[:10])
        self._books.keep(before.uid, before.held)
        for pod in users:
            view = self._pods.get(pod)
            if view is not None:
                self._held_by.setdefault(pod, (view.uid, set()))[1].add(before.uid)

    def pod_changed(self, key: str, after: PodView | None) -> bool:
        """A handler of the pods' informer; whether something is free now that was kept."""
        held = self._held_by.get(key)
        if held is None or (after is not None and after.uid == held[0] and not after.ended):
            return False
        del self._held_by[key]
        for uid in held[1]:
            if not self.in_use(uid):
                self._books.keep(uid, b"")
                for handler in self._handlers:
                    handler(uid)
        return True

    def _uses(self, pod: str, node: str) -> bool:
        view = self._pods.get(pod)
        return view is not None and bool(view.node) and not view.ended and node in ("", view.node)
