"""Objects of some kinds followed by threads, each change in the order in which the API server stored it.

Flow: a thread for each kind lists once and then watches on from the last version that it saw, without a gap.
Limits: a watch that the server ended as too old, or whose version it does not know any more, starts over with
a list; what came between is not seen, and `gaps` counts that. The threads notice a stop within seconds.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Sequence
from http import HTTPStatus

import urllib3

from driver.kube.resources import Resource
from tests.cluster.support.api import JSON, Api, Refused

Listed = Callable[[Resource, list[JSON]], None]
Changed = Callable[[Resource, str, JSON], None]


class Following:
    """Follows kinds of one cluster, from start to stop.

    Attributes:
        gaps: How often something may have been missed.
    """

    def __init__(self, api: Api, kinds: Sequence[Resource], *, listed: Listed, changed: Changed) -> None:
        """Prepares; both handlers are called by the threads.

        Args:
            api: The API server.
            kinds: What is followed.
            listed: Given all objects of a kind, at the start and after a gap.
            changed: Given the type of a change and the object after it.
        """
        self.gaps = 0
        self._api = api
        self._listed = listed
        self._changed = changed
        self._versions: dict[Resource, str] = {}
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._follow, args=(kind,), daemon=True) for kind in kinds]

    def start(self) -> None:
        """Begins to watch."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Ends; the threads notice within seconds."""
        self._stop.set()

    def _follow(self, kind: Resource) -> None:
        while not self._stop.is_set():
            with contextlib.suppress(urllib3.exceptions.HTTPError, OSError):
                try:
                    self._look(kind)
                    continue
                except Refused as refused:
                    if refused.status == HTTPStatus.GONE:
                        self._missed(kind)
            self._stop.wait(0.2)

    def _look(self, kind: Resource) -> None:
        version = self._versions.get(kind)
        if version is None:
            page = self._api.page(kind)
            self._listed(kind, page["items"])
            self._versions[kind] = page["metadata"]["resourceVersion"]
            return
        for event in self._api.watch(kind, resource_version=version, seconds=5):
            if event["type"] == "ERROR":
                self._missed(kind)
                return
            # A watch that breaks off is taken up after what was seen of it.
            self._versions[kind] = event["object"]["metadata"]["resourceVersion"]
            self._changed(kind, event["type"], event["object"])
            if self._stop.is_set():
                return

    def _missed(self, kind: Resource) -> None:
        self.gaps += 1
        self._versions.pop(kind, None)
