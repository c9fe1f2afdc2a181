"""Which pods name a claim.

Flow: `note` is a handler of the pods' informer; `of` gives the pods of a claim.

Limits: nearly all claims are named by one pod, and there may be as many as pods can name: for one pod no
collection is made.
"""

from __future__ import annotations

from collections.abc import Collection

from controller.allocating.views import PodView


class PodsOf:
    """Keys of pods (`namespace/name`) by the keys of claims that they name."""

    def __init__(self) -> None:
        self._pods: dict[str, str | set[str]] = {}

    def of(self, claim: str) -> Collection[str]:
        """The pods that name a claim (`namespace/name`)."""
        found = self._pods.get(claim, ())
        return (found,) if isinstance(found, str) else found

    def note(self, key: str, before: PodView | None, after: PodView | None) -> None:
        """Takes over a change of a pod."""
        namespace = key.partition("/")[0]
        was, now = (view.claims if view is not None else () for view in (before, after))
        if was == now:
            return
        for name in was:
            self._discard(f"{namespace}/{name}", key)
        for name in now:
            self._add(f"{namespace}/{name}", key)

    def _add(self, claim: str, pod: str) -> None:
        found = self._pods.get(claim)
        if found is None:
            self._pods[claim] = pod
        elif isinstance(found, set):
            found.add(pod)
        elif found != pod:
            self._pods[claim] = {found, pod}

    def _discard(self, claim: str, pod: str) -> None:
        found = self._pods.get(claim)
        if isinstance(found, set):
            found.discard(pod)
        if not found or found == pod:
            self._pods.pop(claim, None)
