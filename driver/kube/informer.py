"""A store that is kept equal to a list of the API server.

Purpose: know all objects of a kind without asking each time, and never believe in one that is gone: a claim
that was deleted while nobody watched would hold its cards for ever.

Flow: list page by page -> compare with the store, emitting deletions too -> watch from there, bookmarks
included. The watch is resumed where it broke; 410 ("too old") means a new list; everything else means to wait
(exponential, with jitter) and try again. Objects are projected before they are stored: what the controller
does not need is not kept.

After a restore of etcd the server counts versions from a lower number again, and what is stored here of a
history that is gone looks newer than all that comes. So a list is the truth, and only answers to the caller's
own writes that are newer are spared; where a list's version is lower than what was known, only those that
came while it was read. An event of a lower version than the one before it, or a server that has not reached
ours where a watch is silent, means a new list.

Limits: handlers are called in the event loop and must only take notes (put a key into a queue). One informer
is one task; it ends only by being cancelled. The store is never ahead of the server, but for the caller's own
writes that `observe` puts in. A server that has counted up to our version again before it is asked is not
told from one that was never restored until the next list.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import structlog

from driver.kube.backoff import Backoff
from driver.kube.client import JSON, ApiError, GoneError, KubeClient, SilentWatchError, error_for
from driver.kube.paging import pages
from driver.kube.resources import Resource

T = TypeVar("T")

Handler = Callable[[str, T | None, T | None], None]
"""Called with key, what was stored before, and what is stored now; None where there is nothing."""

_WATCH_S = 290
_SHORT_WATCH_S = 1.0
_FAILURES_BEFORE_LIST = 3
_IN_A_ROW = 20

_log = structlog.get_logger("informer")


@dataclass(frozen=True, slots=True)
class _Entry(Generic[T]):
    version: int
    uid: str
    value: T


@dataclass(frozen=True, kw_only=True)
class Selection:
    """Which objects of a kind an informer keeps; everything empty: all of them."""

    namespace: str = ""
    label_selector: str = ""
    field_selector: str = ""


class Informer(Generic[T]):
    """Keeps projected objects of one kind.

    Attributes:
        resource: The kind.
        name: Names it in metrics and messages.
        synced: Set once the first list is complete; stays set.
        lists: How many lists were completed.
    """

    def __init__(
        self,
        client: KubeClient,
        resource: Resource,
        project: Callable[[JSON], T | None],
        *,
        selection: Selection | None = None,
        name: str = "",
        page_size: int = 500,
        source: random.Random | None = None,
    ) -> None:
        """Prepares an informer; `run` starts it.

        Args:
            client: The API server.
            resource: The kind.
            project: Keeps of an object what is needed; None to keep nothing of it.
            selection: Which objects.
            name: Names the informer in metrics and messages; the kind's plural if empty.
            page_size: Objects in a page of a list, at most; fewer where they are large.
            source: Where jitter comes from.
        """
        self.resource = resource
        self.name = name or resource.plural
        self.synced = asyncio.Event()
        self.lists = 0
        self._client = client
        self._project = project
        self._selection = selection or Selection()
        self._page_size = page_size
        self._source = source or random.Random()  # noqa: S311 - jitter, no secret
        self._backoff = Backoff(source=self._source)
        self._handlers: list[Handler[T]] = []
        self._store: dict[str, _Entry[T]] = {}
        # By key of what `observe` put in and the watch has not told of, how many lists there were then.
        self._ahead: dict[str, int] = {}
        self._began = 0
        self._version = ""
        self._last_contact = float("-inf")

    def subscribe(self, handler: Handler[T]) -> None:
        """Adds a handler; to be called before `run`, or the handler misses what is known already."""
        self._handlers.append(handler)

    def get(self, key: str) -> T | None:
        """What is stored for `namespace/name` (or `name` of a cluster-scoped object)."""
        entry = self._store.get(key)
        return None if entry is None else entry.value

    def keys(self) -> list[str]:
        """All keys, as a copy."""
        return list(self._store)

    def values(self) -> Iterator[T]:
        """All stored values; the store must not change meanwhile (no `await` between)."""
        return (entry.value for entry in self._store.values())

    def __len__(self) -> int:
        return len(self._store)

    @property
    def age_s(self) -> float:
        """Seconds since the server last said anything (page, event, bookmark); infinite before the first."""
        return asyncio.get_running_loop().time() - self._last_contact

    @property
    def version(self) -> int:
        """Resource version up to which nothing is missing in the store; 0 before the first list is complete.

        What is in the store may be newer, by events of a watch that is being read and by `observe`.
        """
        return _number(self._version)

    def observe(self, document: JSON) -> None:
        """Takes over the server's answer to a write of ours before the watch tells it.

        What the watch has told already is not turned back: an answer that is older is passed over.
        """
        version = _number(document.get("metadata", {}).get("resourceVersion"))
        if version > _number(self._version) and self._put(document):
            self._ahead[_key(document)] = self._began

    async def run(self) -> None:
        """Lists and watches until cancelled."""
        while True:
            try:
                await self._list()
                await self._watch_until_gone()
            except ApiError as failed:
                await self._wait(failed)

    async def _wait(self, error: ApiError) -> None:
        delay = self._backoff.next_delay()
        _log.warning(
            "api server does not answer",
            kind=self.resource.kind,
            error=str(error),
            status=error.status,
            retry_s=round(delay, 1),
        )
        await asyncio.sleep(delay)

    async def _list(self) -> None:
        found: dict[str, _Entry[T]] = {}
        listed = ""
        self._began += 1
        async for page in pages(
            self._client,
            self.resource,
            namespace=self._selection.namespace,
            label_selector=self._selection.label_selector,
            field_selector=self._selection.field_selector,
            most=self._page_size,
        ):
            self._touch()
            listed = self._read(page, found)
            # Before the next one is read: both may be large.
            del page
            await asyncio.sleep(0)
        if _number(listed) < self.version:
            _log.warning("the server's history was set back", kind=self.resource.kind, version=listed)
            self._ahead = {key: began for key, began in self._ahead.items() if began == self._began}
        if not self.synced.is_set():
            await self._begin(found)
        self._version = listed
        self._take_over(found, _number(self._version))
        self.lists += 1
        self.synced.set()

    async def _begin(self, found: dict[str, _Entry[T]]) -> None:
        """Takes over the first list, a few objects at a time: nobody relies on the store yet.

        Handlers may look at each object for a millisecond, and there are thousands.
        """
        for number, (key, entry) in enumerate(found.items(), 1):
            if key not in self._ahead:
                self._set(key, entry)
            if number % _IN_A_ROW == 0:
                await asyncio.sleep(0)

    def _take_over(self, found: dict[str, _Entry[T]], listed: int) -> None:
        for key, entry in list(self._store.items()):
            # What a write of ours put in after the list was made is not missing from it, and newer.
            if key in self._ahead and entry.version > listed:
                found.pop(key, None)
            elif key not in found:
                self._set(key, None)
        for key, entry in found.items():
            self._set(key, entry)

    def _read(self, page: JSON, found: dict[str, _Entry[T]]) -> str:
        """Takes over a page of a list; gives the list's version."""
        for item in page.get("items") or []:
            entry = self._entry(item)
            if entry is not None:
                found[_key(item)] = entry
        return str((page.get("metadata") or {}).get("resourceVersion") or "")

    async def _watch_until_gone(self) -> None:
        """Watches, resuming where a watch ended; returns when a new list is due.

        Raises:
            ApiError: The server refuses the watch again and again, or forgot the version that it just listed.
        """
        loop = asyncio.get_running_loop()
        listed, failures = self._version, 0
        while True:
            began, before = loop.time(), self._version
            error = await self._watch_once()
            if isinstance(error, GoneError):
                if self._version == listed:
                    raise error
                return
            if isinstance(error, SilentWatchError):
                # A quiet kind looks like a dead connection; asking again tells them apart at little cost.
                self._last_contact = max(self._last_contact, began)
                _log.debug("watch was silent", informer=self.name)
                if await self._set_back():
                    return
                continue
            moved = self._version != before
            if error is None and not moved and loop.time() - began < _SHORT_WATCH_S:
                error = ApiError("The watch ended at once.", status=0)
            failures = 0 if moved else failures
            if error is not None:
                if error.status == 0 and loop.time() - began >= _SHORT_WATCH_S:
                    # It was there for a while: the next one is no less likely to last.
                    self._backoff.reset()
                failures += 1
                if failures > _FAILURES_BEFORE_LIST:
                    raise error
                await self._wait(error)

    async def _set_back(self) -> bool:
        """Whether the server has not reached our version: it tells nothing of what is below it."""
        try:
            page = await self._client.list_page(self.resource, namespace=self._selection.namespace, limit=1)
        except ApiError:
            # The next watch will find out more.
            return False
        return 0 < _number(page.get("metadata", {}).get("resourceVersion")) < self.version

    async def _watch_once(self) -> ApiError | None:
        """One watch; None if the server ended it in good order."""
        timeout_s = int(_WATCH_S * (0.9 + 0.2 * self._source.random()))
        events = self._client.watch(
            self.resource,
            resource_version=self._version,
            namespace=self._selection.namespace,
            label_selector=self._selection.label_selector,
            field_selector=self._selection.field_selector,
            timeout_s=timeout_s,
        )
        try:
            async with _closing(events):
                async for event in events:
                    error = self._apply(event)
                    if error is not None:
                        return error
        except ApiError as failed:
            return failed
        return None

    def _apply(self, event: JSON) -> ApiError | None:
        kind, document = event.get("type"), event.get("object") or {}
        if kind == "ERROR":
            code = int(document.get("code") or 500)
            return error_for(code, message=str(document.get("message") or "watch error"), body=document)
        self._touch()
        version = document.get("metadata", {}).get("resourceVersion")
        if version and _number(version) < self.version:
            return GoneError("The server's history was set back.", status=410)
        if kind in ("ADDED", "MODIFIED"):
            self._put(document)
        elif kind == "DELETED":
            self._remove(document)
        if version:
            self._version = str(version)
            self._backoff.reset()
        return None

    def _put(self, document: JSON) -> bool:
        """Stores an object, unless an answer to a write of ours is newer; whether it was stored."""
        key, entry = _key(document), self._entry(document)
        present = self._store.get(key)
        version = _number(document.get("metadata", {}).get("resourceVersion"))
        if present is not None and present.version > version:
            return False
        self._ahead.pop(key, None)
        self._set(key, entry)
        return True

    def _remove(self, document: JSON) -> None:
        key = _key(document)
        present = self._store.get(key)
        if present is not None and present.version <= _number(document["metadata"].get("resourceVersion")):
            self._ahead.pop(key, None)
            self._set(key, None)

    def _entry(self, document: JSON) -> _Entry[T] | None:
        try:
            value = self._project(document)
        except Exception:  # noqa: BLE001
            # Anybody may write objects: one that cannot be read must not hide all others.
            _log.exception("object is passed over", kind=self.resource.kind, key=_key(document))
            return None
        if value is None:
            return None
        metadata = document.get("metadata", {})
        return _Entry(_number(metadata.get("resourceVersion")), str(metadata.get("uid") or ""), value)

    def _set(self, key: str, entry: _Entry[T] | None) -> None:
        present = self._store.get(key)
        if entry is None:
            if present is not None:
                del self._store[key]
                self._emit(key, present.value, None)
            return
        self._store[key] = entry
        if present is None:
            self._emit(key, None, entry.value)
        elif present.uid != entry.uid:
            # Deleted and made again under its name while nobody watched.
            self._emit(key, present.value, None)
            self._emit(key, None, entry.value)
        elif (present.version, present.value) != (entry.version, entry.value):
            # In another history of the cluster, one version may stand for two states.
            self._emit(key, present.value, entry.value)

    def _emit(self, key: str, before: T | None, after: T | None) -> None:
        for handler in self._handlers:
            try:
                handler(key, before, after)
            except Exception:  # noqa: BLE001
                # One reader's fault must not make the store of all others stale.
                _log.exception("handler failed", kind=self.resource.kind, key=key)

    def _touch(self) -> None:
        self._last_contact = asyncio.get_running_loop().time()


@asynccontextmanager
async def _closing(events: AsyncIterator[JSON]) -> AsyncIterator[None]:
    """Ends a watch that is left early at once, not when the garbage collector comes by."""
    try:
        yield
    finally:
        close: Any = getattr(events, "aclose", None)
        if close is not None:
            await close()


def _key(document: JSON) -> str:
    metadata = document.get("metadata", {})
    name, namespace = str(metadata.get("name") or ""), metadata.get("namespace")
    return f"{namespace}/{name}" if namespace else name


def _number(version: Any) -> int:
    """A resourceVersion as a number: Kubernetes promises that they can be compared (KEP-5504)."""
    text = str(version or "0")
    return int(text) if text.isdigit() else 0
