"""When our allocator may give out what kube-scheduler gave out before.

Source of the rule: what kube-scheduler has decided on is in its memory until it writes the claim, and nobody
else can read that. So a node's cards rest between the moment its slices are fenced and the first decision of
ours, until all of this is so:

* kube-scheduler has had `wait_s` to see the fence: no slice of the node is younger, and no allocation that is
  not ours came up there since. One that does come up shows that decisions are still under way.
* No pod from before is on its way to the node. From 1.35 on kube-scheduler writes the node that it has chosen
  into the pod's `status.nominatedNodeName` before it waits for anything (Permit plugins, volumes), and takes
  it back if that fails. Such a pod with a claim that is not written yet may be about to get a card.

Flow: `follow` subscribes to pods and claims; `rest` says of a node what is still waited for; whoever has to
look again is told by `changed`.

Limits: a nomination may also come from preemption, of a pod that will get no card before we give it one; so
nobody is waited for longer than `bind_s` after the fence. What comes later than that, what comes from a
scheduler before 1.35 that waits for volumes, and a clock that is ahead of the API server's by more than
`wait_s`, is left to the last guard: the agent refuses what does not fit any more. With one that is behind,
what counts is how long this process has known the fence.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Protocol

from driver.cel.environments import RELEASES
from driver.kube.client import JSON
from driver.kube.store import Watched

_FORMAT = "%Y-%m-%dT%H:%M:%SZ"


class WaitingPod(Protocol):
    """What has to be known of a pod."""

    @property
    def node(self) -> str:
        """The node that it is bound to, "" while it waits."""

    @property
    def nominated(self) -> str:
        """The node that kube-scheduler expects it on, as far as it may get devices there."""

    @property
    def claims(self) -> tuple[str, ...]:
        """Names of its claims, "" for one that does not exist yet."""

    @property
    def gone(self) -> bool:
        """Whether it is done or being deleted."""

    @property
    def created(self) -> str:
        """When it was made, as the API writes it."""


class StoredClaim(Protocol):
    """What has to be known of a claim."""

    @property
    def allocated(self) -> bool:
        """Whether it is allocated."""

    @property
    def ours(self) -> bool:
        """Whether our allocator has done that."""

    @property
    def held(self) -> bytes:
        """What it holds of our cards; b"" if nothing."""

    @property
    def node(self) -> str:
        """The node that it is allocated for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rest:
    """Why our allocator gives out nothing of a node yet.

    Attributes:
        pods: How many pods kube-scheduler has chosen the node for and not bound yet.
        until: When it ends at the latest.
        left_s: Seconds after which to look again.
    """

    pods: int
    until: datetime
    left_s: float


class Handover:
    """What is waited for, node by node."""

    def __init__(
        self,
        *,
        fenced_since: Callable[[str], str | None],
        wait_s: float,
        bind_s: float,
        changed: Callable[[str], None],
        wall_clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Starts without any memory.

        Args:
            fenced_since: When the newest of a node's fenced slices was made, as the API writes it; None if
                kube-scheduler may still use one, or if there are none.
            wait_s: How long kube-scheduler has to see the fence.
            bind_s: How long after the fence pods are waited for that it has chosen the node for.
            changed: Told each node for which something changed.
            wall_clock: The time.
            clock: Seconds that only grow.
        """
        self._fenced_since = fenced_since
        self._wait = timedelta(seconds=wait_s)
        self._bind = timedelta(seconds=max(bind_s, wait_s))
        self._changed = changed
        self._wall_clock = wall_clock
        self._clock = clock
        # Since when each fence is known here, and by which time of the API server's.
        self._seen: dict[str, tuple[str, float]] = {}
        self._pods: Watched[WaitingPod] | None = None
        self._claims: Watched[StoredClaim] | None = None
        self._chosen: dict[str, set[str]] = {}
        self._others: dict[str, tuple[datetime, float]] = {}
        self._over: dict[str, str] = {}

    def follow(self, *, pods: Watched[WaitingPod], claims: Watched[StoredClaim]) -> None:
        """Subscribes to the informers of all pods and all claims."""
        self._pods, self._claims = pods, claims
        pods.subscribe(self._pod_changed)
        claims.subscribe(self._claim_changed)

    def over(self, node: str) -> bool:
        """Whether our allocator may give out the node's cards, as far as kube-scheduler is concerned."""
        since = self._fenced_since(node)
        if since is None:
            return False
        return self._over.get(node) == since or (self.rest(node) is None and self._over.get(node) == since)

    def rest(self, node: str) -> Rest | None:
        """What is still waited for; None if nothing is, or if kube-scheduler may use the node's slices."""
        since = self._fenced_since(node)
        fenced = _moment(since)
        if since is None or fenced is None:
            self._over.pop(node, None)
            self._seen.pop(node, None)
            return None
        if self._over.get(node) == since:
            return None
        if self._seen.get(node, ("", 0.0))[0] != since:
            self._seen[node] = (since, self._clock())
        seen = self._seen[node][1]
        quiet_s = max(
            self._left_s(self._wait, *since_then)
            for since_then in ((fenced, seen), self._others.get(node, (fenced, seen)))
        )
        pods = self._on_their_way(node, before=fenced + self._wait)
        left_s = max(quiet_s, self._left_s(self._bind, fenced, seen)) if pods else quiet_s
        if left_s > 0:
            until = self._wall_clock() + timedelta(seconds=left_s)
            return Rest(pods=pods, until=until, left_s=quiet_s if quiet_s > 0 else left_s)
        self._over[node] = since
        self._seen.pop(node, None)
        self._others.pop(node, None)
        self._changed(node)
        return None

    def _left_s(self, wait: timedelta, since: datetime, known: float) -> float:
        """Seconds that are left of a wait for something, by whichever clock has got further.

        A clock that is behind the API server's must not keep cards from everybody until it has caught up.
        """
        by_the_time = since + wait - self._wall_clock()
        return min(by_the_time.total_seconds(), known + wait.total_seconds() - self._clock())

    def _on_their_way(self, node: str, *, before: datetime) -> int:
        latest = before.strftime(_FORMAT)
        return sum(self._may_get_a_card(key, latest=latest) for key in self._chosen.get(node, ()))

    def _may_get_a_card(self, key: str, *, latest: str) -> bool:
        view = self._pods.get(key) if self._pods is not None else None
        # What was made later was decided on by a scheduler that knows the fence.
        if view is None or view.created > latest:
            return False
        namespace = key.partition("/")[0]
        claims = [self._claims.get(f"{namespace}/{name}") for name in view.claims] if self._claims else []
        # Without any claim of its own, it asks by an extended resource: kube-scheduler makes that claim.
        return not claims or any(one is None or not one.allocated for one in claims)

    def _pod_changed(self, key: str, before: WaitingPod | None, after: WaitingPod | None) -> None:
        was, now = _chosen_node(before), _chosen_node(after)
        if was == now:
            return
        if was:
            self._chosen[was].discard(key)
            if not self._chosen[was]:
                del self._chosen[was]
            self._tell(was)
        if now:
            self._chosen.setdefault(now, set()).add(key)
            self._tell(now)

    def _claim_changed(self, _key: str, before: StoredClaim | None, after: StoredClaim | None) -> None:
        # What is there when it is first seen was given out at some time before.
        if before is None or before.allocated or after is None or not (after.allocated and after.held):
            return
        if not after.ours and after.node and self._fenced_since(after.node) is not None:
            self._others[after.node] = (self._wall_clock(), self._clock())
            self._over.pop(after.node, None)
            self._changed(after.node)

    def _tell(self, node: str) -> None:
        since = self._fenced_since(node)
        if since is not None and self._over.get(node) != since:
            self._changed(node)


def expected_node(document: JSON) -> str:
    """The node that kube-scheduler expects a pod on, if the pod may get devices there; "" otherwise."""
    spec = document.get("spec") or {}
    nominated = str((document.get("status") or {}).get("nominatedNodeName") or "")
    if not nominated or spec.get("resourceClaims"):
        return nominated
    containers = [*(spec.get("initContainers") or []), *(spec.get("containers") or [])]
    names = {name for one in containers for name in (one.get("resources") or {}).get("requests") or ()}
    # Extended resources are those with a domain that is not Kubernetes' own.
    extended = any("/" in name and not name.partition("/")[0].endswith("kubernetes.io") for name in names)
    # Those of a class that names none begin with this.
    implicit = any(name.startswith("deviceclass.resource.kubernetes.io/") for name in names)
    return nominated if extended or implicit else ""


def known_release(release: str) -> str:
    """The release that we know and that is nearest to a cluster's; "" if the cluster's is not known."""
    if not release or release in RELEASES:
        return release
    names = sorted(RELEASES, key=lambda one: RELEASES[one])
    major, _, minor = release.partition(".")
    return names[-1] if (int(major), int(minor)) > RELEASES[names[-1]] else names[0]


def _chosen_node(view: WaitingPod | None) -> str:
    return "" if view is None or view.node or view.gone else view.nominated


def _moment(text: str | None) -> datetime | None:
    try:
        return datetime.strptime(text or "", _FORMAT).replace(tzinfo=UTC)
    except ValueError:
        return None
