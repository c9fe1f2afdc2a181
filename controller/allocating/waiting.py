"""Pods that wait for claims: in which order they are tried, and which of them rest meanwhile.

Flow: `turn_s` is asked of a pod before it is decided about; `refused` and `settled` say what came of it, and
`rest` that it should not come back for a while. Whatever frees something asks for `refused_pods`.

Limits: who rests is kept from being decided about, for one of three reasons: it was costly, or costs a
request each time (`rest`); its group had cards in vain (`unplaced`); its namespace has used its part of the
time (`turns`). Kept in memory.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable

from controller.allocating.sources import Sources
from controller.allocating.turns import Turns
from controller.allocating.unplaced import Unplaced
from controller.allocating.views import PodView

WAKE = "wake/"
"""Keys that begin so, when it is their turn, wake up the pods that wait because nothing fitted."""
TURN = "turn/"
"""As `WAKE`, for the pods of the namespace that comes behind."""


class Waiting:
    """Which pods wait."""

    def __init__(
        self, sources: Sources, *, turns: Turns, unplaced: Unplaced, again: Callable[[str, float], None]
    ) -> None:
        """Knows of nobody yet.

        Args:
            sources: Where pods are found.
            turns: Which namespaces have to rest.
            unplaced: Which groups have to rest.
            again: Puts a key into the queue, after so many seconds.
        """
        self._sources = sources
        self._turns = turns
        self._unplaced = unplaced
        self._again = again
        # Whether it is cards that are missing, by pod for which nothing fitted.
        self._refused: dict[str, bool] = {}
        self._rests: dict[str, float] = {}

    def clear(self) -> None:
        """Forgets all of it."""
        self._refused.clear()
        self._rests.clear()

    def refused_pods(self, namespace: str = "") -> list[str]:
        """Keys of the pods (of a namespace) for which nothing fitted, in the order in which to try them."""
        return self._in_turn(key for key in self._refused if not namespace or key.startswith(f"{namespace}/"))

    def all_pods(self) -> list[str]:
        """Keys of all pods that wait for claims, in the order in which they should be tried."""
        return self._in_turn(self._sources.pods.keys())

    def short_of_cards(self) -> list[tuple[str, PodView]]:
        """The pods (`namespace/name`) that wait because no card fits."""
        short = [key for key, by_cards in self._refused.items() if by_cards]
        return [(key, view) for key in short if (view := self._sources.pods.get(key)) and view.may_need]

    def refused(self, pod: str, *, by_cards: bool) -> None:
        """Nothing fitted for a pod (`namespace/name`): no card, or it did not come to that."""
        self._refused[pod] = by_cards

    def settled(self, pod: str) -> None:
        """A pod has its claims."""
        self._refused.pop(pod, None)

    def forget(self, pod: str) -> None:
        """A pod is gone, or needs nothing any more."""
        self._refused.pop(pod, None)
        self._rests.pop(pod, None)

    def rest(self, pod: str, seconds: float) -> None:
        """A pod is not decided about for so many seconds, whoever wakes it up."""
        self._rests[pod] = _now() + seconds

    def turn_s(self, pod: str, view: PodView) -> float | None:
        """Seconds that a pod has to rest, 0 if it will be woken up; None if it need not."""
        rest_s = max(self._rests.get(pod, 0.0) - _now(), self._unplaced.rest_s(pod, view, now=_now()))
        if rest_s > 0:
            return rest_s
        namespace = pod.partition("/")[0]
        rest_s = self._turns.rest_s(namespace, now=_now())
        if not rest_s:
            return None
        # All of them come back together then, in the order in which they should be tried.
        self._refused.setdefault(pod, False)
        self._again(f"{TURN}{namespace}", rest_s)
        return 0.0

    def _in_turn(self, keys: Iterable[str]) -> list[str]:
        views = [
            (view, key) for key in keys if (view := self._sources.pods.get(key)) is not None and view.may_need
        ]
        views.sort(key=lambda one: (-one[0].priority, one[0].created, one[1]))
        return [f"pod/{key}" for _, key in views]


def _now() -> float:
    return asyncio.get_running_loop().time()
