"""When our allocator may give out what kube-scheduler gave out before.

Source of the rule: an allocation that kube-scheduler has decided on is in its memory alone until it binds the
pod, and nobody else can see it. So a node's cards rest between the moment its slices are fenced and the first
decision of ours.

Limits: a clock that differs from the API server's by more than the wait defeats it; then the agent refuses
what does not fit any more (prepare is the last guard).
"""

from __future__ import annotations

from datetime import UTC, datetime

from driver.cel.environments import RELEASES


def handed_over(since: str | None, *, wait_s: float, now: datetime | None = None) -> bool:
    """Whether kube-scheduler has had no slices of a node for long enough.

    Args:
        since: When the newest of the node's fenced slices was made; None if it may still use one.
        wait_s: How long is long enough, in seconds.
        now: The time; that of the system's clock if not given.
    """
    if since is None:
        return False
    try:
        made = datetime.strptime(since, "%Y-%m-%dT%H:%M:%S%z")
    except ValueError:
        return False
    return ((now or datetime.now(UTC)) - made).total_seconds() >= wait_s


def known_release(release: str) -> str:
    """The release that we know and that is nearest to a cluster's; "" if the cluster's is not known."""
    if not release or release in RELEASES:
        return release
    names = sorted(RELEASES, key=lambda one: RELEASES[one])
    major, _, minor = release.partition(".")
    return names[-1] if (int(major), int(minor)) > RELEASES[names[-1]] else names[0]
