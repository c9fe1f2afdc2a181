"""Quotas, wired: what the controller starts for them.

Flow: informers of quotas and ResourceQuotas, and the caller's of claims and DeviceClasses, run in every
replica, and with them the webhook reserves. The leader works on the queue: `settle` counts the claims of a
quota, and makes AcceleratorQuotas of ResourceQuotas.

What a leader that was stopped (SIGSTOP) can do when it goes on after it lost the Lease: counting and
reserving are done by all replicas side by side anyhow, each by comparing versions, so a late count is a
conflict or still true. What is made or changed of a ResourceQuota is owned by that one (by UID): a late one
of which the ResourceQuota is gone is collected by Kubernetes, and the leader sees it and makes it right.
Deleting names UID and version, since what is deleted takes its reservations along.

Limits: which cards there are is up to whoever fills the stock.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import structlog
from prometheus_client import CollectorRegistry

from controller.by_turns import AtOnce, Beside
from controller.queue import WorkQueue
from controller.quota.books import Books, ClaimView
from controller.quota.charges import Charges
from controller.quota.figures import Figures
from controller.quota.quotas import Quotas
from controller.quota.store import ApiStore
from controller.quota.translating import FROM, IGNORE, Group, LegacyQuota, Translation, is_as_wanted
from driver.kube.client import JSON, ApiError, ConflictError, KubeClient, NotFoundError
from driver.kube.informer import Informer
from driver.kube.resources import (
    ACCELERATOR_QUOTAS,
    RESOURCE_CLAIMS,
    RESOURCE_QUOTAS,
)
from driver.kube.store import Watched
from driver.quota.errors import QuotaUnavailableError
from driver.quota.ledger import Reservation
from driver.quota.stock import Stock

TRANSLATE = "translate:"
_SETTLE_S = 0.5
_STUCK_S = 30.0
_LOOKED_UP = 64
_TRANSLATED_S = 2.0
_STALE_S = 150.0
"""More than a watch is silent where nothing changes: its connection has died."""
_LOOK_S = 1.0
_LOOK_AGAIN_S = 0.1

_log = structlog.get_logger("quota")


@dataclass(frozen=True)
class _Untranslated:
    quota: str
    name: str
    lasting: bool

    @property
    def error(self) -> QuotaUnavailableError:
        if self.lasting:
            return QuotaUnavailableError(
                f"ResourceQuota {self.quota} limits accelerators, and an AcceleratorQuota {self.name} is "
                "there that was not made of it.",
                remedy="An administrator has to delete or rename that one, or to annotate the ResourceQuota "
                f"with {IGNORE}: ignored.",
            )
        return QuotaUnavailableError(
            f"ResourceQuota {self.quota} limits accelerators, and there is no AcceleratorQuota for it yet.",
            remedy="Try again in a moment; the controller that leads makes it.",
        )


class Quoting:
    """Quotas of one replica.

    Attributes:
        informers: To be run in every replica, and synced before admission answers.
        quotas: What the webhook asks.
        queue: What the leader looks at; its workers call `settle`.
    """

    def __init__(
        self,
        client: KubeClient,
        *,
        claims: Watched[ClaimView],
        claims_version: Callable[[], int],
        classes: Watched[JSON],
        stock: Stock,
        groups: Iterable[Group],
        carried: bool,
        registry: CollectorRegistry,
        beside: Beside | None = None,
        in_use: Callable[[str], bool] = lambda _uid: False,
        budget_s: float = 6.0,
    ) -> None:
        """Makes all parts; starts nothing.

        Args:
            client: The API server.
            claims: The claims, as `claim_view` keeps them.
            claims_version: Resource version up to which they are known; 0 before that is all of them.
            classes: The DeviceClasses.
            stock: The cluster's cards; classes are put here.
            groups: Names of extended resources that ResourceQuotas may limit.
            carried: Whether amounts that stand in a ShareConfig count (mode controller).
            registry: Where the metrics go.
            beside: Where charges are worked out; changes of the stock go through it.
            in_use: Whether pods use the cards of a claim (a UID) that is gone; `ended` is told when not.
            budget_s: Time that a reservation may take; less than the webhook's timeout.
        """
        self._client = client
        self._translation = Translation(groups)
        self._quotas = Informer(client, ACCELERATOR_QUOTAS, _whole, name="quotas", page_size=20)
        self._claims_version = claims_version
        self._resource_quotas = Informer(
            client, RESOURCE_QUOTAS, self._translation.hard_of, name="resource quotas", page_size=100
        )
        self.informers: tuple[Informer[Any], ...] = (
            self._quotas,
            self._resource_quotas,
        )
        self.queue = WorkQueue(name="quotas", base_s=0.2, cap_s=30.0)
        self._stock = stock
        self._beside = beside or AtOnce()
        charges = Charges(stock, beside=self._beside)
        self._store = ApiStore(client, self._quotas)
        books = Books(charges, version=claims_version, clock=_loop_time, in_use=in_use)
        self._books = books
        self.quotas = Quotas(
            self._store,
            charges=charges,
            carried=carried,
            books=books,
            ready=self._ready,
            budget_s=budget_s,
        )
        self._figures = Figures(registry)
        self._legacy: dict[str, dict[str, LegacyQuota]] = {}
        self._behind_since: dict[str, float] = {}
        claims.subscribe(books.note)
        claims.subscribe(self._claim_changed)
        self._quotas.subscribe(self._store.note)
        self._quotas.subscribe(self._quota_changed)
        classes.subscribe(self._class_changed)
        self._resource_quotas.subscribe(self._resource_quota_changed)

    def begin(self) -> list[str]:
        """All that there is to look at, for whoever begins to lead."""
        quotas, resource_quotas = self._quotas.keys(), self._resource_quotas.keys()
        translated = {
            f"{TRANSLATE}{one.partition('/')[0]}/{origin}"
            for one in quotas
            if (origin := _origin(self._quotas.get(one)))
        }
        legacy = {f"{TRANSLATE}{one}" for one in resource_quotas}
        return [*sorted(translated | legacy), *quotas]

    def ended(self, uid: str) -> None:
        """The cards of a claim that is gone (a UID) are not used any more."""
        namespace = self._books.ended(uid)
        for one in self._store.known(namespace):
            self.queue.add(f"{namespace}/{one['metadata']['name']}", after_s=_SETTLE_S)

    async def settle(self, key: str) -> float | None:
        """Counts the claims of a quota, or makes quotas of a ResourceQuota; gives when to look again."""
        if key.startswith(TRANSLATE):
            await self._translate(key.removeprefix(TRANSLATE))
            return None
        namespace, _, name = key.partition("/")
        stored = self._quotas.get(key)
        if stored is not None:
            await self._look_up(namespace, self.quotas.overdue.due(stored))
        document = await self.quotas.count(namespace=namespace, name=name, anew=await self._foreign(key))
        if document is None:
            return None
        self._note_behind(key, document)
        return self.quotas.next_look_s(document)

    async def _look_up(self, namespace: str, due: Sequence[Reservation]) -> None:
        """Asks the API server for claims that can never be stored any more, if they are not yet."""
        for one in due[:_LOOKED_UP]:
            try:
                found = await self._client.get(RESOURCE_CLAIMS, one.name, namespace=namespace)
            except NotFoundError:
                self.quotas.overdue.confirm(one.uid)
                continue
            if (found.get("metadata") or {}).get("uid") != one.uid:
                self.quotas.overdue.confirm(one.uid)

    async def _ready(self, namespace: str, is_ours: Callable[[], Awaitable[bool]]) -> None:
        """Makes sure that the quotas of a namespace are known as they are, where the claim is ours.

        Raises:
            QuotaUnavailableError: A ResourceQuota was not translated yet.
        """
        waited = 0.0
        while (untranslated := self._untranslated(namespace)) is not None:
            # Others' claims are no business of ours, least of all while we do not know what to say.
            if not waited and not await is_ours():
                return
            if untranslated.lasting or waited >= _TRANSLATED_S:
                raise untranslated.error
            # The leader does it within milliseconds.
            await asyncio.sleep(_LOOK_AGAIN_S)
            waited += _LOOK_AGAIN_S
        if not self._store.known(namespace) and self._quotas.age_s > _STALE_S:
            await self._look_for_quotas(namespace, is_ours)

    async def _look_for_quotas(self, namespace: str, is_ours: Callable[[], Awaitable[bool]]) -> None:
        """Asks whether there are quotas that a watch which has died has not told of.

        Raises:
            QuotaUnavailableError: There are some.
        """
        try:
            async with asyncio.timeout(_LOOK_S):
                found = await self._client.list_page(ACCELERATOR_QUOTAS, namespace=namespace, limit=1)
        except (ApiError, TimeoutError):
            # As far as anybody here knows, the namespace has none, and others must not suffer.
            return
        if found.get("items") and await is_ours():
            raise QuotaUnavailableError(
                f"The quotas of {namespace} are not known here yet.", remedy="Try again in a moment."
            )

    def _untranslated(self, namespace: str) -> _Untranslated | None:
        """The first ResourceQuota of a namespace that is not translated as it is now."""
        for quota in self._legacy.get(namespace, {}).values():
            for wanted in self._translation.wanted(quota):
                name = wanted["metadata"]["name"]
                stored = self._quotas.get(f"{namespace}/{name}")
                if stored is not None and is_as_wanted(stored, wanted):
                    continue
                return _Untranslated(quota.name, name, lasting=stored is not None and not _origin(stored))
        return None

    async def _translate(self, key: str) -> None:
        namespace, _, name = key.partition("/")
        legacy = self._resource_quotas.get(key)
        wanted = {
            str(one["metadata"]["name"]): one
            for one in (self._translation.wanted(legacy) if legacy is not None else [])
        }
        for one, document in wanted.items():
            await self._put(namespace, one, document)
        for stored in self._store.known(namespace):
            metadata = stored["metadata"]
            if _origin(stored) == name and metadata["name"] not in wanted:
                try:
                    await self._client.delete(
                        ACCELERATOR_QUOTAS,
                        metadata["name"],
                        namespace=namespace,
                        uid=metadata["uid"],
                        resource_version=metadata["resourceVersion"],
                    )
                except NotFoundError:
                    continue
                except ConflictError:
                    # It may be wanted again by now; and each reservation is a change.
                    self.queue.add(f"{TRANSLATE}{key}", after_s=_SETTLE_S)

    async def _put(self, namespace: str, name: str, wanted: JSON) -> None:
        stored = self._quotas.get(f"{namespace}/{name}")
        if stored is None:
            self._quotas.observe(await self._client.create(ACCELERATOR_QUOTAS, wanted, namespace=namespace))
            _log.info("a ResourceQuota is translated", namespace=namespace, quota=name)
        elif not is_as_wanted(stored, wanted) and _origin(stored):
            metadata = {**stored["metadata"], "ownerReferences": wanted["metadata"]["ownerReferences"]}
            made = {**stored, "metadata": metadata, "spec": wanted["spec"]}
            self._quotas.observe(
                await self._client.replace(ACCELERATOR_QUOTAS, made, name=name, namespace=namespace)
            )

    async def _foreign(self, key: str) -> bool:
        """Whether a quota was counted up to a version that the API server has not reached.

        After a restore of etcd, or where somebody wrote into the status, nobody could ever count again.
        """
        since = self._behind_since.get(key)
        if since is None or _loop_time() - since < _STUCK_S:
            return False
        page = await self._client.list_page(RESOURCE_CLAIMS, limit=1)
        newest = str((page.get("metadata") or {}).get("resourceVersion") or "0")
        stored = self._quotas.get(key)
        found = stored is not None and newest.isdigit() and int(newest) < _counted_version(stored)
        if found:
            _log.warning("a quota was counted in another history of the cluster", quota=key)
        return found

    def _note_behind(self, key: str, document: JSON) -> None:
        if _counted_version(document) > self._claims_version():
            self._behind_since.setdefault(key, _loop_time())
            self.queue.add(key, after_s=_STUCK_S / 10)
        else:
            self._behind_since.pop(key, None)

    # Handlers of informers: they take notes.

    def _class_changed(self, key: str, _before: JSON | None, after: JSON | None) -> None:
        if after is None:
            self._beside.change(lambda: self._stock.remove_class(key))
        else:
            self._beside.change(lambda: self._stock.put_class(after))

    def _claim_changed(self, _key: str, before: ClaimView | None, after: ClaimView | None) -> None:
        claim = after or before
        if claim is None or before == after:
            return
        for one in self._store.known(claim.namespace):
            self.queue.add(f"{claim.namespace}/{one['metadata']['name']}", after_s=_SETTLE_S)

    def _quota_changed(self, key: str, before: JSON | None, after: JSON | None) -> None:
        self._figures.note(key, after)
        if after is None:
            self._behind_since.pop(key, None)
            origin = _origin(before)
            if origin:
                self.queue.add(f"{TRANSLATE}{key.partition('/')[0]}/{origin}")
            return
        self.quotas.overdue.note(after)
        changed = before is None or before.get("spec") != after.get("spec")
        self.queue.add(key, after_s=0.0 if changed else _SETTLE_S)
        if changed and _origin(after):
            self.queue.add(f"{TRANSLATE}{key.partition('/')[0]}/{_origin(after)}")

    def _resource_quota_changed(
        self, key: str, _before: LegacyQuota | None, after: LegacyQuota | None
    ) -> None:
        namespace, _, name = key.partition("/")
        known = self._legacy.setdefault(namespace, {})
        if after is None:
            known.pop(name, None)
            if not known:
                del self._legacy[namespace]
        else:
            known[name] = after
        self.queue.add(f"{TRANSLATE}{key}")


def _whole(document: JSON) -> JSON:
    return document


def _origin(document: JSON | None) -> str:
    metadata = (document or {}).get("metadata") or {}
    return str((metadata.get("annotations") or {}).get(FROM) or "")


def _counted_version(document: JSON) -> int:
    text = str((document.get("status") or {}).get("countedVersion") or "0")
    return int(text) if text.isdigit() else 0


def _loop_time() -> float:
    return asyncio.get_running_loop().time()
