"""Pods that come and go all the time, each with a share of its own.

Purpose: what changes under a running cluster has to be tried while somebody always waits, somebody always
starts and somebody always ends.
Flow: every `every_s` a pod is made from one template, unless `most` are there; of those that run, the oldest
is deleted, so that a card that is full has room for the next one. Only pods that ran are deleted, so in the
end every one of them has run, or a claim was lost.
"""

from __future__ import annotations

import threading
import time

import urllib3

from driver.kube.resources import PODS
from tests.cluster.support import waiting
from tests.cluster.support.api import JSON, Refused
from tests.cluster.support.manifests import pod, template
from tests.cluster.support.space import Space


class Stream:
    """Pods in one namespace, from start to stop."""

    def __init__(self, space: Space, request: JSON, *, most: int, every_s: float = 1.0) -> None:
        self._space = space
        self._most = most
        self._every_s = every_s
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._go, daemon=True)
        self._number = 0
        self.made: dict[str, float] = {}
        self.ran: dict[str, float] = {}
        self.failed: list[str] = []
        space.create(template("stream", request))

    def start(self) -> None:
        """Begins to make pods."""
        self._thread.start()

    def stop(self) -> None:
        """Makes and deletes no more pods; returns once that is so."""
        self._stop.set()
        self._thread.join(timeout=60)

    def wait_ran(self, count: int, *, seconds: float = 2 * waiting.PATIENCE_S) -> None:
        """Waits until so many more pods than now have run."""
        wanted = len(self.ran) + count
        waiting.eventually(
            lambda: len(self.ran) >= wanted, what=f"{count} more pods of the stream ran", seconds=seconds
        )

    def wait_all_ran(self, *, seconds: float = 2 * waiting.PATIENCE_S) -> None:
        """After the stop, deletes what runs until every pod has run, and all are gone."""

        def look() -> bool:
            self._look(keep=0)
            return not self.lost()

        waiting.eventually(look, what="every pod of the stream ran", seconds=seconds, every=1.0)

    def lost(self) -> list[str]:
        """Pods that have not run."""
        return sorted(self.made.keys() - self.ran.keys())

    def _go(self) -> None:
        while not self._stop.wait(self._every_s):
            try:
                live = self._look(keep=1)
                if live < self._most:
                    self._number += 1
                    name = f"stream-{self._number:04}"
                    self._space.create(pod(name, templates={"card": "stream"}))
                    self.made[name] = time.monotonic()
            except (Refused, urllib3.exceptions.HTTPError) as refused:
                self.failed.append(str(refused))

    def _look(self, *, keep: int) -> int:
        """Notes who runs, deletes the oldest of those unless no more than `keep` run; how many there are."""
        found = [
            one
            for one in self._space.pods()
            if one["metadata"]["name"] in self.made and "deletionTimestamp" not in one["metadata"]
        ]
        up = sorted(str(one["metadata"]["name"]) for one in found if waiting.running(one))
        for name in up:
            self.ran.setdefault(name, time.monotonic())
        if len(up) > keep:
            self._space.api.delete(PODS, up[0], namespace=self._space.name, grace_s=1)
        return len(found)
