"""Which running containers can use which prepared shares.

Flow: the kubelet's PodResources API names the pods that have claims (one local call each round); of each
the API server is asked once who it is and which containers it runs, and again only when a container is
not known to run or its processes are gone.

Limits: pods that only name a claim in init containers that are done are found as long as another
container names it too: the kubelet lists no others. At most `MAX_ASKED` pods are read in a round, and none
is begun with after `ASKED_S`: while the API server is slow or away, rounds go on with what is known.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import structlog

from driver.errors import KubeError
from driver.isolation.rules import ShareKey
from kubelet_plugin.prepare.claims import ClaimSource
from kubelet_plugin.prepare.pods import claim_names, container_uses
from kubelet_plugin.prepare.records import ClaimRecord

log = structlog.get_logger(__name__)

MAX_ASKED = 16
ASKED_S = 5.0
"""Shares that wait for others (`kubelet_plugin.in_force.priority`) wait for the round as well."""

AGAIN_S = 4.0
LATEST_AGAIN_S = 60.0
KEPT_S = 300.0

PodName = tuple[str, str]
"""Namespace and name."""


@dataclass(frozen=True, kw_only=True)
class RunningContainer:
    """A container that runs and can use shares of ours.

    Attributes:
        namespace, pod, name: Where it is.
        container_id: The runtime's ID, without its name in front.
        uses: The shares.
    """

    namespace: str
    pod: str
    name: str
    container_id: str
    uses: frozenset[ShareKey]


@dataclass
class _Known:
    containers: tuple[RunningContainer, ...]
    complete: bool
    asked_at: float
    unprepared: frozenset[str]
    pause_s: float = AGAIN_S


class Containers:
    """What is known of the pods of this node.

    Args:
        claims: Where pods are read.
    """

    def __init__(self, claims: ClaimSource) -> None:
        self._claims = claims
        self._known: dict[PodName, _Known] = {}

    async def running(
        self, pods: Iterable[PodName], *, records: Iterable[ClaimRecord], now: float
    ) -> list[RunningContainer]:
        """The containers that run, of pods that the kubelet lists.

        Args:
            pods: The pods.
            records: What is prepared.
            now: Monotonic seconds.
        """
        wanted = set(pods)
        self._known = {name: known for name, known in self._known.items() if name in wanted}
        by_namespace: dict[str, dict[str, list[Any]]] = {}
        for record in records:
            shares = [one.share for one in record.shares]
            by_namespace.setdefault(record.namespace, {})[record.name] = shares
        due = sorted(
            (self._known[name].asked_at if name in self._known else float("-inf"), name)
            for name in wanted
            if self._is_due(name, prepared=by_namespace.get(name[0], {}).keys(), now=now)
        )
        loop = asyncio.get_running_loop()
        until = loop.time() + ASKED_S
        for _, name in due[:MAX_ASKED]:
            if loop.time() >= until:
                break
            await self._ask(name, shares=by_namespace.get(name[0], {}), now=now)
        return [one for known in self._known.values() for one in known.containers]

    def without_processes(self, containers: Collection[RunningContainer]) -> None:
        """Notes that containers that should run have no process: they may have been started anew."""
        gone = {(one.namespace, one.pod) for one in containers}
        for name in gone & self._known.keys():
            self._known[name].complete = False

    def _is_due(self, name: PodName, *, prepared: Collection[str], now: float) -> bool:
        known = self._known.get(name)
        if known is None:
            return True
        if not known.unprepared.isdisjoint(prepared):
            # The kubelet lists a pod as soon as it begins to prepare its claims.
            return True
        return now - known.asked_at >= (KEPT_S if known.complete else known.pause_s)

    async def _ask(self, name: PodName, *, shares: Mapping[str, list[Any]], now: float) -> None:
        before = self._known.get(name)
        try:
            pod = await self._claims.get_pod(namespace=name[0], name=name[1])
        except KubeError as away:
            log.debug("pod cannot be read", namespace=name[0], pod=name[1], error=str(away))
            if before is not None:
                before.asked_at = now
            return
        if pod is None:
            self._known.pop(name, None)
            return
        ids = _running_ids(pod)
        found = []
        complete = True
        for use in container_uses(pod, shares=shares):
            if not use.uses:
                continue
            container_id = ids.get(use.container, "")
            # An init container that is done has none and gets none.
            complete = complete and (bool(container_id) or use.kind == "init")
            if container_id:
                found.append(
                    RunningContainer(
                        namespace=name[0],
                        pod=name[1],
                        name=use.container,
                        container_id=container_id,
                        uses=use.uses,
                    )
                )
        pause = AGAIN_S if before is None else min(before.pause_s * 2, LATEST_AGAIN_S)
        same = before is not None and {one.container_id for one in before.containers} == {
            one.container_id for one in found
        }
        self._known[name] = _Known(
            containers=tuple(found),
            complete=complete,
            asked_at=now,
            unprepared=claim_names(pod) - shares.keys(),
            pause_s=pause if same else AGAIN_S,
        )


def _running_ids(pod: Mapping[str, Any]) -> dict[str, str]:
    status = pod.get("status") or {}
    found = {}
    for key in ("initContainerStatuses", "containerStatuses"):
        for one in status.get(key) or []:
            if (one.get("state") or {}).get("running") is not None:
                found[str(one.get("name"))] = str(one.get("containerID") or "").rpartition("/")[2]
    return found
