"""Each namespace gets its part of the time, however many pods of it wait for what does not fit.

Purpose: a decision may take long where a claim is made for that, and whatever is freed lets all pods that
wait be decided about again. Ten thousand such pods of one namespace must not keep all others waiting.

Flow: `note` is a handler of the pods' informer; the allocator says by `used` how long a refusal took, and
asks by `rest_s` whether a namespace has to rest.

Limits: what was given out costs nothing: cards end that by themselves. A namespace rests only while pods of
others wait, after `FREE_S` of refusals for `FACTOR` times as long as they took: refusals of one namespace
take a fifth of the time at most.
"""

from __future__ import annotations

from collections import Counter

from controller.allocating.views import PodView

FREE_S = 0.2
FACTOR = 4.0


class Turns:
    """What namespaces have used."""

    def __init__(self) -> None:
        self._needing: Counter[str] = Counter()
        self._used: dict[str, float] = {}
        self._until: dict[str, float] = {}

    def note(self, key: str, before: PodView | None, after: PodView | None) -> None:
        """Takes over a change of a pod."""
        namespace = key.partition("/")[0]
        was, now = (view is not None and view.may_need for view in (before, after))
        if was == now:
            return
        self._needing[namespace] += 1 if now else -1
        if not self._needing[namespace]:
            del self._needing[namespace]
            self._used.pop(namespace, None)

    def used(self, namespace: str, seconds: float, *, now: float) -> None:
        """Takes note of processor time that led to a refusal."""
        if self._needing.keys() <= {namespace}:
            return
        used = self._used.pop(namespace, 0.0) + seconds
        if used < FREE_S:
            self._used[namespace] = used
        else:
            self._until[namespace] = now + FACTOR * used
            # Of namespaces that nobody asks about any more, nothing is kept.
            self._until = {one: until for one, until in self._until.items() if until > now}

    def rest_s(self, namespace: str, *, now: float) -> float:
        """For how many seconds a namespace has to rest; 0 if it may go on."""
        left = self._until.get(namespace, now) - now
        if left > 0:
            return left
        self._until.pop(namespace, None)
        return 0.0
